"""Numbers for qp, which tell messages apart in logs and Received lines."""

import os
import time

QP_BLOCK = 10000


class QueueNumbers:
    """Each number is larger than all before, over restarts and power cuts too, and above any pid.

    The first number not yet reserved stands in a file (the lock's); an empty one starts at the Unix time.  A block of
    numbers is used only once the file says on disk that it is.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        text = os.pread(fd, 20, 0).strip()
        self._next = max(int(text) if text.isdigit() else 0, int(time.time()))
        self._reserved = self._next

    def take(self) -> int:
        """Raises OSError if the file cannot be written and put on disk: then no number is used."""
        if self._next >= self._reserved:
            os.pwrite(self._fd, b"%019d\n" % (self._next + QP_BLOCK), 0)
            os.fdatasync(self._fd)
            self._reserved = self._next + QP_BLOCK
        self._next += 1
        return self._next - 1
