"""A pair of pipes to another process on the loop: bytes out without waiting, bytes in as they come.

What one turn puts is written at the end of the turn.  The process is lost once its pipe ends or cannot be written.
"""

import os

from pyqmail.system.loop import READ, WRITE

_PIECE = 262144


class Pipe:
    """received(data) is called with what came, lost() once when the other end has gone.

    before_write, if given, is called before anything is written: what was logged about it then stands first.
    """

    def __init__(self, loop, write_fd: int, read_fd: int, received, lost, before_write=None) -> None:
        self._loop, self._out, self._in = loop, write_fd, read_fd
        self._received, self._lost, self._before = received, lost, before_write
        self._pieces, self._scheduled, self._waiting, self.gone = [], False, False, False
        os.set_blocking(write_fd, False)
        os.set_blocking(read_fd, False)

    def listen(self) -> None:
        self._loop.watch(self._in, READ, self._readable)

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
        self._scheduled = False
        if self.gone:
            return
        if self._before is not None:
            self._before()
        data, self._pieces = b"".join(self._pieces), []
        try:
            while data:
                data = data[os.write(self._out, data[:_PIECE]) :]
        except BlockingIOError:
            self._pieces = [data]
            if not self._waiting:
                self._waiting = True
                self._loop.watch(self._out, WRITE, self._writable)
        except OSError:
            self._lose()

    def _writable(self, _):
        self._loop.forget(self._out)
        self._waiting = False
        self._flush()

    def _readable(self, _):
        try:
            data = os.read(self._in, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(data)
        else:
            self._lose()

    def _lose(self):
        if not self.gone:
            self.close()
            self._lost()
