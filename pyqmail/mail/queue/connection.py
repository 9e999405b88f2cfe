"""A client's connection to pyqueued: frames and descriptors in, answers out."""

import collections
import os

from pyqmail.protocol import queue_wire
from pyqmail.protocol.queue_wire import DESCRIPTORS, INLINE, INLINE_LIMIT, Malformed
from pyqmail.system.channel import receive_with
from pyqmail.system.descriptors import log
from pyqmail.system.loop import READ, WRITE

_PIECE = 262144
_FRAME_LIMIT = INLINE_LIMIT + 64
_MOST_DESCRIPTORS = 64  # that came and that no request has claimed yet
_MOST_UNSENT = 1 << 20  # bytes of answers that a client does not fetch


class Connection:
    """Requests come in, answers go out when they are known.

    server has take_inline(connection, number, body), which may raise Malformed, take_descriptors(connection,
    number, message_fd, envelope_fd) and lost(connection).  uid is the client's.
    """

    _SLOTS = "_server _loop _sock uid _unpacker _descriptors _unsent _flushing _watched _listening"
    __slots__ = tuple(_SLOTS.split())

    def __init__(self, server, loop, sock, uid):
        sock.setblocking(False)
        self._server, self._loop, self._sock, self.uid = server, loop, sock, uid
        self._unpacker, self._descriptors = queue_wire.Unpacker(_FRAME_LIMIT), collections.deque()
        self._unsent, self._flushing = b"", False
        self._watched, self._listening = 0, True
        self._watch()

    def listen(self, wanted):
        self._listening = wanted
        self._watch()

    def send(self, data):
        """Send data together with whatever else is answered in this turn."""
        self._unsent += data
        if not self._flushing:
            self._flushing = True
            self._loop.soon(self.flush)

    def close(self):
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._loop.forget(sock.fileno())
        sock.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._server.lost(self)

    def _ready(self, events):
        if events & WRITE:
            self.flush()
        if events & READ and self._sock is not None and self._listening:
            self._receive()

    def _receive(self):
        try:
            data, descriptors = receive_with(self._sock, _PIECE, 8)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._descriptors += descriptors
        if not data or len(self._descriptors) > _MOST_DESCRIPTORS:
            self.close()
            return
        try:
            for kind, number, body in self._unpacker.receive(data):
                self._take(kind, number, body)
        except Malformed as wrong:
            log(f"pyqueued: warning: connection of uid {self.uid} dropped: {wrong}")
            self.close()

    def _take(self, kind, number, body):
        if kind == INLINE:
            self._server.take_inline(self, number, body)
        elif kind == DESCRIPTORS and not body and len(self._descriptors) >= 2:
            self._server.take_descriptors(self, number, self._descriptors.popleft(), self._descriptors.popleft())
        else:
            raise Malformed("not a request")

    def flush(self):
        self._flushing = False
        if self._sock is None:
            return
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._unsent) > _MOST_UNSENT:
            self.close()
        else:
            self._watch()

    def _watch(self):
        events = (READ if self._listening else 0) | (WRITE if self._unsent else 0)
        if self._sock is None or events == self._watched:
            return
        self._watched = events
        if events:
            self._loop.watch(self._sock.fileno(), events, self._ready)
        else:
            self._loop.forget(self._sock.fileno())
