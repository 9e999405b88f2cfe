"""A pair of pipes to another process on the loop: bytes out without waiting, bytes in as they come.

What one turn puts is written at the end of the turn.  The process is lost once its pipe ends (EPIPE, or end of file).
Any other error says nothing about the process: it is tried again after growing pauses, and only one that lasts
half a minute counts as a loss.
"""

import os

from pyqmail.base.backoff import Backoff
from pyqmail.system.loop import READ, WRITE

MAX_TRIES = 12
MAX_PAUSE_SECONDS = 5.0
_PIECE = 262144


class Pipe:
    """received(data) is called with what came, lost() once when the other end has gone.

    before_write, if given, is called before anything is written: what was logged about it then stands first.
    """

    def __init__(self, loop, write_fd: int, read_fd: int, received, lost, before_write=None) -> None:
        self._loop, self._out, self._in = loop, write_fd, read_fd
        self._received, self._lost, self._before = received, lost, before_write
        self._pieces, self._rest = [], memoryview(b"")  # rest is what is left of a block that has begun
        self._scheduled, self._waiting, self.gone = False, False, False
        self._writing, self._reading = Backoff(max_seconds=MAX_PAUSE_SECONDS), Backoff(max_seconds=MAX_PAUSE_SECONDS)
        os.set_blocking(write_fd, False)
        os.set_blocking(read_fd, False)

    def listen(self) -> None:
        if self.gone:
            return
        try:
            self._loop.watch(self._in, READ, self._readable)
        except OSError:
            self._try_later(self._reading, self.listen)

    def put(self, data: bytes) -> None:
        if self.gone:
            return
        self._pieces.append(data)
        if not self._scheduled and not self._waiting:
            self._scheduled = True
            self._loop.soon(self._flush)

    def close(self) -> None:
        """Let the other end see the end of our bytes; nothing is received any more."""
        if not self.gone:
            self.gone = True
            self._loop.forget(self._in)
            self._loop.forget(self._out)
            for fd in {self._in, self._out}:
                os.close(fd)

    def _flush(self):
        self._scheduled = self._waiting = False
        if self.gone:
            return
        if self._before is not None:
            self._before()
        try:
            while self._rest or self._pieces:
                self._write_some()
        except BlockingIOError:
            self._wait_for_reader()
        except BrokenPipeError:
            self._lose()
        except OSError:
            self._write_later()

    def _write_some(self):
        if not self._rest:
            self._rest, self._pieces = memoryview(b"".join(self._pieces)), []
        self._rest = self._rest[os.write(self._out, self._rest[:_PIECE]) :]
        self._writing.reset()

    def _wait_for_reader(self):
        self._waiting = True
        try:
            self._loop.watch(self._out, WRITE, self._writable)
        except OSError:
            self._write_later()

    def _writable(self, _):
        self._loop.forget(self._out)
        self._flush()

    def _write_later(self):
        self._waiting = True
        self._try_later(self._writing, self._flush)

    def _readable(self, _):
        try:
            data = os.read(self._in, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            self._loop.forget(self._in)
            self._try_later(self._reading, self.listen)
            return
        self._reading.reset()
        if data:
            self._received(data)
        else:
            self._lose()

    def _try_later(self, backoff, work):
        pause = backoff.next_seconds()
        if backoff.tries > MAX_TRIES:
            self._lose()
        else:
            self._loop.after(pause, work)

    def _lose(self):
        if not self.gone:
            self.close()
            self._lost()
