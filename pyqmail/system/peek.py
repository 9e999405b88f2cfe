"""Looking at what waits in a pipe without taking it out: tee(2).

The standard library has splice(2), which takes, and no tee(2).  The library that can call it costs 0.4 MB and a
millisecond or two, so only a program that must not lose what it has read looks this way.
"""

import errno
import os

_NONBLOCK = 2
_PIPE_BYTES = 65536  # what a pipe holds, unless somebody has said otherwise


class Peek:
    """The pipe that is open for reading as fd.  Raises OSError if it is none, or the system has no tee."""

    def __init__(self, fd: int) -> None:
        import ctypes  # nothing else can call tee

        self._library, self._errno = ctypes.CDLL(None, use_errno=True), ctypes.get_errno
        self._fd = fd
        self._out, self._in = os.pipe2(os.O_CLOEXEC)
        try:
            self.look(1)
        except BlockingIOError:
            pass  # it is empty now
        except OSError:
            self.close()
            raise

    def look(self, limit_bytes: int) -> bytes:
        """Return what comes first in the pipe, at most so many bytes and at most 64 KB; b"" at its end.

        Raises BlockingIOError if nothing is there; never waits.
        """
        try:
            count = self._library.tee(self._fd, self._in, min(limit_bytes, _PIPE_BYTES), _NONBLOCK)
        except AttributeError:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None  # a C library without it
        if count < 0:
            error = self._errno()
            raise OSError(error, os.strerror(error))
        return _read(self._out, count)

    def take(self, count_bytes: int) -> None:
        """Take out so many bytes that were seen."""
        _read(self._fd, count_bytes)

    def close(self) -> None:
        """Close what it has opened; the pipe itself stays."""
        os.close(self._out)
        os.close(self._in)


def _read(fd, count):
    pieces = []
    while count:
        piece = os.read(fd, count)
        if not piece:
            break  # somebody else has taken it
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
