"""What a program is given to read on a descriptor, by a pipe, and whether it has read it.

A pipe and not the file itself: the program cannot write into it, and what it reads by whatever name (a duplicate,
/dev/stdin, /proc/self/fd/0) is gone from the pipe.  We keep a reading end too: it shows what is left, and a program
that does not read gives no error before its end.
"""

import fcntl
import os
import termios

_PIECE = 65536


class Feed:
    """read(offset, size) gives the bytes, size of them in all; empty ones before that, or OSError, mean trouble.

    After end(), was_read is whether the program had taken all when it ended.
    """

    __slots__ = ("_read", "_size", "_at", "_left", "reader", "writer", "was_read")

    def __init__(self, size: int, read) -> None:
        self._read, self._size, self._at, self._left = read, size, 0, b""
        self.reader = self.writer = -1
        self.was_read = False

    def open(self) -> None:
        """Make the pipe: reader is the program's descriptor, writer, non-blocking, is ours.  Raises OSError."""
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.writer, False)

    def write(self) -> bool:
        """Write what fits; returns whether there is more.  Raises OSError if the bytes cannot be had."""
        if not self._left and self._at < self._size:
            self._left = self._read(self._at, min(_PIECE, self._size - self._at))
            if not self._left:
                raise OSError("cut short")
            self._at += len(self._left)
        try:
            while self._left:
                self._left = self._left[os.write(self.writer, self._left) :]
        except BlockingIOError:
            return True
        if self._at < self._size:
            return True
        self._close_writer()  # the program sees the end
        return False

    def end(self) -> None:
        """The program has ended: see whether it had read all, and close the pipe."""
        if self.reader < 0:
            return
        left = fcntl.ioctl(self.reader, termios.FIONREAD, bytes(4))
        self.was_read = self.writer < 0 and not any(left)
        self._close_writer()
        os.close(self.reader)
        self.reader = -1

    def _close_writer(self):
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


def feed_bytes(data: bytes) -> Feed:
    return Feed(len(data), lambda offset, size: data[offset : offset + size])


def feed_file(fd: int, size: int) -> Feed:
    """Feed a file from its start, whose descriptor stays open meanwhile."""
    return Feed(size, lambda offset, count: os.pread(fd, count, offset))
