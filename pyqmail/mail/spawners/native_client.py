"""Spawners that speak the native dialect, seen from the queue manager: the local one, and the session processes."""

import os

from pyqmail.mail.destinations.outcome import CONNECT, DIALOGUE, GREETING, LOCAL, NAME, UNKNOWN, Outcome
from pyqmail.protocol.wires import native_dialect
from pyqmail.system.stream import Pipe

_STAGES = {stage.encode(): stage for stage in (GREETING, NAME, CONNECT, DIALOGUE)}  # of REFUSED and FAILED


class _Process:
    """One process on one pair of pipes: its HELLO, then frames for handle(kind, number, body)."""

    def __init__(self, loop, write_fd, read_fd, before_write):
        self._fds, self._before = (loop, write_fd, read_fd), before_write
        self._unpacker, self._pipe, self.limit = native_dialect.Unpacker(), None, None
        self.sessions = 0

    def greet(self) -> bool:
        frames = []
        try:
            while not frames:
                data = os.read(self._fds[2], 10)  # HELLO has no body: nothing of what follows it is taken
                if not data:
                    return False
                frames = self._unpacker.receive(data)
        except (OSError, native_dialect.MalformedFrame):
            return False
        kind, self.limit, _ = frames[0]
        return kind == native_dialect.HELLO

    def start(self, handle, lost):
        def received(data):
            try:
                for frame in self._unpacker.receive(data):
                    handle(*frame)
            except native_dialect.MalformedFrame:
                self._pipe.close()
                lost()

        loop, write_fd, read_fd = self._fds
        self._pipe = Pipe(loop, write_fd, read_fd, received, lost, self._before)
        self._pipe.listen()

    def put(self, frame):
        self._pipe.put(frame)

    def close(self):
        self._pipe.close()


class NativeLocal:
    """The local spawner.  A delivery's number on the wire is its slot."""

    def __init__(self, loop, write_fd: int, read_fd: int, before_write=None) -> None:
        self._process = _Process(loop, write_fd, read_fd, before_write)

    @property
    def limit(self) -> int:
        return self._process.limit

    def greet(self) -> bool:
        return self._process.greet()

    def start(self, channel, lost) -> None:
        def handle(kind, number, body):
            if kind != native_dialect.RESULT:
                raise native_dialect.MalformedFrame("not from a local spawner")
            slot, report = native_dialect.split_result(body)
            channel.reported(slot, Outcome(report, LOCAL))

        self._process.start(handle, lost)

    def deliver(self, session, path: bytes, sender: bytes, pairs) -> None:
        for slot, recipient in pairs:
            self._process.put(native_dialect.deliver(slot, path, sender, [(slot, recipient)]))

    def close(self) -> None:
        self._process.close()


class NativeRemote:
    """All session processes.  A session goes to the process that has the fewest.

    What comes back is given to the channel: ready(session, address), failed(session, outcome), closed(session),
    reported(slot, outcome), unsent(slot).
    """

    def __init__(self, loop, descriptors, before_write=None) -> None:
        self._processes = [_Process(loop, *pair, before_write) for pair in descriptors]
        self._homes = {}  # session -> _OpenSession

    @property
    def limit(self) -> int:
        return sum(process.limit for process in self._processes)

    def greet(self) -> bool:
        return all(process.greet() for process in self._processes)

    def start(self, channel, lost) -> None:
        for process in self._processes:
            process.start(lambda *frame: self._handle(channel, *frame), lost)

    def open(self, session: int, destination: bytes, candidates) -> None:
        process = min((p for p in self._processes if p.sessions < p.limit), key=lambda p: p.sessions)
        process.sessions += 1
        self._homes[session] = _OpenSession(process)
        process.put(native_dialect.open_session(session, destination, b"", candidates))

    def deliver(self, session: int, path: bytes, sender: bytes, pairs) -> None:
        self._homes[session].process.put(native_dialect.deliver(session, path, sender, pairs))

    def end(self, session: int) -> None:
        if session in self._homes:  # it may have ended in the turn that decided this
            self._homes[session].process.put(native_dialect.pack(native_dialect.CLOSE, session))

    def close(self) -> None:
        for process in self._processes:
            process.close()

    def _handle(self, channel, kind, number, body):
        session = self._homes.get(number)
        if session is None:
            raise native_dialect.MalformedFrame("about a session that is not there")
        if kind == native_dialect.RESULT:
            slot, report = native_dialect.split_result(body)
            channel.reported(slot, Outcome(report, host=session.host, address=session.address))
        elif kind == native_dialect.TRYING:
            channel.trying(number, _texts(body, 2)[0])
        elif kind == native_dialect.READY:
            session.host, session.address = _texts(body, 2)
            channel.ready(number, session.address)
        elif kind in (native_dialect.REFUSED, native_dialect.FAILED):
            channel.failed(number, _failure(*_texts(body, 5)))
        elif kind == native_dialect.UNSENT:
            channel.unsent(native_dialect.number_in(_texts(body, 1)[0]))
        elif kind == native_dialect.CLOSED:
            session.process.sessions -= 1
            del self._homes[number]
            channel.closed(number)
        else:
            raise native_dialect.MalformedFrame("not from a session process")


class _OpenSession:
    """A session's process, and the host that has greeted in it."""

    __slots__ = ("process", "host", "address")

    def __init__(self, process) -> None:
        self.process, self.host, self.address = process, b"", b""


def _failure(stage, code, host, address, report):
    """Return the outcome of a session that was not opened, from the texts of REFUSED or FAILED."""
    number = int(code) if code.isdigit() and len(code) < 10 else 0
    return Outcome(report, _STAGES.get(stage, UNKNOWN), number, host, address)


def _texts(body, count):
    texts = native_dialect.split_strings(body)
    if len(texts) != count:
        raise native_dialect.MalformedFrame("not the texts of this frame")
    return texts
