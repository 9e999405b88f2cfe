"""A client's connection to pyqueued: frames and descriptors in, answers out."""

import collections
import os

from pyqmail.protocol.wires import queue_wire
from pyqmail.protocol.wires.queue_wire import ANSWER, DESCRIPTORS, INLINE, INLINE_LIMIT, MalformedFrame
from pyqmail.system.channel import receive_with
from pyqmail.system.loop import READ, WRITE
from pyqmail.system.polling import is_readable

FRAME_SECONDS = 30
MAX_UNCLAIMED = 2  # descriptors that came and that no request has claimed yet
_PIECE = 262144
_FRAME_LIMIT = INLINE_LIMIT + 64
_MAX_RECEIVED = 8  # descriptors at once: more than may be, so that too many are noticed
_MAX_UNSENT = 1 << 20  # bytes of answers that a client does not fetch


class Connection:
    """Requests come in, answers go out when they are known.

    server has take_inline(connection, number, body), which may raise MalformedFrame, take_descriptors(connection,
    number, message_fd, envelope_fd), receiving(connection), called when a part of a frame has come, dropped(connection,
    why) and lost(connection).  uid is the client's.

    A frame has to be complete FRAME_SECONDS after its first byte came.  A client that is patient is one of qmail's own:
    for its frames the time counts only while there is nothing to read.
    """

    _SLOTS = "_server _loop _sock uid _unpacker _descriptors _unsent _flushing _watched _listening"
    __slots__ = (*_SLOTS.split(), "_timer", "_is_patient", "_piece_bytes")

    def __init__(self, server, loop, sock, uid, is_patient=True, piece_bytes=_PIECE):
        sock.setblocking(False)
        self._server, self._loop, self._sock, self.uid = server, loop, sock, uid
        self._unpacker, self._descriptors = queue_wire.Unpacker(_FRAME_LIMIT), collections.deque()
        self._unsent, self._flushing = b"", False
        self._watched, self._listening = 0, True
        self._timer, self._is_patient, self._piece_bytes = None, is_patient, piece_bytes
        self._watch()

    @property
    def wanted_bytes(self) -> int:
        """The size of the frame under way, as far as it is known; 0 between frames."""
        return self._unpacker.wanted_bytes

    def listen(self, wanted):
        """Read or do not read; the time of a frame does not run while nothing is read, since that is our affair."""
        self.hold(not wanted)
        self._time_frame(wanted and self.wanted_bytes > 0)

    def hold(self, is_held):
        """Do not read for now, while the time of a frame runs on."""
        self._listening = not is_held
        self._watch()

    def answer(self, number, exit_code, qp):
        """Tell what became of a request, together with whatever else is answered in this turn."""
        self._unsent += queue_wire.pack(ANSWER, number, queue_wire.answer_body(exit_code, qp))
        if not self._flushing:
            self._flushing = True
            self._loop.soon(self.flush)

    def close(self):
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._time_frame(False)
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
            data, descriptors = receive_with(self._sock, self._piece_bytes, _MAX_RECEIVED)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._descriptors += descriptors
        if not data:
            self.close()
            return
        try:
            frames = self._unpacker.receive(data)
            for kind, number, body in frames:
                self._take(kind, number, body)
            if len(self._descriptors) > MAX_UNCLAIMED:
                raise MalformedFrame("too many descriptors")
        except MalformedFrame as wrong:
            self._drop(str(wrong))
            return
        if frames:
            self._time_frame(False)
        if self.wanted_bytes and self._sock is not None:
            self._time_frame(self._listening)
            self._server.receiving(self)

    def _take(self, kind, number, body):
        if kind == INLINE:
            self._server.take_inline(self, number, body)
        elif kind == DESCRIPTORS and not body and len(self._descriptors) >= 2:
            self._server.take_descriptors(self, number, self._descriptors.popleft(), self._descriptors.popleft())
        else:
            raise MalformedFrame("not a request")

    def _drop(self, why):
        self._server.dropped(self, why)
        self.close()

    def _time_frame(self, is_under_way):
        if not is_under_way and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif is_under_way and self._timer is None:
            self._timer = self._loop.after(FRAME_SECONDS, self._overdue)

    def _overdue(self):
        self._timer = None
        if self._sock is None:
            return
        if self._is_patient and is_readable(self._sock):
            self._time_frame(True)  # it is we who were slow
        else:
            self._drop(f"a frame was not complete after {FRAME_SECONDS} seconds")

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
        if len(self._unsent) > _MAX_UNSENT:
            self.close()
        else:
            self._watch()

    def _watch(self):
        events = (READ if self._listening else 0) | (WRITE if self._unsent else 0)
        if self._sock is None or events == self._watched:
            return
        self._watched = events
        if events:
            self._loop.watch_surely(self._sock.fileno(), events, self._ready)  # ended, its answers would be lost
        else:
            self._loop.forget(self._sock.fileno())
