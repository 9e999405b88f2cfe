"""Questions and answers over one UNIX stream connection: many at once in the loop, one at a time without it.

The wire's framing is given as codec (protocol/wires/frames.py): pack(kind, number, body) and Unpacker().receive().
An answer carries the number of its question.  A connection that breaks fails all that is open with Gone: the
asker does not know whether it was done.  One that cannot be made raises Unavailable: nothing was done.
"""

import _socket as socket  # without its enums and its selectors: they cost a cold start milliseconds
import errno
import os
import select
import struct
import time
from _collections import deque

from pyqmail.base.backoff import Backoff
from pyqmail.system.coroutines import NOTHING, READ, WRITE, Promise, TimedOut
from pyqmail.system.polling import is_readable
from pyqmail.system.stream import Outgoing

_PIECE = 262144
# what the kernel lacks for now
_PASSING = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE)
_MAX_SECONDS = 5.0  # the maximum pause before that is tried again
_BACKLOG_SECONDS = 3.0
_PASSRIGHTS = getattr(socket, "SO_PASSRIGHTS", 83)  # include/uapi/asm-generic/socket.h


class Gone(Exception):
    """The other end has gone; what it did with the last words is not known."""


class Unavailable(Exception):
    """No connection can be made: there is no listener, or something is lacking here; `error` is the OSError."""

    def __init__(self, error):
        super().__init__(str(error))
        self.error = error


def connect(path: str, waits: bool = True) -> socket.socket:
    """Return a stream connection to the UNIX socket at path, blocking if waits.  Raises Unavailable.

    Without waits a listener that does not accept counts as none: its backlog may stay full.
    """
    sock = None
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.setblocking(waits)
        sock.connect(path)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise Unavailable(error) from None
    return sock


def send_with(sock: socket.socket, data: bytes, descriptors=()) -> int:
    """Send data, the descriptors with its first byte; returns how many bytes went.  Raises OSError."""
    if not descriptors:
        return sock.send(data)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))
    return sock.sendmsg([data], [rights])


def receive_with(sock: socket.socket, size: int, most_descriptors: int) -> tuple[bytes, list[int]]:
    """Receive at most size bytes and the descriptors that came with them, close-on-exec.  Raises OSError."""
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(4 * most_descriptors), socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors += struct.unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4])
    return data, descriptors


def refuse_descriptors(sock) -> None:
    """Let the kernel refuse descriptors that the other end of a UNIX socket sends, or the clients of one that listens.

    A kernel older than Linux 6.16 cannot: see takes_descriptors().
    """
    try:
        if sock.getsockopt(socket.SOL_SOCKET, _PASSRIGHTS) == 1:
            sock.setsockopt(socket.SOL_SOCKET, _PASSRIGHTS, 0)
    except OSError:
        pass


def takes_descriptors(sock) -> bool:
    """Return whether the client at the other end of a UNIX socket can pass us descriptors, or could have done so."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _PASSRIGHTS) != 0
    except OSError:
        return True


class BlockingChannel:
    """Asks and waits.  Connects at the first question; open() gives an already connected socket instead of a path."""

    def __init__(self, path, codec, sock=None):
        self._path, self._codec, self._sock, self._number = path, codec, sock, 0

    async def ask(self, kind, body, descriptors=(), seconds=None):
        """Return (kind, body) of the answer.  Raises Unavailable, Gone, TimedOut."""
        if self._sock is not None and self._path is not None and is_readable(self._sock):
            self.close()
        if self._sock is None:
            self._sock = connect(self._path)
        self._number += 1
        until = None if seconds is None else time.monotonic() + seconds
        try:
            data = memoryview(self._codec.pack(kind, self._number, body))
            data = data[send_with(self._sock, data, descriptors) :]
            self._sock.sendall(data)
            return self._answer(until)
        except OSError as error:
            self.close()
            raise Gone(str(error)) from None
        except (TimedOut, Gone):
            self.close()
            raise

    def close(self):
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _answer(self, until):
        unpacker = self._codec.Unpacker()
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        while True:
            if until is not None and not poll.poll(max(0, until - time.monotonic()) * 1000):
                raise TimedOut
            data = self._sock.recv(_PIECE)
            if not data:
                raise Gone("connection closed")
            for kind, number, body in unpacker.receive(data):
                if number == self._number:
                    return kind, body


class EventChannel:
    """The same for the thousands of one loop: one connection, made when first needed and again after it broke."""

    def __init__(self, loop, path, codec, sock=None):
        self._loop, self._path, self._codec = loop, path, codec
        self._sock, self._unpacker, self._out = None, None, None
        self._number, self._open = 0, {}
        self._pieces = deque()  # (bytes, descriptors that go with their first)
        self._reading, self._is_reading = Backoff(max_seconds=_MAX_SECONDS), True
        if sock is not None:
            self._use(sock)

    async def ask(self, kind, body, descriptors=(), seconds=None):
        """Return (kind, body) of the answer.  Raises Unavailable, Gone, TimedOut; OSError if descriptors are lacking.

        The descriptors are duplicated; the caller's may be closed as soon as this waits.
        """
        copies = _duplicates(descriptors)
        try:
            await self._connect()
        except BaseException:
            _close_all(copies)
            raise
        self._number = self._number % 0xFFFFFFFF + 1
        number, promise = self._number, Promise()
        self._pieces.append((self._codec.pack(kind, number, body), copies))
        self._open[number] = promise
        self._out.schedule()
        try:
            return await (promise if seconds is None else promise.within(self._loop, seconds))
        finally:
            self._open.pop(number, None)

    async def _connect(self):
        """Have a connection; a backlog that is full for a moment may be one stranger's who connects all the time."""
        until, backoff = time.monotonic() + _BACKLOG_SECONDS, Backoff(0.01, 1.0)
        while self._sock is None:
            try:
                self._use(connect(self._path, waits=False))
            except Unavailable as nobody:
                if nobody.error.errno != errno.EAGAIN or time.monotonic() >= until:
                    raise
                await self._loop.sleep(backoff.next_seconds())

    def close(self):
        """Fail what is open and close the connection."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._out.close()
            self._loop.forget(sock.fileno())
            sock.close()
        for _, descriptors in self._pieces:
            _close_all(descriptors)
        self._pieces.clear()
        for promise in list(self._open.values()):
            promise.break_(Gone("connection closed"))

    def _use(self, sock):
        sock.setblocking(False)
        self._sock, self._unpacker, self._is_reading = sock, self._codec.Unpacker(), True
        self._out = Outgoing(self._loop, self._send_some, self._watch, self.close, _may_pass)
        self._watch()

    def _ready(self, events):
        if events & READ:
            self._receive()
        if events & WRITE and self._sock is not None:
            self._out.ready()

    def _receive(self):
        try:
            data = self._sock.recv(_PIECE)
            self._reading.reset()
            answers = self._unpacker.receive(data)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            if _may_pass(error):
                self._read_later(self._sock)
                return
            data, answers = b"", []
        if not data:
            self.close()
            return
        for kind, number, body in answers:
            promise = self._open.get(number)
            if promise is not None:
                promise.keep((kind, body))

    def _read_later(self, sock):
        """Do not read for a moment: what the kernel lacks is not asked for again and again."""
        self._is_reading = False
        self._watch()

        def read_again():
            if self._sock is sock:
                self._is_reading = True
                self._watch()

        self._loop.after(self._reading.next_seconds(), read_again)

    def _watch(self, _=None):
        events = (READ if self._is_reading else NOTHING) | (WRITE if self._out.is_waiting else NOTHING)
        if events:
            self._loop.watch_surely(self._sock.fileno(), events, self._ready)
        else:
            self._loop.forget(self._sock.fileno())

    def _send_some(self):
        """Send the front pieces in one call, as far as none but the first carries descriptors."""
        pieces = self._pieces
        if not pieces:
            return False
        data, descriptors = pieces.popleft()
        if pieces and len(data) < _PIECE:
            data = self._with_next(data)
        try:
            sent = send_with(self._sock, data, descriptors)
        except OSError:
            pieces.appendleft((data, descriptors))
            raise
        _close_all(descriptors)
        if sent < len(data):
            pieces.appendleft((memoryview(data)[sent:], ()))
        return bool(pieces)

    def _with_next(self, data):
        """Return data and the pieces after it that need no call of their own, about _PIECE bytes."""
        front, size, pieces = [data], len(data), self._pieces
        while pieces and not pieces[0][1] and size < _PIECE:
            front.append(pieces.popleft()[0])
            size += len(front[-1])
        return b"".join(front) if len(front) > 1 else data


def _may_pass(error, _=0):
    return getattr(error, "errno", None) in _PASSING


def _duplicates(descriptors):
    copies = []
    try:
        for fd in descriptors:
            copies.append(os.dup(fd))
    except OSError:
        _close_all(copies)
        raise
    return copies


def _close_all(descriptors):
    for fd in descriptors:
        os.close(fd)
