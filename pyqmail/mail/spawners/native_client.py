"""Spawners that speak the native dialect, seen from the queue manager: the local one, and the session processes."""

import errno

from pyqmail.mail.destinations.orders import Limits
from pyqmail.mail.destinations.outcome import (
    CONNECT,
    DATA,
    DIALOGUE,
    GREETING,
    HERE,
    LOCAL,
    MAILDIR,
    MESSAGE,
    NAME,
    RECIPIENTS,
    SENDER,
    UNKNOWN,
    Outcome,
)
from pyqmail.mail.destinations.scheduling.local_channel import MAX_TOGETHER
from pyqmail.mail.spawners.native_process import NativeProcess
from pyqmail.protocol.wires import native_dialect
from pyqmail.protocol.wires.frames import MalformedFrame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqmail.mail.destinations.orders import Opening
    from pyqmail.mail.spawners.faces import DeliveryReports, SessionReports
    from pyqmail.system.loop import Loop

# of REFUSED and FAILED, and of CLOSED
_STAGES = {stage.encode(): stage for stage in (GREETING, NAME, CONNECT, DIALOGUE, HERE)}
_ENDINGS = {stage.encode(): stage for stage in (SENDER, RECIPIENTS, DATA, MESSAGE, DIALOGUE)}
LOST_SPAWNER = b"Zqmail-lspawn was lost; this may have been delivered. (#4.3.0)\n"
# EADDRINUSE: no port is left to connect from
_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRINUSE)


class NativeLocal:
    """The local spawner.  A delivery's number on the wire is its slot, a batch's what the engine has as its session.

    What it had under way when it was lost is deferred: it may have been delivered.  Orders that come before the next
    one is there wait for it.
    """

    max_together = MAX_TOGETHER

    def __init__(
        self, loop: "Loop", write_fd: int, read_fd: int, before_write: "Callable[[], None] | None" = None
    ) -> None:
        self._process = NativeProcess(loop, write_fd, read_fd, before_write)
        self._slots: dict[int, None] = {}  # of what is under way
        self._held: list[tuple[int, bytes]] = []  # (slot, order) for the next one
        self._reports: DeliveryReports | None = None

    @property
    def limit(self) -> int:
        return self._process.limit

    @property
    def parts(self) -> "list[NativeProcess]":
        """The processes behind it, each of which may be lost and come back."""
        return [self._process]

    def greet(self) -> bool:
        return self._process.greet()

    def listen(self, reports: "DeliveryReports", lost: "Callable[[], None]") -> None:
        """Give what comes back to reports; lost() is called once the spawner has gone, and none will come after it."""
        self._reports = reports

        def handle(kind: int, number: int, body: bytes) -> None:
            if kind != native_dialect.RESULT:
                raise MalformedFrame("not from a local spawner")
            slot, report, together, _ = native_dialect.split_result(body)
            self._slots.pop(slot, None)
            reports.reported(slot, Outcome(report, MAILDIR if together and number & native_dialect.BATCH else LOCAL))

        self._process.listen(handle, self._send_held, self._defer_lost, lost)

    def deliver(self, batch: int | None, path: bytes, sender: bytes, pairs: "list[tuple[int, bytes]]") -> None:
        for slot, recipient in pairs:
            number = slot if batch is None else native_dialect.BATCH | batch
            frame = native_dialect.deliver(number, path, sender, [(slot, recipient)])
            if self._process.is_up:
                self._slots[slot] = None
                self._process.send_frame(frame)
            else:
                self._held.append((slot, frame))

    def _send_held(self):
        held, self._held = self._held, []
        for slot, frame in held:
            self._slots[slot] = None
            self._process.send_frame(frame)

    def _defer_lost(self):
        if not self._process.is_coming or self._reports is None:
            return  # all end, and what is under way is made again
        slots, self._slots = self._slots, {}
        for slot in slots:
            self._reports.reported(slot, Outcome(LOST_SPAWNER, LOCAL))

    def close(self) -> None:
        self._process.close()


class NativeRemote:
    """All session processes.  A session goes to the process that has the fewest.

    descriptors are a pair for each: to write orders to, to read reports from.

    A process that dies, or says what means nothing, takes its own sessions along, and no others: they go on.  Until
    there is another in its place, a session that no process has room for waits, and nobody is told that it does.  If
    none will come, its share of the limit is gone.  What a session has neither reported nor returned when it is CLOSED
    has crossed that, and is told of as unsent().
    """

    max_together = 1

    def __init__(
        self,
        loop: "Loop",
        descriptors: "Sequence[tuple[int, int]]",
        before_write: "Callable[[], None] | None" = None,
    ) -> None:
        self._loop = loop
        self._processes = [NativeProcess(loop, write_fd, read_fd, before_write) for write_fd, read_fd in descriptors]
        self._homes: dict[int, _OpenSession] = {}
        self._held: dict[int, Opening] = {}  # sessions that wait for a process
        self._reports: SessionReports | None = None

    @property
    def limit(self) -> int:
        """How many sessions the processes that live take together."""
        return sum(process.limit for process in self._processes)

    @property
    def parts(self) -> "list[NativeProcess]":
        """The processes, each of which may be lost and come back."""
        return list(self._processes)

    def greet(self) -> bool:
        return all(process.greet() for process in self._processes)

    def listen(self, reports: "SessionReports", lost: "Callable[[], None]") -> None:
        """Give what comes back to reports; lost() is called once the last of the processes has gone for good."""
        self._reports = reports
        for process in list(self._processes):
            self._listen_to(process, reports, lost)

    def open_session(self, session: int, opening: "Opening") -> None:
        """Connect to an address.  If no process has room for it, lacking() and closed() come in the next turn."""
        free = [process for process in self._processes if process.is_up and len(process.sessions) < process.limit]
        if not free:
            self._hold(session, opening)
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
        if self._held.pop(session, None) is not None:
            self._loop.soon(lambda: self._tell_closed(session))
        self._send(session, native_dialect.pack(native_dialect.CLOSE, session))

    def close(self) -> None:
        for process in self._processes:
            process.close()

    def _send(self, session: int, frame: bytes) -> None:
        if session in self._homes:
            self._homes[session].process.send_frame(frame)

    def _hold(self, session, opening):
        """Keep a session for the process that comes; without one, something is lacking for it."""
        if any(process.is_coming for process in self._processes):
            self._held[session] = opening
        else:
            self._loop.soon(lambda: self._tell_lack(session))

    def _open_held(self):
        held, self._held = self._held, {}
        for session, opening in held.items():
            self.open_session(session, opening)

    def _tell_lack(self, session: int) -> None:
        if self._reports is not None:
            self._reports.lacking()
            self._reports.closed(session, None)

    def _tell_closed(self, session: int) -> None:
        if self._reports is not None:
            self._reports.closed(session, None)

    def _listen_to(self, process: NativeProcess, reports: "SessionReports", lost: "Callable[[], None]") -> None:
        process.listen(
            lambda *frame: self._handle(reports, process, *frame),
            self._open_held,
            lambda: self._lose(reports, process),
            lambda: self._remove(process, lost),
        )

    def _lose(self, reports: "SessionReports", process: NativeProcess) -> None:
        sessions, process.sessions = process.sessions, {}
        for session in sessions:
            del self._homes[session]
        reports.lost_process(list(sessions), process.is_coming)

    def _remove(self, process: NativeProcess, lost: "Callable[[], None]") -> None:
        """No process comes in place of this one."""
        self._processes.remove(process)
        self._open_held()
        if not self._processes:
            lost()

    def _handle(self, reports: "SessionReports", process: NativeProcess, kind: int, number: int, body: bytes) -> None:
        session = process.sessions.get(number)
        if session is None:
            raise MalformedFrame("about a session that is not there")
        if kind not in _HANDLERS:
            raise MalformedFrame("not from a session process")
        _HANDLERS[kind](reports, session, number, body)
        if kind == native_dialect.CLOSED:
            del self._homes[number], process.sessions[number]
            if self._held:
                first = next(iter(self._held))
                self.open_session(first, self._held.pop(first))


class _OpenSession:
    """A session's process, the host that has greeted in it, and the slots of what it is to deliver."""

    __slots__ = ("process", "host", "address", "slots")

    def __init__(self, process: NativeProcess) -> None:
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
