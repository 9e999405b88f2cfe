"""Spawners that speak the native dialect, seen from the queue manager: the local one, and the session processes."""

import os

from pyqmail.mail.destinations.outcome import CONNECT, DIALOGUE, GREETING, LOCAL, NAME, UNKNOWN, Outcome
from pyqmail.protocol.wires import native_dialect
from pyqmail.protocol.wires.frames import MalformedFrame, number_in, split_strings
from pyqmail.system.stream import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqmail.mail.destinations.old.lanes import Candidates
    from pyqmail.mail.spawners.faces import DeliveryReports, SessionReports
    from pyqmail.system.loop import Loop

    Handler = Callable[[int, int, bytes], None]

_STAGES = {stage.encode(): stage for stage in (GREETING, NAME, CONNECT, DIALOGUE)}  # of REFUSED and FAILED


class _Process:
    """One process on one pair of pipes: its HELLO, then frames for handle(kind, number, body)."""

    def __init__(self, loop: "Loop", write_fd: int, read_fd: int, before_write: "Callable[[], None] | None") -> None:
        self._loop, self._fds, self._before = loop, (write_fd, read_fd), before_write
        self._unpacker, self.limit = native_dialect.Unpacker(), 0
        self._pipe: Pipe | None = None
        self.sessions = 0

    def greet(self) -> bool:
        """Wait for HELLO; return whether it came."""
        frames: list[tuple[int, int, bytes]] = []
        try:
            while not frames:
                data = os.read(self._fds[1], 10)  # HELLO has no body: nothing of what follows it is taken
                if not data:
                    return False
                frames = self._unpacker.receive(data)
        except (OSError, MalformedFrame):
            return False
        kind, self.limit, _ = frames[0]
        return kind == native_dialect.HELLO

    def listen(self, handle: "Handler", lost: "Callable[[], None]") -> None:
        def received(data: bytes) -> None:
            try:
                for frame in self._unpacker.receive(data):
                    handle(*frame)
            except MalformedFrame:
                pipe.close()
                lost()

        pipe = self._pipe = Pipe(self._loop, *self._fds, received, lost, self._before)
        pipe.listen()

    def send_frame(self, frame: bytes) -> None:
        if self._pipe is not None:
            self._pipe.put(frame)

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()


class NativeLocal:
    """The local spawner.  A delivery's number on the wire is its slot."""

    def __init__(
        self, loop: "Loop", write_fd: int, read_fd: int, before_write: "Callable[[], None] | None" = None
    ) -> None:
        self._process = _Process(loop, write_fd, read_fd, before_write)

    @property
    def limit(self) -> int:
        return self._process.limit

    def greet(self) -> bool:
        return self._process.greet()

    def listen(self, reports: "DeliveryReports", lost: "Callable[[], None]") -> None:
        """Give what comes back to reports; lost() is called once the spawner has gone."""

        def handle(kind: int, number: int, body: bytes) -> None:
            if kind != native_dialect.RESULT:
                raise MalformedFrame("not from a local spawner")
            slot, report = native_dialect.split_result(body)
            reports.reported(slot, Outcome(report, LOCAL))

        self._process.listen(handle, lost)

    def deliver(self, session: None, path: bytes, sender: bytes, pairs: "list[tuple[int, bytes]]") -> None:
        for slot, recipient in pairs:
            self._process.send_frame(native_dialect.deliver(slot, path, sender, [(slot, recipient)]))

    def close(self) -> None:
        self._process.close()


class NativeRemote:
    """All session processes.  A session goes to the process that has the fewest.

    descriptors are a pair for each: to write orders to, to read reports from.
    """

    def __init__(
        self,
        loop: "Loop",
        descriptors: "Sequence[tuple[int, int]]",
        before_write: "Callable[[], None] | None" = None,
    ) -> None:
        self._processes = [_Process(loop, write_fd, read_fd, before_write) for write_fd, read_fd in descriptors]
        self._homes: dict[int, _OpenSession] = {}

    @property
    def limit(self) -> int:
        return sum(process.limit for process in self._processes)

    def greet(self) -> bool:
        return all(process.greet() for process in self._processes)

    def listen(self, reports: "SessionReports", lost: "Callable[[], None]") -> None:
        """Give what comes back to reports; lost() is called once one of the processes has gone."""
        for process in self._processes:
            process.listen(lambda *frame: self._handle(reports, *frame), lost)

    def open_session(self, session: int, destination: bytes, candidates: "Candidates") -> None:
        process = min((p for p in self._processes if p.sessions < p.limit), key=lambda p: p.sessions)
        process.sessions += 1
        self._homes[session] = _OpenSession(process)
        process.send_frame(native_dialect.open_session(session, destination, b"", candidates))

    def deliver(self, session: int, path: bytes, sender: bytes, pairs: "list[tuple[int, bytes]]") -> None:
        self._homes[session].process.send_frame(native_dialect.deliver(session, path, sender, pairs))

    def close_session(self, session: int) -> None:
        if session in self._homes:  # it may have ended in the turn that decided this
            self._homes[session].process.send_frame(native_dialect.pack(native_dialect.CLOSE, session))

    def close(self) -> None:
        for process in self._processes:
            process.close()

    def _handle(self, reports: "SessionReports", kind: int, number: int, body: bytes) -> None:
        session = self._homes.get(number)
        if session is None:
            raise MalformedFrame("about a session that is not there")
        if kind == native_dialect.RESULT:
            slot, report = native_dialect.split_result(body)
            reports.reported(slot, Outcome(report, host=session.host, address=session.address))
        elif kind == native_dialect.TRYING:
            reports.trying(number, _texts(body, 2)[0])
        elif kind == native_dialect.READY:
            session.host, session.address = _texts(body, 2)
            reports.ready(number, session.address)
        elif kind in (native_dialect.REFUSED, native_dialect.FAILED):
            reports.failed(number, _failure(*_texts(body, 5)))
        elif kind == native_dialect.UNSENT:
            reports.unsent(number_in(_texts(body, 1)[0]))
        elif kind == native_dialect.CLOSED:
            session.process.sessions -= 1
            del self._homes[number]
            reports.closed(number)
        else:
            raise MalformedFrame("not from a session process")


class _OpenSession:
    """A session's process, and the host that has greeted in it."""

    __slots__ = ("process", "host", "address")

    def __init__(self, process: _Process) -> None:
        self.process, self.host, self.address = process, b"", b""


def _failure(stage: bytes, code: bytes, host: bytes, address: bytes, report: bytes) -> Outcome:
    """Return the outcome of a session that was not opened, from the texts of REFUSED or FAILED."""
    number = int(code) if code.isdigit() and len(code) < 10 else 0
    return Outcome(report, _STAGES.get(stage, UNKNOWN), number, host, address)


def _texts(body: bytes, count: int) -> list[bytes]:
    texts = split_strings(body)
    if len(texts) != count:
        raise MalformedFrame("not the texts of this frame")
    return texts
