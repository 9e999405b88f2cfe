"""A worker's end of the stream to the listener (protocol/wires/handover_wire.py)."""

import array
import os
import socket

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_hang_up
from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.coroutines import NOTHING, READ, WRITE, Promise
from pyqmail.system.stream import OutgoingBuffer
from pyqmail.tcp.access.connection import UNIX, Connection
from pyqmail.tcp.access.log_lines import drop_line, say_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.system.loop import Loop
    from pyqmail.tcp.access.limits import Limits

_PIECE = 65536
_MAX_SECONDS = 1.0  # the maximum pause before the stream is tried again
_ROOM = socket.CMSG_SPACE(4 * wire.BATCH)


class WorkerStream:
    """Receives what the listener sends, and answers its pings.

    serve(sock, client) is called for each connection, use_resolver(sock) for a resolver, ended() once no more will
    come.  limits (tcp/access/limits.py), or None, are changed when the listener says so.  A MalformedFrame is raised
    into the loop: it ends the process.  A descriptor that arrives is ours until serve() or use_resolver() has it.
    """

    def __init__(
        self,
        loop: "Loop",
        sock: socket.socket,
        serve: "Callable[[socket.socket, Connection], None]",
        use_resolver: "Callable[[socket.socket], None]",
        ended: "Callable[[], None]",
        limits: "Limits | None" = None,
    ) -> None:
        self.loop, self._limits = loop, limits
        self._asked: dict[int, tuple[int, Promise]] = {}  # session: what it waits for
        self._serial = 0
        self._sock: Any = sock  # None once the listener has gone
        self._serve, self._use_resolver, self._ended = serve, use_resolver, ended
        self._unpacker = wire.Unpacker()
        self._descriptors: list[int] = []  # received, and not yet matched with a frame
        # if the listener has gone, the end of file says so, too
        self._out = OutgoingBuffer(loop, sock.send, self._watch, lambda: None, max_seconds=_MAX_SECONDS)
        self._reading, self._is_reading = Backoff(max_seconds=_MAX_SECONDS), True
        sock.setblocking(False)
        self._watch()

    def send_frame(self, frame: bytes) -> None:
        """Send a frame; those of one turn of the loop go out together."""
        self._out.put(frame)

    def ask(self, session: int, name: str, limit: int, period_seconds: int) -> Promise:
        """Ask whether the client of a session may do something once more; the promise is kept with True or False.

        True if the listener has gone.  What the session asked before is not answered any more.
        """
        promise = Promise()
        if self._sock is None:
            promise.keep(True)
            return promise
        self._serial = (self._serial + 1) & 0xFFFFFFFF
        self._asked[session] = self._serial, promise
        self.send_frame(wire.ask(session, self._serial, name, limit, period_seconds))
        return promise

    def forget_session(self, session: int) -> None:
        """A session has ended: it waits for no answer."""
        self._asked.pop(session, None)

    def _ready(self, events):
        if events & WRITE:
            self._out.ready()
        if events & READ and self._sock is not None:
            self._receive()

    def _receive(self):
        """Receive one message: the kernel ends a read after the descriptors of one."""
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_PIECE, _ROOM, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError as error:
            if not is_hang_up(error):
                self._read_later()
                return
            data, ancillary = b"", []
        self._reading.reset()
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._descriptors += found
        if data:
            self._handle(data)
        else:
            self._close()

    def _handle(self, data):
        """Act on the frames that data completes, and confirm the connections among them."""
        taken = 0
        for kind, number, body in self._unpacker.receive(data):
            if kind == wire.CONNECTION:
                taken += 1
                self._take_connection(number, Connection.from_texts(wire.split_connection(body)))
            elif kind == wire.PING:
                self.send_frame(wire.pack(wire.PONG, number))
            elif kind == wire.LIMITS and self._limits is not None:
                self._limits.change(wire.split_limits(body))
            elif kind == wire.ANSWER:
                self._take_answer(number, *wire.split_answer(body))
            elif kind != wire.RESOLVER:
                raise wire.MalformedFrame("not a message of a listener")
            elif self._descriptors:
                self._use_resolver(_socket_of(self._descriptors.pop(0), UNIX))
        if taken:
            self.send_frame(wire.pack(wire.TAKEN, taken))
        if self._unpacker.is_empty:
            self._close_strays()

    def _close(self):
        """The listener has gone: no more will come, and nothing reads what we send."""
        self._out.close()
        self.loop.forget(self._sock.fileno())
        self._sock.close()
        self._sock = None
        asked, self._asked = self._asked, {}
        for _, promise in asked.values():
            promise.keep(True)
        self._ended()

    def _take_answer(self, number, serial, is_admitted):
        """Give a session what it waits for; an answer to what it has stopped to wait for is dropped."""
        expected, promise = self._asked.get(number, (None, None))
        if expected == serial and promise is not None:
            del self._asked[number]
            promise.keep(is_admitted)

    def _take_connection(self, number, client):
        client.number = number
        if self._descriptors:
            self._serve(_socket_of(self._descriptors.pop(0), client.protocol), client)
            return
        say_now(drop_line("no descriptor came with it"))
        self.send_frame(wire.end(number, 111))

    def _close_strays(self):
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()

    def _watch(self, _=None):
        events = (READ if self._is_reading else NOTHING) | (WRITE if self._out.is_waiting else NOTHING)
        if events:
            self.loop.watch_surely(self._sock.fileno(), events, self._ready)
        else:
            self.loop.forget(self._sock.fileno())

    def _read_later(self):
        """Read nothing for a moment: what the kernel lacks is not asked for again and again."""
        self._is_reading = False
        self._watch()
        self.loop.after(self._reading.next_seconds(), self._read_again)

    def _read_again(self):
        if self._sock is not None:
            self._is_reading = True
            self._watch()


def _socket_of(fd, protocol):
    # with family and type there is nothing to ask the kernel for.  A TCP client's socket may be of either family, or a
    # UNIX one behind a proxy; Python makes as much room for its addresses as the family needs
    family = socket.AF_UNIX if protocol == UNIX else socket.AF_INET6
    return socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)
