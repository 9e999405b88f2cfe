"""Spawners that speak the native dialect, seen from the queue manager: the local one, and the session processes."""

import errno
import os

from pyqmail.mail.destinations.orders import Limits
from pyqmail.mail.destinations.outcome import (
    CONNECT,
    DATA,
    DIALOGUE,
    GREETING,
    HERE,
    LOCAL,
    MESSAGE,
    NAME,
    RECIPIENTS,
    SENDER,
    UNKNOWN,
    Outcome,
)
from pyqmail.protocol.wires import native_dialect
from pyqmail.protocol.wires.frames import MalformedFrame
from pyqmail.system.stream import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqmail.mail.destinations.orders import Opening
    from pyqmail.mail.spawners.faces import DeliveryReports, SessionReports
    from pyqmail.system.loop import Loop

    Handler = Callable[[int, int, bytes], None]

# of REFUSED and FAILED, and of CLOSED
_STAGES = {stage.encode(): stage for stage in (GREETING, NAME, CONNECT, DIALOGUE, HERE)}
_ENDINGS = {stage.encode(): stage for stage in (SENDER, RECIPIENTS, DATA, MESSAGE, DIALOGUE)}
# EADDRINUSE: no port is left to connect from
_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRINUSE)


class _Process:
    """One process on one pair of pipes: its HELLO, then frames for handle(kind, number, body)."""

    def __init__(self, loop: "Loop", write_fd: int, read_fd: int, before_write: "Callable[[], None] | None") -> None:
        self._loop, self._fds, self._before = loop, (write_fd, read_fd), before_write
        self._unpacker, self.limit = native_dialect.Unpacker(), 0
        self._pipe: Pipe | None = None
        self.sessions: dict[int, _OpenSession] = {}

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
            slot, report, _, _ = native_dialect.split_result(body)
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

    A process that dies, or says what means nothing, takes its own sessions along, and no others: they go on, with its
    share of the limit gone.  What a session has neither reported nor returned when it is CLOSED has crossed that, and
    is told of as unsent().
    """

    def __init__(
        self,
        loop: "Loop",
        descriptors: "Sequence[tuple[int, int]]",
        before_write: "Callable[[], None] | None" = None,
    ) -> None:
        self._loop = loop
        self._processes = [_Process(loop, write_fd, read_fd, before_write) for write_fd, read_fd in descriptors]
        self._homes: dict[int, _OpenSession] = {}
        self._reports: SessionReports | None = None

    @property
    def limit(self) -> int:
        """How many sessions the processes that live take together."""
        return sum(process.limit for process in self._processes)

    def greet(self) -> bool:
        return all(process.greet() for process in self._processes)

    def listen(self, reports: "SessionReports", lost: "Callable[[], None]") -> None:
        """Give what comes back to reports; lost() is called once the last of the processes has gone."""
        self._reports = reports
        for process in list(self._processes):
            self._listen_to(process, reports, lost)

    def open_session(self, session: int, opening: "Opening") -> None:
        """Connect to an address.  If no process has room for it, lacking() and closed() come in the next turn."""
        free = [process for process in self._processes if len(process.sessions) < process.limit]
        if not free:
            self._loop.soon(lambda: self._tell_lack(session))
            return
        process = min(free, key=lambda process: len(process.sessions))
        self._homes[session] = process.sessions[session] = _OpenSession(process)
        process.send_frame(native_dialect.open_session(session, opening))

    def more(self, session: int, opening: "Opening") -> None:
        """Connect to one more address, or to the next."""
        self._send(session, native_dialect.more(session, opening))

    def deliver(self, session: int, path: bytes, sender: bytes, pairs: "list[tuple[int, bytes]]") -> None:
        """Have a message delivered to pairs of (slot, recipient)."""
        if session in self._homes:
            self._homes[session].slots.update((slot, None) for slot, _ in pairs)
            self._send(session, native_dialect.deliver(session, path, sender, pairs))

    def close_session(self, session: int) -> None:
        """End a session after what it has to deliver; nothing happens if it has ended in this turn."""
        self._send(session, native_dialect.pack(native_dialect.CLOSE, session))

    def close(self) -> None:
        for process in self._processes:
            process.close()

    def _send(self, session: int, frame: bytes) -> None:
        if session in self._homes:
            self._homes[session].process.send_frame(frame)

    def _tell_lack(self, session: int) -> None:
        if self._reports is not None:
            self._reports.lacking()
            self._reports.closed(session, None)

    def _listen_to(self, process: _Process, reports: "SessionReports", lost: "Callable[[], None]") -> None:
        process.listen(
            lambda *frame: self._handle(reports, process, *frame), lambda: self._lose(reports, process, lost)
        )

    def _lose(self, reports: "SessionReports", process: _Process, lost: "Callable[[], None]") -> None:
        if process not in self._processes:
            return
        self._processes.remove(process)
        process.close()
        for session in process.sessions:
            del self._homes[session]
        reports.lost_process(list(process.sessions))
        if not self._processes:
            lost()

    def _handle(self, reports: "SessionReports", process: _Process, kind: int, number: int, body: bytes) -> None:
        session = process.sessions.get(number)
        if session is None:
            raise MalformedFrame("about a session that is not there")
        if kind not in _HANDLERS:
            raise MalformedFrame("not from a session process")
        _HANDLERS[kind](reports, session, number, body)
        if kind == native_dialect.CLOSED:
            del self._homes[number], process.sessions[number]


class _OpenSession:
    """A session's process, the host that has greeted in it, and the slots of what it is to deliver."""

    __slots__ = ("process", "host", "address", "slots")

    def __init__(self, process: _Process) -> None:
        self.process, self.host, self.address = process, b"", b""
        self.slots: dict[int, None] = {}


def _on_result(reports: "SessionReports", session: _OpenSession, number: int, body: bytes) -> None:
    slot, report, carried, accepted = native_dialect.split_result(body)
    session.slots.pop(slot, None)
    outcome = Outcome(report, host=session.host, address=session.address)
    reports.reported(slot, outcome, carried, accepted)


def _on_unsent(reports: "SessionReports", session: _OpenSession, number: int, body: bytes) -> None:
    slot = native_dialect.split_unsent(body)
    session.slots.pop(slot, None)
    reports.unsent(slot)


def _on_waiting(reports: "SessionReports", session: _OpenSession, number: int, body: bytes) -> None:
    reports.waiting(number)


def _on_ready(reports: "SessionReports", session: _OpenSession, number: int, body: bytes) -> None:
    session.host, session.address, messages, recipients, *flags = native_dialect.split_ready(body)
    reports.ready(number, session.host, session.address, Limits(messages, recipients, *map(bool, flags)))


def _on_refused(reports: "SessionReports", session: _OpenSession, number: int, body: bytes) -> None:
    reports.refused(number, _failure(body))


def _on_failed(reports: "SessionReports", session: _OpenSession, number: int, body: bytes) -> None:
    outcome = _failure(body)
    if outcome.stage == HERE and outcome.code in _LACKS:
        reports.lacking()
    reports.failed(number, outcome)


def _on_closed(reports: "SessionReports", session: _OpenSession, number: int, body: bytes) -> None:
    stage, code, report, carried = native_dialect.split_closed(body)
    for slot in session.slots:
        reports.unsent(slot)
    outcome = Outcome(report, _ENDINGS.get(stage, UNKNOWN), code, session.host, session.address) if stage else None
    reports.closed(number, outcome, carried)


_HANDLERS = {
    native_dialect.RESULT: _on_result,
    native_dialect.READY: _on_ready,
    native_dialect.REFUSED: _on_refused,
    native_dialect.FAILED: _on_failed,
    native_dialect.CLOSED: _on_closed,
    native_dialect.UNSENT: _on_unsent,
    native_dialect.WAITING: _on_waiting,
}


def _failure(body: bytes) -> Outcome:
    """Return the outcome of an address, from the body of REFUSED or FAILED."""
    stage, code, host, address, report = native_dialect.split_failure(body)
    return Outcome(report, _STAGES.get(stage, UNKNOWN), code, host, address)
