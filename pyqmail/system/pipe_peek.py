"""Looking at what waits in a pipe without taking it out, tee(2), and taking it out, splice(2).

The standard library has no tee(2), and to call it costs memory (libc.py): only a program that must not lose what it
has read looks this way.
"""

import fcntl
import os

from pyqmail.system.libc import CLibrary

_NONBLOCK = 2
_LARGE_BYTES = 1 << 20  # what anybody may ask for
MAX_BYTES = 65536  # what a pipe holds, unless somebody has said otherwise


class PipePeek:
    """The pipe that is open for reading as fd.  Raises OSError if it is none, or the system has no tee or splice."""

    def __init__(self, fd: int) -> None:
        self._library, self._fd = CLibrary(), fd
        self._out, self._in = os.pipe2(os.O_CLOEXEC)
        try:
            self._grow()
            os.splice(fd, self._in, 0)  # moves nothing
            self.look(1)
        except BlockingIOError:
            pass  # it is empty now
        except OSError:
            self.close()
            raise

    def _grow(self):
        """Make our pipe as large as the other, or it could not show all that is there: a page may hold one byte."""
        size_bytes = min(fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ), _LARGE_BYTES)
        if size_bytes > fcntl.fcntl(self._in, fcntl.F_GETPIPE_SZ):
            try:
                fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, size_bytes)
            except OSError:
                pass  # this user has too many large ones: it shows what it can

    def look(self, limit_bytes: int) -> bytes:
        """Return what comes first in the pipe, at most so many bytes and at most 64 KB; b"" at its end.

        Raises BlockingIOError if nothing is there; never waits.
        """
        while True:
            try:
                count = self._library.call("tee", self._fd, self._in, min(limit_bytes, MAX_BYTES), _NONBLOCK)
                return self._read(count)
            except InterruptedError:
                pass

    def take(self, count_bytes: int) -> bytes:
        """Take out so many bytes and return them; fewer if the pipe has no more.  Never waits.

        Whoever else reads from this pipe may have taken what was seen: these are other bytes then.
        A pipe of packets (O_DIRECT) would drop the rest of one that is read in part; it keeps what is not moved.
        """
        taken = b""
        while len(taken) < count_bytes:
            try:
                moved = os.splice(self._fd, self._in, count_bytes - len(taken), flags=_NONBLOCK)
            except BlockingIOError:
                break
            if not moved:
                break
            taken += self._read(moved)
        return taken

    def _read(self, count):
        """Return so many bytes, which are there, of our own pipe."""
        pieces = []
        while count:
            pieces.append(os.read(self._out, count))
            count -= len(pieces[-1])
        return b"".join(pieces)

    def close(self) -> None:
        """Close what it has opened; the pipe itself stays."""
        os.close(self._out)
        os.close(self._in)
