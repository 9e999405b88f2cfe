"""A worker's end of the stream to the listener (protocol/wires/handover_wire.py)."""

import array
import os
import socket

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_hang_up
from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.loop import NOTHING, READ, WRITE
from pyqmail.system.stream import OutgoingBuffer
from pyqmail.tcp.access.connection import UNIX, Connection
from pyqmail.tcp.access.log_lines import drop_line, say_now

_PIECE = 65536
_MAX_SECONDS = 1.0  # the maximum pause after what the kernel lacked for now
_ROOM = socket.CMSG_SPACE(4 * wire.BATCH)


class WorkerStream:
    """Takes what the listener sends and answers its heartbeat; put() sends frames, those of one turn together.

    take(sock, client) is called for each connection, use_resolver(sock) for a resolver,
    over() once no more will come.  limits (tcp/access/limits.py, or None) are changed as the listener says.  A
    MalformedFrame is for the loop, that is, for the process, to end with.
    """

    def __init__(self, loop, sock, take, use_resolver, over, limits=None):
        self._loop, self._sock = loop, sock
        self._take, self._use_resolver, self._over, self._limits = take, use_resolver, over, limits
        self._unpacker, self._descriptors = wire.Unpacker(), []
        # if the listener has gone, the end of file says so too
        self._out = OutgoingBuffer(loop, sock.send, self._watch, lambda: None, max_seconds=_MAX_SECONDS)
        self._reading, self._is_reading = Backoff(max_seconds=_MAX_SECONDS), True
        sock.setblocking(False)
        self._watch()

    def put(self, frame: bytes) -> None:
        self._out.put(frame)

    def _ready(self, events):
        if events & WRITE:
            self._out.ready()
        if events & READ and self._sock is not None:
            self._receive()

    def _receive(self):
        """Take one message: the kernel ends a read after the descriptors of one."""
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
            self._received(data)
        else:
            self._end()

    def _received(self, data):
        taken = 0
        for kind, number, body in self._unpacker.receive(data):
            if kind == wire.CONNECTION:
                taken += 1
                self._connection(number, Connection.from_texts(wire.split_connection(body)))
            elif kind == wire.PING:
                self.put(wire.pack(wire.PONG, number))
            elif kind == wire.LIMITS and self._limits is not None:
                self._limits.change(wire.split_limits(body))
            elif kind != wire.RESOLVER:
                raise wire.MalformedFrame("not a word of a listener's")
            elif self._descriptors:
                self._use_resolver(_connection(self._descriptors.pop(0), UNIX))
        if taken:
            self.put(wire.pack(wire.TAKEN, taken))
        if self._unpacker.is_empty:
            self._close_strays()

    def _end(self):
        """No more will come, and nobody reads what we say."""
        self._out.close()
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        self._sock = None
        self._over()

    def _connection(self, number, client):
        client.number = number
        if self._descriptors:
            self._take(_connection(self._descriptors.pop(0), client.protocol), client)
            return
        say_now(drop_line("no descriptor came with it"))
        self.put(wire.end(number, 111))

    def _close_strays(self):
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors.clear()

    def _watch(self, _=None):
        events = (READ if self._is_reading else NOTHING) | (WRITE if self._out.is_waiting else NOTHING)
        if events:
            self._loop.watch_surely(self._sock.fileno(), events, self._ready)
        else:
            self._loop.forget(self._sock.fileno())

    def _read_later(self):
        """Read nothing for a moment: what the kernel lacks is not asked for again and again."""
        self._is_reading = False
        self._watch()
        self._loop.after(self._reading.next_seconds(), self._read_again)

    def _read_again(self):
        if self._sock is not None:
            self._is_reading = True
            self._watch()


def _connection(fd, protocol):
    # family and type given: nothing to ask the kernel for.  A TCP client's socket may be of either family, or a UNIX
    # one behind a proxy; Python makes as much room for its addresses as the family says
    family = socket.AF_UNIX if protocol == UNIX else socket.AF_INET6
    return socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)
