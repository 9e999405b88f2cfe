"""The log of a service that must not wait for its reader: whole lines on a descriptor, from one loop.

What the reader does not take at once is kept, up to KEPT_BYTES, until it does; beyond that lines are
dropped, and their number is logged once there is room.  The flags of the descriptor are left alone, since others may
share it: each write asks the kernel not to wait (RWF_NOWAIT).  A file and an old kernel know no such write; there a
piece is written that a pipe which is ready takes as a whole.  A file on a full disk answers with an error at once.

A line may have a reason: of those with one reason at most one line a second is written, however many there are.  A
second later a line reports how many more there were, with the last of them.
"""

import os
import select
import stat
from _collections import deque  # collections brings much that a cold start has no use for

from pyqmail.system.coroutines import WRITE
from pyqmail.system.polling import has_hung_up

KEPT_BYTES = 64 << 10
REASON_SECONDS = 1.0
_PIECE = 4096  # what a pipe that is ready takes at once: PIPE_BUF


def write_at_once(fd: int, data: bytes) -> int:
    """Write some of data without waiting and return how much.  Raises BlockingIOError if that is nothing, OSError."""
    try:
        return os.pwritev(fd, [data], -1, os.RWF_NOWAIT)
    except BlockingIOError:
        if not _is_pipe_or_socket(fd):
            return os.write(fd, data[:_PIECE])  # a file whose page is busy: it does not wait for a reader
        raise
    except BrokenPipeError:
        raise
    except OSError:
        pass  # no such write here; any other error comes again from the next write
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(fd, data[:_PIECE])


def log_at_once(line: bytes, fd: int = 2) -> None:
    """Write one whole line if the reader takes it now; otherwise it is lost.  For a place without a loop."""
    try:
        write_at_once(fd, line[: _PIECE - 1] + b"\n")
    except OSError:
        pass


def _is_pipe_or_socket(fd):
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class BoundedLog:
    """put(line) writes a line without its LF; name stands at the head of warnings, and of what say() writes."""

    def __init__(self, loop, name: str, fd: int = 2) -> None:
        self._loop, self._name, self._fd = loop, name, fd
        self._kept, self._size, self._dropped = deque(), 0, 0
        self._is_waiting = False
        self._reasons: dict = {}  # reason -> [how many were held back, the last of them]

    def put(self, line: str, reason=None) -> None:
        """Log a line; at most one in a second of those with the same reason, which any hashable is."""
        if reason is not None:
            held = self._reasons.get(reason)
            if held is not None:
                held[0], held[1] = held[0] + 1, line
                return
            self._reasons[reason] = [0, line]
            self._loop.after(REASON_SECONDS, lambda: self._allow(reason))
        self._keep(os.fsencode(line) + b"\n")
        if not self._is_waiting:
            self._write()

    def say(self, text: str) -> None:
        """Log a line of the service itself."""
        self.put(f"{self._name}: {text}")

    def warn(self, text: str, reason=None) -> None:
        """Log a warning of the service itself; reason as for put()."""
        self.put(f"{self._name}: warning: {text}", reason)

    def _allow(self, reason):
        count, line = self._reasons.pop(reason)
        if count:
            self.put(f"{line} ({count} in the last second)", reason)

    def _keep(self, line):
        if self._size + len(line) > KEPT_BYTES:
            self._dropped += 1
            return
        self._kept.append(line)
        self._size += len(line)

    def _write(self):
        try:
            while self._kept:
                self._write_first()
                if not self._kept and self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._keep(f"{self._name}: warning: {dropped} lines of the log dropped\n".encode())
        except BlockingIOError:
            self._is_waiting = True
            self._loop.watch_surely(self._fd, WRITE, self._go_on)
        except OSError:
            # the reader has gone, or the disk is full: what is kept is dropped, and the next line is tried again
            self._dropped += 0 if has_hung_up(self._fd) else sum(data.count(b"\n") for data in self._kept)
            self._kept.clear()
            self._size = 0

    def _go_on(self, _):
        self._loop.forget(self._fd)
        self._is_waiting = False
        self._write()

    def _write_first(self):
        """Write the first lines, as many as make one piece; of what was not taken the rest goes on first."""
        kept, data = self._kept, self._kept.popleft()
        while kept and len(data) + len(kept[0]) <= _PIECE:
            data += kept.popleft()
        try:
            written = write_at_once(self._fd, data)
        except OSError:
            kept.appendleft(data)
            raise
        self._size -= written
        if written < len(data):
            kept.appendleft(data[written:])
