"""A worker's end of the stream to the listener (protocol/wires/handover_wire.py)."""

import array
import os
import socket

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_hang_up
from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.loop import READ, WRITE
from pyqmail.tcp.access.connection import UNIX, Connection
from pyqmail.tcp.access.log_lines import drop_line, say_now

_PIECE = 65536
_MAX_SECONDS = 1.0  # the longest pause after what the kernel lacked for now
_ROOM = socket.CMSG_SPACE(4 * wire.BATCH)


class WorkerStream:
    """Takes what the listener sends and answers its heartbeat; put() sends frames, those of one turn together.

    take(sock, client) is called for each connection, use_resolver(sock) for a resolver,
    over() once no more will come.  limits (tcp/access/limits.py, or None) are changed as the listener says.  Malformed is for
    the loop, that is, for the process, to end with.
    """

    def __init__(self, loop, sock, take, use_resolver, over, limits=None):
        self._loop, self._sock = loop, sock
        self._take, self._use_resolver, self._over, self._limits = take, use_resolver, over, limits
        self._unpacker, self._descriptors = wire.Unpacker(), []
        self._out, self._is_due, self._is_waiting = b"", False, False
        self._passing = Backoff(max_seconds=_MAX_SECONDS)
        sock.setblocking(False)
        self._watch(READ)

    def put(self, frame: bytes) -> None:
        self._out += frame
        if not self._is_due:
            self._is_due = True
            self._loop.soon(self._flush)

    def _ready(self, events):
        if events & WRITE:
            self._flush()
        if events & READ and self._sock is not None:
            self._receive()

    def _receive(self):
        """Take one message: the kernel ends a read after the descriptors of one."""
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_PIECE, _ROOM, socket.MSG_CMSG_CLOEXEC)
            self._passing.reset()
        except BlockingIOError:
            return
        except OSError as error:
            if not is_hang_up(error):
                self._pause()
                return
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._descriptors += found
        if not data:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None
            self._over()
            return
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

    def _flush(self):
        self._is_due = False
        if self._sock is None:
            self._out = b""
            return
        was_waiting, self._is_waiting = self._is_waiting, False
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
                self._passing.reset()
        except BlockingIOError:
            self._is_due = self._is_waiting = True
            self._watch(READ | WRITE)
            return
        except OSError as error:
            if not is_hang_up(error):
                self._is_due = self._is_waiting = True
                self._pause()
                return
            self._out = b""  # the listener has gone; the end of file tells so too
        if was_waiting:
            self._watch(READ)

    def _watch(self, events):
        self._loop.watch_surely(self._sock.fileno(), events, self._ready)

    def _pause(self):
        """Leave the stream alone for a moment."""
        sock = self._sock
        self._loop.forget(sock.fileno())

        def go_on():
            if self._sock is sock:
                self._watch(READ | WRITE if self._out else READ)

        self._loop.after(self._passing.next_seconds(), go_on)


def _connection(fd, protocol):
    # family and type given: nothing to ask the kernel for.  A TCP client's socket may be of either family, or a UNIX
    # one behind a proxy; Python makes as much room for its addresses as the family says
    family = socket.AF_UNIX if protocol == UNIX else socket.AF_INET6
    return socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)
