"""The queue manager's log: whole lines, many in one write, and never waiting for whoever reads them.

The descriptor's flags are left alone, since others may share it: it is asked before each write whether it takes
a piece.  What it does not take is kept up to KEPT_BYTES; beyond that lines are dropped, and counted in a
warning once it takes more.
"""

import collections
import os
import select

from pyqmail.system.loop import WRITE

KEPT_BYTES = 8 << 20
_PIECE = 4096  # what a pipe that is ready takes at once
_SAFE = bytes(47 if c == 10 else 95 if c < 33 or c > 126 or c == 37 else c for c in range(256))


def safe(text: bytes) -> bytes:
    """Return text as it stands in a log line: `/` for LF, `_` for blanks, controls, 8-bit bytes and `%`."""
    return text.translate(_SAFE)


class SendLog:
    """put(line) without its LF; what one turn of the loop put is written at its end, or by flush()."""

    def __init__(self, loop, fd: int = 0) -> None:
        self._loop, self._fd = loop, fd
        self._lines, self._kept, self._dropped = collections.deque(), 0, 0
        self._scheduled = self._waiting = self._gone = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def put(self, line: bytes) -> None:
        if self._gone:
            return
        if self._kept > KEPT_BYTES:
            self._dropped += 1
            return
        self._lines.append(line)
        self._kept += len(line) + 1
        if not self._scheduled and not self._waiting:
            self._scheduled = True
            self._loop.soon(self.flush)

    def flush(self) -> None:
        """Write what the reader takes now."""
        self._scheduled = False
        if self._lines and not self._waiting:
            self._write()

    def finish(self, seconds: float) -> None:
        """Before the end: write all, however slow the reader, but not longer than that."""
        if self._waiting:
            self._loop.forget(self._fd)
            self._waiting = False
        while self._lines and not self._gone and self._poll.poll(seconds * 1000):
            self._write_piece()

    def _write(self):
        while self._lines and not self._gone:
            if not self._poll.poll(0):
                self._waiting = True
                self._loop.watch(self._fd, WRITE, self._writable)
                return
            self._write_piece()
        if self._dropped and not self._gone:
            dropped, self._dropped = self._dropped, 0
            self.put(b"warning: %d lines of the log lost, its reader was too slow" % dropped)

    def _write_piece(self):
        """Write whole lines of at most _PIECE bytes together; a longer one alone."""
        lines, data = self._lines, b""
        while lines and (not data or len(data) + len(lines[0]) < _PIECE):
            data += lines.popleft() + b"\n"
        self._kept -= len(data)
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except BlockingIOError:
            lines.appendleft(data[:-1])  # may be several lines; they stay whole
            self._kept += len(data)
        except OSError:
            self._gone = True  # nobody reads any more: that is no reason to stop
            lines.clear()

    def _writable(self, _):
        self._loop.forget(self._fd)
        self._waiting = False
        self._write()
