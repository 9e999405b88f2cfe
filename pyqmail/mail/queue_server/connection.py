"""A client's connection to pyqueued: frames and descriptors in, answers out."""

import collections
import os

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_hang_up
from pyqmail.protocol.wires import queue_wire
from pyqmail.protocol.wires.frames import MalformedFrame
from pyqmail.protocol.wires.queue_wire import ANSWER, DESCRIPTORS, INLINE, INLINE_LIMIT
from pyqmail.system.channel import receive_with
from pyqmail.system.coroutines import READ, WRITE
from pyqmail.system.polling import is_readable
from pyqmail.system.stream import OutgoingBuffer

FRAME_SECONDS = 30
MAX_UNCLAIMED = 2  # descriptors received that no request has claimed yet
_PIECE = 262144
_FRAME_LIMIT = INLINE_LIMIT + 64
_MAX_RECEIVED = 8  # descriptors at once: more than may be, so that too many are noticed
_MAX_UNSENT = 1 << 20  # bytes of answers that a client does not fetch
_FIRST_SECONDS, _MAX_SECONDS = 0.02, 5.0  # pauses while the kernel lacks what reading needs


class Connection:
    """Requests come in, answers go out when they are known.

    server has take_inline(connection, number, body), which may raise MalformedFrame, take_descriptors(connection,
    number, message_fd, envelope_fd), receiving(connection), called when a part of a frame has come, dropped(connection,
    why) and lost(connection).  uid is the client's.

    A frame must be complete FRAME_SECONDS after its first byte came.  A patient client is one of qmail's own: for its
    frames the time counts only while there is nothing to read.

    If the kernel lacks memory or descriptors for a read or a write, it is tried again after growing pauses.
    """

    __slots__ = (
        *("uid", "_server", "_loop", "_sock", "_unpacker", "_descriptors", "_outgoing", "_watched", "_listening"),
        *("_timer", "_is_patient", "_piece_bytes", "_reading", "_is_pausing"),
    )

    def __init__(self, server, loop, sock, uid, is_patient=True, piece_bytes=_PIECE):
        sock.setblocking(False)
        self._server, self._loop, self._sock, self.uid = server, loop, sock, uid
        self._unpacker, self._descriptors = queue_wire.Unpacker(_FRAME_LIMIT), collections.deque()
        self._outgoing = OutgoingBuffer(loop, sock.send, self._watch_write, self.close, max_bytes=_MAX_UNSENT)
        self._reading, self._is_pausing = Backoff(_FIRST_SECONDS, _MAX_SECONDS), False
        self._watched, self._listening = 0, True
        self._timer, self._is_patient, self._piece_bytes = None, is_patient, piece_bytes
        self._watch()

    @property
    def wanted_bytes(self) -> int:
        """The size of the frame under way, as far as it is known; 0 between frames."""
        return self._unpacker.wanted_bytes

    def listen(self, wanted):
        """Read or do not read; the time of a frame stops while nothing is read, since the client is not the reason."""
        self.hold(not wanted)
        self._time_frame(wanted and self.wanted_bytes > 0)

    def hold(self, is_held):
        """Stop or continue reading, while the time of a frame runs on."""
        self._listening = not is_held
        self._watch()

    def answer(self, number, exit_code, qp):
        """Answer a request, together with the others that are answered in this turn."""
        self._outgoing.put(queue_wire.pack(ANSWER, number, queue_wire.answer_body(exit_code, qp)))

    def close(self):
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._time_frame(False)
        self._outgoing.close()
        self._loop.forget(sock.fileno())
        sock.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._server.lost(self)

    def _ready(self, events):
        if events & WRITE:
            self._outgoing.ready()
        if events & READ and self._sock is not None and self._listening:
            self._receive()

    def _receive(self):
        try:
            data, descriptors = receive_with(self._sock, self._piece_bytes, _MAX_RECEIVED)
        except BlockingIOError:
            return
        except OSError as error:
            if is_hang_up(error):
                self.close()
            else:
                self._pause()
            return
        self._reading.reset()
        self._descriptors += descriptors
        if not data:
            self.close()
            return
        try:
            frames = self._unpacker.receive(data)
            for kind, number, body in frames:
                self._take_request(kind, number, body)
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

    def _pause(self):
        """Read again after a pause: the failure is not the client's fault."""
        self._is_pausing = True
        self._watch()
        self._loop.after(self._reading.next_seconds(), self._end_pause)

    def _end_pause(self):
        self._is_pausing = False
        self._watch()

    def _take_request(self, kind, number, body):
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
            self._time_frame(True)  # we were slow, not the client
        else:
            self._drop(f"a frame was not complete after {FRAME_SECONDS} seconds")

    def flush(self):
        """Send the answers now."""
        self._outgoing.write()

    def _watch_write(self, wanted):
        self._watch()

    def _watch(self):
        is_reading = self._listening and not self._is_pausing
        events = (READ if is_reading else 0) | (WRITE if self._outgoing.is_waiting else 0)
        if self._sock is None or events == self._watched:
            return
        self._watched = events
        if events:
            self._loop.watch_surely(self._sock.fileno(), events, self._ready)  # ended, its answers would be lost
        else:
            self._loop.forget(self._sock.fileno())
