"""One process of a sink: it accepts connections, and lets an engine answer each.

A session that has gone too long without a byte, or reads nothing, is closed; the others do not notice.  When the kernel
has no descriptor left, accepting pauses for a moment, as it does while there are as many sessions as there may be.
"""

import socket
import time

from pyqmail.base.failure import is_lack
from pyqmail.base.printable import printable
from pyqmail.load_tools.server_models import FOREVER
from pyqmail.system.coroutines import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.load_tools.server_models import Model
    from pyqmail.load_tools.smtp_sink import SinkPlan
    from pyqmail.load_tools.tally import Tally
    from pyqmail.system.loop import Loop

COUNTS = "messages", "recipients", "bytes", "sessions", "sessions_most"
_READ_BYTES = 65536
_MAX_OUT_BYTES = 1 << 20  # of replies to a client that does not read
_AT_ONCE = 64
_PAUSE_SECONDS = 0.1
_SWEEP_SECONDS = 1.0
_CLIENT_ENDED = 0x2000  # EPOLLRDHUP: nothing more comes from it


class SinkServer:
    """What a model and a tally are shared by: all sessions of one sink."""

    def __init__(self, plan: "SinkPlan", model: "Model", tally: "Tally", noted: "Callable[[], None]") -> None:
        self.plan, self.model, self.tally, self._noted = plan, model, tally, noted
        self.now = 0

    def add_session(self) -> None:
        counts = self.tally.counts
        self.now += 1
        counts["sessions"] += 1
        if self.now > counts["sessions_most"]:
            counts["sessions_most"] = self.now

    def end_session(self) -> None:
        self.now -= 1
        self._noted()

    def add_message(self, session: "Any") -> None:
        counts = self.tally.counts
        counts["messages"] += 1
        counts["recipients"] += len(session.recipients)
        self._noted()

    def refuse(self, reply: bytes) -> None:
        self.tally.refuse(f"CONNECT {reply[:3].decode()}")


class Acceptor:
    """engine(server, client, taken) makes a session.  most: sessions at once.  timeout: seconds without a byte."""

    def __init__(
        self,
        loop: "Loop",
        listening: socket.socket,
        server: SinkServer,
        engine: "Callable[..., Any]",
        taken: "Callable[..., None]",
        most: int,
        timeout: float,
    ) -> None:
        self.loop, self.server, self.timeout = loop, server, timeout
        self._listening, self._engine, self._taken, self._most = listening, engine, taken, most
        self._sessions: set[_Connection] = set()
        self._is_paused = self._is_closed = False
        loop.watch(listening.fileno(), READ, self._accept)
        loop.after(_SWEEP_SECONDS, self._sweep)

    @staticmethod
    def now() -> float:
        return time.monotonic()

    def close(self) -> None:
        """Accept nothing any more; what is there is closed."""
        self._is_closed = True
        self.loop.forget(self._listening.fileno())
        self._listening.close()
        for connection in list(self._sessions):
            connection.close()

    def gone(self, connection: "_Connection") -> None:
        self._sessions.discard(connection)
        self.server.end_session()
        if self._is_paused and not self._is_closed:
            self._go_on()

    def _accept(self, _: int) -> None:
        for _ in range(_AT_ONCE):
            if len(self._sessions) >= self._most:
                self._pause()
                return
            try:
                sock, address = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if is_lack(error):
                    self._pause()
                    self.loop.after(_PAUSE_SECONDS, self._go_on)
                    return
                continue
            sock.setblocking(False)
            self._begin(sock, address)
            if self._is_closed:
                return

    def _begin(self, sock: socket.socket, address: "Any") -> None:
        client = address[0] if isinstance(address, tuple) else "unix"
        self.server.add_session()
        connection = _Connection(self, sock)
        self._sessions.add(connection)
        connection.begin(self._engine(self.server, client, self._taken))

    def _pause(self) -> None:
        self._is_paused = True
        self.loop.forget(self._listening.fileno())

    def _go_on(self) -> None:
        if self._is_paused and not self._is_closed:
            self._is_paused = False
            self.loop.watch_surely(self._listening.fileno(), READ, self._accept)

    def _sweep(self) -> None:
        if self._is_closed:
            return
        before = time.monotonic() - self.timeout
        for connection in [one for one in self._sessions if one.is_silent_since(before)]:
            connection.close()
        self.loop.after(_SWEEP_SECONDS, self._sweep)


class _Connection:
    """A socket and its session."""

    __slots__ = ("_acceptor", "_fd", "_has_ended", "_session", "_since", "_sock", "_timer")

    def __init__(self, acceptor: Acceptor, sock: socket.socket) -> None:
        self._acceptor, self._fd = acceptor, sock.fileno()
        self._sock: socket.socket | None = sock
        self._session: Any = None
        self._timer: Any = None
        self._has_ended = False  # the client, with something for us to do yet
        self._since = time.monotonic()

    def begin(self, session: "Any") -> None:
        self._session = session
        try:
            self._acceptor.loop.watch(self._fd, READ, self._ready)
        except OSError:
            self.close()
            return
        session.begin()
        self._settle()

    def is_silent_since(self, when: float) -> bool:
        return self._timer is None and self._since < when

    def close(self) -> None:
        if self._sock is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._acceptor.loop.forget(self._fd)
        self._sock.close()
        self._sock = None
        self._acceptor.gone(self)

    def _ready(self, events: int) -> None:
        session, sock = self._session, self._sock
        self._since = time.monotonic()
        if not events and self._has_left():
            self.close()
            return
        if events & READ:
            try:
                data = sock.recv(_READ_BYTES)  # type: ignore[union-attr]
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                self.close()
                return
            if data:
                self._acceptor.server.tally.counts["bytes"] += len(data)
                self._show(b"< ", data)
                session.feed(data)
        self._settle()

    def _show(self, mark: bytes, data: "bytes | bytearray") -> None:
        show = self._acceptor.server.plan.show
        if show is not None:
            for line in bytes(data).splitlines():
                show(mark + printable(line).encode())

    def _has_left(self) -> bool:
        """The client has ended while it was waiting for us: has it left, or only said all it has to say?"""
        if self._has_ended:
            return True  # for a second time: it is gone altogether
        try:
            if (self._session.late or 0.0) >= FOREVER:  # it will never hear a word
                self._sock.recv(_READ_BYTES)  # type: ignore[union-attr]  # unread bytes would make a reset of its end
                return True
            self._has_ended = self._session.has_more or bool(self._sock.recv(1, socket.MSG_PEEK))  # type: ignore[union-attr]
        except OSError:
            return True
        return not self._has_ended

    def _resume(self) -> None:
        self._timer = None
        self._since = time.monotonic()
        self._session.resume()
        self._settle()

    def _settle(self) -> None:
        """Send what there is to send; then wait for what the session waits for."""
        session, loop = self._session, self._acceptor.loop
        if session.out:
            self._show(b"> ", session.out)
            try:
                count = self._sock.send(session.out)  # type: ignore[union-attr]
                del session.out[:count]
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
        if self._sock is None or len(session.out) > _MAX_OUT_BYTES or (session.is_over and not session.out):
            self.close()
            return
        if session.late is not None and self._timer is None:
            self._timer = loop.after(session.late, self._resume)
        wanted = WRITE if session.out else 0
        if self._timer is not None or session.is_over:
            wanted |= 0 if self._has_ended else _CLIENT_ENDED
        else:
            wanted |= READ
        loop.watch(self._fd, wanted, self._ready)
