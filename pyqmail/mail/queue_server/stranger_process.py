"""The process that serves one connection of a stranger: a uid that is none of qmail's.

A descriptor that a stranger passes can block the process that receives, reads or closes it, for as long as the stranger
likes (a socket that lingers), or until a reboot (a file of a FUSE file system that never answers).  So pyqueued only
accepts the connection.  It never reads from it and never closes it last: this process does, which may wait or be killed
at any moment.  It ends by SIGKILL and never by closing, since a process that exits does not linger.

It asks pyqueued over a channel for everything that is shared, and reports there:

    to pyqueued    INLINE, COPY   asks to write request `number`, whose bytes are here, or come by descriptors
                   DONE           files of `number` are written and on disk, or code says why not; text: the reason
                   ROOM, NO_ROOM  asks to hold a large frame; holds none any more
                   DROPPED        the client is dropped; text says why
    from pyqueued  GRANT          write `number`: its files come with it, and qp, time, inode number, bounds
                   VERDICT        the answer to the client about `number`: code and qp
                   ROOM           it may hold one

Each is one packet of a SOCK_SEQPACKET pair.  Both ends are the same program, forked.
"""

import os
import signal
import struct

from pyqmail.mail.queue.bounds import Bounds, MessageRefused
from pyqmail.mail.queue.origin import Origin
from pyqmail.mail.queue.store import StagedMessage
from pyqmail.mail.queue_server.connection import Connection
from pyqmail.mail.queue_server.message_copy import Copier, keep_only
from pyqmail.protocol.wires import queue_wire
from pyqmail.system.channel import receive_with, send_with
from pyqmail.system.coroutines import READ
from pyqmail.system.loop import Loop
from pyqmail.system.retrying import retried

INLINE, COPY, DONE, ROOM, NO_ROOM, DROPPED, GRANT, VERDICT = range(1, 9)
LARGE_FRAME_BYTES = 65536  # a larger frame needs room
_MAX_REQUESTS = 64  # in progress on the connection: more are not read
_MAX_HELD_BYTES = 4 * LARGE_FRAME_BYTES
_MAX_PACKET = 1024
_HEAD = struct.Struct(">BQB5Q")


def pack(kind: int, number: int, code: int = 0, values=(), text: str = "") -> bytes:
    """Return a packet; values are up to five numbers."""
    return _HEAD.pack(kind, number, code, *values, *(0,) * (5 - len(values))) + os.fsencode(text)[:512]


def receive(channel) -> tuple[int, int, int, list[int], str, list[int]] | None:
    """Return kind, number, code, values, text and descriptors of the next packet; None at the end.  Raises OSError."""
    data, descriptors = receive_with(channel, _MAX_PACKET, 2)
    if not data:
        return None
    kind, number, code, *values = _HEAD.unpack_from(data)
    return kind, number, code, values, os.fsdecode(data[_HEAD.size :]), descriptors


def serve_stranger(loop, sock, channel, uid: int, store) -> None:
    """Serve the connection sock, in a process just forked from pyqueued, whose loop is given up.  Does not return."""
    loop.abandon()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # pyqueued decides when this process ends
    os.setpgid(0, 0)
    keep_only((2, sock.fileno(), channel.fileno()))
    if not channel.recv(1):  # only once pyqueued has closed the connection: it must not be the last to do so
        end()
    own = Loop()
    _Service(own, sock, channel, uid, store)
    own.run()


def end():
    """End this process and the copies it has started."""
    os.killpg(0, signal.SIGKILL)


class _Ended(Connection):
    """A connection that ends its process instead of being closed."""

    __slots__ = ()

    def close(self):
        end()


class _Request:
    __slots__ = ("client_number", "content", "descriptors")

    def __init__(self, client_number, content=None, descriptors=()):
        self.client_number, self.content, self.descriptors = client_number, content, descriptors

    def size(self):
        return sum(map(len, self.content or ()))


class _Service:
    def __init__(self, loop, sock, channel, uid, store):
        self._loop, self._channel, self._uid, self._store = loop, channel, uid, store
        self._requests, self._count, self._held = {}, 0, 0
        self._has_room = self._asked_for_room = False
        self._connection = _Ended(self, loop, sock, uid, is_patient=False, piece_bytes=LARGE_FRAME_BYTES)
        channel.setblocking(True)
        loop.watch_surely(channel.fileno(), READ, self._receive_packet)

    # requests from the connection

    def take_inline(self, connection, number, body):
        """Raises Malformed."""
        content = queue_wire.split_inline(body)
        self._ask(INLINE, _Request(number, content))

    def take_descriptors(self, connection, number, message_fd, envelope_fd):
        self._ask(COPY, _Request(number, None, (message_fd, envelope_fd)))

    def receiving(self, connection):
        if connection.wanted_bytes > LARGE_FRAME_BYTES and not self._has_room and not self._asked_for_room:
            self._asked_for_room = True
            connection.hold(True)
            self._send_packet(pack(ROOM, 0))

    def dropped(self, connection, why):
        self._send_packet(pack(DROPPED, 0, text=why))

    def _ask(self, kind, request):
        self._count += 1
        self._requests[self._count] = request
        self._held += request.size()
        self._send_packet(pack(kind, self._count))
        self._listen()

    def _listen(self):
        has_large = self._has_room and self._held > LARGE_FRAME_BYTES
        is_full = len(self._requests) >= _MAX_REQUESTS or self._held > _MAX_HELD_BYTES or has_large
        if not self._asked_for_room:
            self._connection.listen(not is_full)

    # packets from pyqueued

    def _receive_packet(self, _):
        packet = retried(receive, self._channel)
        if packet is None:
            self._connection.flush()
            end()
        kind, number, code, values, _, descriptors = packet
        if kind == GRANT:
            self._write(number, values, descriptors)
        elif kind == ROOM:
            self._has_room, self._asked_for_room = True, False
            self._connection.hold(False)
            self._listen()
        else:
            self._finish(number, code, values[0])

    def _finish(self, number, code, qp):
        request = self._requests.pop(number)
        for fd in request.descriptors:
            os.close(fd)
        self._held -= request.size()
        if self._has_room and self._held <= LARGE_FRAME_BYTES and self._connection.wanted_bytes <= LARGE_FRAME_BYTES:
            self._has_room = False
            self._send_packet(pack(NO_ROOM, 0))
        self._connection.answer(request.client_number, code, qp)
        self._listen()

    def _write(self, number, values, descriptors):
        qp, seconds, file_number, *bounds = values
        staged, origin = StagedMessage(file_number, *descriptors), Origin(self._uid, qp, seconds)
        bounds = Bounds(*bounds)
        request = self._requests[number]
        if request.content is None:
            self._copy(number, request, staged, origin, bounds)
            return
        envelope, message = request.content
        try:
            self._store.write_staged(staged, origin, (message,), (envelope,), bounds)
        except MessageRefused as refused:
            self._done(number, refused.exit_code, "" if refused.exit_code == 54 else refused.why)
        else:
            self._done(number, 0)
        staged.close()

    def _copy(self, number, request, staged, origin, bounds):
        def done(code, why):
            self._done(number, 81 if code is None else code, why)

        descriptors, request.descriptors = request.descriptors, ()
        try:
            Copier(self._loop, self._store, staged, origin, bounds, *descriptors, done)
        except OSError as error:
            staged.close()
            request.descriptors = descriptors
            self._done(number, 51, MessageRefused(51, error).why)

    def _done(self, number, code, why=""):
        self._send_packet(pack(DONE, number, code, text=why))

    def _send_packet(self, packet):
        try:
            retried(send_with, self._channel, packet)
        except OSError:
            end()  # pyqueued has gone
