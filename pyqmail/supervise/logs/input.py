"""Reading a logger's input, with the two signals that may come meanwhile.

What was read from a pipe stays in it until it is in the files.  So a logger that is killed in between, or while the
disk is full, leaves it to the next logger: lines may be there twice, and none is lost.

    look (tee(2)) --> write to the logs --> mark_done(): take as many bytes out of the pipe as were written

Only a pipe can be looked into.  A file or a socket is read, and what was read is gone with the process.
"""

import _signal as signal  # the module without its enums: they cost half a megabyte for each log
import os
import select
import time

from pyqmail.base.failure import Temporary
from pyqmail.supervise.logs.logger import SMALL_BYTES
from pyqmail.system.pipe_peek import MAX_BYTES, PipePeek

COPY_SECONDS = 5  # after TERM, for the reader of the copy
KEPT_BYTES = MAX_BYTES - SMALL_BYTES - 1  # if no more is kept, a look still sees a piece, and more, behind it


class ConsumingReader:
    """What is read is gone: a file, a socket, or a pipe without tee(2)."""

    def __init__(self, fd) -> None:
        self._fd = fd

    def read(self, limit_bytes, to_line_end=False):
        return os.read(self._fd, 1 if to_line_end else limit_bytes)

    def mark_done(self):
        return b""

    def close(self):
        pass


class KeepingReader:
    """A pipe that keeps what was read until mark_done().  Raises OSError if fd is no pipe.

    The start of a line is kept as well while more waits behind it: until its end it is not whole in the files.
    """

    def __init__(self, fd) -> None:
        self._peek = PipePeek(fd)
        self._kept = b""  # the start of the pipe, read by an earlier read()
        self._block = b""  # what was read after it, and is not done
        self._is_all = True  # nothing was behind it

    def read(self, limit_bytes, to_line_end=False):
        """Return the next bytes, at most so many, not beyond the end of the first line if that is asked for."""
        while True:
            seen = self._peek.look(len(self._kept) + limit_bytes + 1)
            if not seen or (len(seen) > len(self._kept) and seen.startswith(self._kept)):
                break
            self._kept = b""  # another process has read from this pipe
        count = min(len(seen) - len(self._kept), limit_bytes)
        if to_line_end and (line_end := seen.find(b"\n", len(self._kept)) + 1):
            count = min(count, line_end - len(self._kept))
        elif count > SMALL_BYTES and len(self._kept) + count == len(seen):
            # something stays behind, so that the start of a line need not go; in the original's pieces, see logger.py
            count = (count - 1) // SMALL_BYTES * SMALL_BYTES
        end = len(self._kept) + count
        self._is_all = end == len(seen)
        self._block = seen[len(self._kept) : end]
        return self._block

    def mark_done(self):
        """What was read is in the files: take it out of the pipe.

        Returns what came out instead if another process had taken it: those bytes are not in the files.
        """
        block, self._block = self._block, b""
        if not block:
            return b""
        seen = self._kept + block
        line_end = seen.rfind(b"\n") + 1
        kept = b"" if self._is_all or len(seen) - line_end > KEPT_BYTES else seen[line_end:]
        seen = seen[: len(seen) - len(kept)]
        taken = self._peek.take(len(seen))
        self._kept = kept
        return b"" if seen.startswith(taken) else taken

    def close(self):
        self._peek.close()


class Input:
    """Descriptor 0, TERM and ALRM.

    A signal that arrives just before we wait must end the wait too, so it writes to a pipe that we wait for as well.
    Raises Temporary if no descriptors are left.
    """

    def __init__(self, fd: int = 0) -> None:
        self.wants_rotation = False  # ALRM came; the caller rotates and sets it back
        self._fd = fd
        self._source: KeepingReader | ConsumingReader
        try:
            self._source = KeepingReader(fd)
        except OSError:
            self._source = ConsumingReader(fd)
        self._ending = False  # TERM came
        self._copy_deadline = 0.0  # after TERM: until then we wait for the copy's reader
        self._at_line_start = True
        try:
            self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Temporary("unable to create pipe", error) from None
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGALRM, self._alarm)
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGALRM))

    def _end(self, *_):
        self._ending = True
        self._copy_deadline = time.monotonic() + COPY_SECONDS

    def _alarm(self, *_):
        self.wants_rotation = True

    def read(self, limit_bytes: int) -> bytes | None:
        """Return the next bytes, at most so many; b"" at the end; None if ALRM came first.

        After TERM the input ends at the next end of a line; the rest stays unread for the next logger.  A read error is
        an end too, as in the original.
        """
        while True:
            if self._ending and self._at_line_start:
                return b""
            if self.wants_rotation and not self._ending:
                return None
            ready = [descriptor for descriptor, _ in self._poll.poll()]
            if self._wake in ready:
                os.read(self._wake, 1024)
                continue
            block = self._read_ready(limit_bytes)
            if block is not None:
                return block

    def _read_ready(self, limit_bytes):
        """Return the next bytes, b"" at the end, None if there are none after all."""
        try:
            block = self._source.read(limit_bytes, self._ending)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        if block:
            self._at_line_start = block.endswith(b"\n")
        return block

    def mark_done(self) -> bytes:
        """What was read is in the files and need not stay in the pipe.

        Returns bytes that are to be written too: b"" unless another process reads from the same pipe.
        """
        block = self._source.mark_done()
        if block:
            self._at_line_start = block.endswith(b"\n")
        return block

    def may_write(self, fd: int) -> bool:
        """Wait until fd takes something, or fails; False if it still does not COPY_SECONDS after TERM."""
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.register(self._wake, select.POLLIN)
        while True:
            left = max(0, self._copy_deadline - time.monotonic()) * 1000 if self._ending else None
            ready = [descriptor for descriptor, _ in poll.poll(left)]
            if fd in ready:
                return True
            if self._wake in ready:
                os.read(self._wake, 1024)
            elif self._ending:
                return False

    def close(self) -> None:
        """Give the signals back and close the pipe; descriptor 0 stays."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(self._wake)
        os.close(self._waker)
        self._source.close()
