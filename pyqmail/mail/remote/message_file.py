"""A message file on its way to a server, read block by block."""

import os

BLOCK, SMALL = 65536, 16384
_LAST = (b"", b"\n", b"\r")  # what a message may end with; a CR there is sent as a line end


class MessageFile:
    """Reads from where the descriptor stands; close() closes that.  start is where it stands, to rewind() to."""

    __slots__ = ("_fd", "_start", "_whole", "_is_read")

    def __init__(self, fd: int, start: int = 0) -> None:
        self._fd, self._start, self._whole, self._is_read = fd, start, b"", False

    def read(self) -> bytes:
        """Return the next block, empty at the end.  Raises OSError."""
        was_read, self._is_read = self._is_read, True
        if self._fd >= 0:
            return os.read(self._fd, BLOCK)
        return b"" if was_read else self._whole

    def rewind(self) -> None:
        """Have it read again from its start.  Raises OSError."""
        if self._is_read and self._fd >= 0:
            os.lseek(self._fd, self._start, os.SEEK_SET)
        self._is_read = False

    def has_whole_lines(self) -> bool:
        """Return whether the last line of a regular file, not yet read from, has its end.  Raises OSError.

        A small message is taken into memory by the way, and its descriptor is free again.
        """
        block = os.read(self._fd, SMALL)
        if len(block) < SMALL:
            self.close()
            self._whole = block
            return block[-1:] in _LAST
        size = os.lseek(self._fd, 0, os.SEEK_END)
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.pread(self._fd, 1, size - 1) in _LAST

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
