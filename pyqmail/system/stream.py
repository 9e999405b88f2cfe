"""What goes out of a descriptor on a loop without ever waiting: written as far as it goes, the rest kept for later.

An Outgoing is in one of five states:

                  put()                 the turn ends
         IDLE --------------> DUE ---------------------> (write)
          ^  all is written                                |
          +-------------------------------<----------------+
          |                                                | EAGAIN: the reader is slow
          |      can be written: (write)                   v
          +<-------------------------------------------- WAITING: the descriptor is watched for WRITE
          |                                                |
          |      the pause is over: (write)                | any other error
          +<-------------------------------------------- PAUSED: it is not watched, a timer runs
                                                           |
                    the reader has gone, or the owner gave up, or close() was called
                                                           v
                                                         CLOSED: what is left is not written any more

What is kept true:
- What one turn of the loop puts goes out in one write at its end: DUE means that a flush stands in the loop's line.
- In WAITING and PAUSED nothing tries by itself: only readiness or the timer does.  So a reader who is slow, or a lack
  that lasts, costs one system call for each wake-up and never a spin.
- Nothing is lost or sent twice: what a write took leaves the buffer before anything else happens.
- EPIPE and ECONNRESET say that the reader has gone.  Every other error says nothing about the reader: the owner's
  failed(error, tries) decides, and by default it is tried again, after growing pauses.  A watch that the kernel has no
  room for is such an error too.
- The tail of a block that has begun is a view: a slow reader of a large block costs no copies.
"""

import os

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_hang_up
from pyqmail.system.coroutines import READ, WRITE

IDLE, DUE, WAITING, PAUSED, CLOSED = range(5)
MAX_TRIES = 12  # of a Pipe: about half a minute
_MAX_PAUSE_SECONDS = 5.0
_PIECE = 262144


def try_again(error: OSError, tries: int) -> bool:
    """The usual answer to an error that is no hang-up: it may pass."""
    return True


class Outgoing:
    """When to write what its owner keeps; see the module.

    write_some()           makes one system call that does not wait; returns whether something is left.  Raises OSError.
    watch_write(wanted)    begins or ends to watch the descriptor for WRITE, upon which the owner calls ready().
                           It may raise OSError when it begins.
    lost()                 is called once when the reader has gone, or failed() has given up.
    failed(error, tries)   returns whether to try again after an error; tries counts those since the last success.
    """

    __slots__ = ("_loop", "_write_some", "_watch_write", "_lost", "_failed", "_pauses", "_backoff", "state")

    def __init__(
        self, loop, write_some, watch_write, lost, failed=try_again, max_seconds=5.0, first_seconds=0.05
    ) -> None:
        self._loop, self._write_some, self._watch_write = loop, write_some, watch_write
        self._lost, self._failed, self._pauses = lost, failed, (first_seconds, max_seconds)
        self._backoff: Backoff | None = None  # only while something fails
        self.state = IDLE

    @property
    def is_waiting(self) -> bool:
        """Whether the descriptor is to be watched for WRITE."""
        return self.state == WAITING

    def schedule(self) -> None:
        """Write at the end of this turn, unless the descriptor is known to take nothing now."""
        if self.state == IDLE:
            self.state = DUE
            self._loop.soon(self.write)

    def write(self) -> None:
        """Write now, unless the descriptor is known to take nothing now."""
        if self.state <= DUE:
            self.ready()

    def ready(self) -> None:
        """Write now: the descriptor can be written, as far as is known."""
        was, write_some = self.state, self._write_some
        if was == CLOSED:
            return
        self.state = IDLE
        try:
            while write_some():
                self._backoff = None
        except BlockingIOError:
            self._wait(was)
            return
        except OSError as error:
            self._stop_watching(was)
            self._not_written(error)
            return
        self._backoff = None
        self._stop_watching(was)

    def close(self) -> None:
        """Write nothing any more.  The owner gives the descriptor back to the loop."""
        self.state = CLOSED
        self._write_some = self._watch_write = self._lost = self._failed = None  # they lead back to the owner

    def _wait(self, was):
        self.state = WAITING
        if was != WAITING:
            try:
                self._watch_write(True)
            except OSError as error:
                self._not_written(error)

    def _stop_watching(self, was):
        if was == WAITING:
            self._watch_write(False)

    def _not_written(self, error):
        if self._backoff is None:
            self._backoff = Backoff(*self._pauses)
        pause = self._backoff.next_seconds()
        if is_hang_up(error) or not self._failed(error, self._backoff.tries):
            self._give_up()
            return
        self.state = PAUSED
        self._loop.after(pause, self._go_on)

    def _give_up(self):
        lost = self._lost
        self.close()
        lost()

    def _go_on(self):
        if self.state == PAUSED:
            self.ready()


class OutgoingBuffer(Outgoing):
    """Bytes on their way out; put() takes all, and what one turn puts goes out together.

    write(data) is a system call that takes some of data and returns how much.  A reader who leaves more than max_bytes,
    if given, counts as gone.
    """

    __slots__ = ("_write", "_pieces", "_rest", "_max_bytes", "unsent_bytes")

    def __init__(self, loop, write, watch_write, lost, failed=try_again, max_bytes=None, **more) -> None:
        super().__init__(loop, self._write_bytes, watch_write, lost, failed, **more)
        self._write, self._max_bytes, self.unsent_bytes = write, max_bytes, 0
        self._pieces: list[bytes] = []
        self._rest: bytes | memoryview = b""  # of a block that has begun

    def put(self, data: bytes) -> None:
        """Write data at the end of this turn, after all that was put before; drop it if the reader has gone."""
        state = self.state
        if state == CLOSED:
            return
        self._pieces.append(data)
        self.unsent_bytes += len(data)
        if state == IDLE:
            self.state = DUE
            self._loop.soon(self.write)
        elif state == WAITING and self._is_too_much():
            self._loop.soon(self.ready)  # not within the owner's call: lost() may close it

    def take(self) -> bytes:
        """Close; return what has not been written."""
        rest = b"".join([self._rest, *self._pieces])
        self.close()
        return rest

    def close(self) -> None:
        super().close()
        self._pieces, self._rest, self.unsent_bytes = [], b"", 0
        self._write = None

    def _write_bytes(self):
        rest, pieces = self._rest, self._pieces
        if not rest:
            if not pieces:
                return False
            rest, self._pieces = pieces[0] if len(pieces) == 1 else b"".join(pieces), []
            self._rest = rest
        sent = self._write(rest)
        self.unsent_bytes -= sent
        if sent == len(rest):
            self._rest = b""
            return bool(self._pieces)
        self._rest = memoryview(rest)[sent:]
        return True

    def _wait(self, was):
        if self._is_too_much():
            self._stop_watching(was)
            self._give_up()
        else:
            super()._wait(was)

    def _is_too_much(self):
        return self._max_bytes is not None and self.unsent_bytes > self._max_bytes


class DescriptorBuffer(OutgoingBuffer):
    """Of a descriptor, made non-blocking, that nothing else watches: it is watched while its reader is slow.

    before_write, if given, is called before each write: what was logged about it then stands first.
    """

    __slots__ = ("_fd",)

    def __init__(self, loop, fd: int, lost, failed=try_again, before_write=None) -> None:
        def write(data):
            if before_write is not None:
                before_write()
            return os.write(fd, data)

        super().__init__(loop, write, self._watch, lost, failed)
        self._fd = fd
        os.set_blocking(fd, False)

    def _watch(self, is_wanted):
        if is_wanted:
            self._loop.watch(self._fd, WRITE, self._writable)
        else:
            self._loop.forget(self._fd)

    def _writable(self, _):
        self.ready()


class Pipe:
    """A pair of pipes to another process: put() bytes, and received(data) is called with what comes.

    lost() is called once when the other end has gone: EPIPE, the end of file, or any other error that lasts half a
    minute.
    """

    def __init__(self, loop, write_fd: int, read_fd: int, received, lost, before_write=None) -> None:
        self._loop, self._out_fd, self._in_fd = loop, write_fd, read_fd
        self._received, self._lost, self.gone = received, lost, False
        self._out = DescriptorBuffer(loop, write_fd, self.end, lambda _, tries: tries <= MAX_TRIES, before_write)
        self._reading = Backoff(max_seconds=_MAX_PAUSE_SECONDS)
        os.set_blocking(read_fd, False)

    def listen(self) -> None:
        """Begin to receive."""
        if self.gone:
            return
        try:
            self._loop.watch(self._in_fd, READ, self._readable)
        except OSError:
            self._read_later()

    def put(self, data: bytes) -> None:
        """Write data at the end of this turn of the loop."""
        self._out.put(data)

    def close(self) -> None:
        """Let the other end see the end of our bytes; nothing is received any more."""
        if not self.gone:
            self.gone = True
            self._out.close()
            for fd in {self._in_fd, self._out_fd}:
                self._loop.forget(fd)
                os.close(fd)

    def end(self) -> None:
        """The other end writes nothing any more: receive what it wrote before, and be lost."""
        while not self.gone:
            try:
                data = os.read(self._in_fd, _PIECE)
            except OSError:  # whoever it started may hold it open: that is no word of its own
                data = b""
            if not data:
                self._lose()
                return
            self._received(data)

    def _readable(self, _):
        try:
            data = os.read(self._in_fd, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            self._loop.forget(self._in_fd)
            self._read_later()
            return
        self._reading.reset()
        if data:
            self._received(data)
        else:
            self._lose()

    def _read_later(self):
        pause = self._reading.next_seconds()
        if self._reading.tries > MAX_TRIES:
            self._lose()
        else:
            self._loop.after(pause, self.listen)

    def _lose(self):
        if not self.gone:
            self.close()
            self._lost()
