"""The queue manager's log: whole lines, many in one write, and never waiting for whoever reads them.

The descriptor's flags are left alone, since others may share it: it is asked before each write whether it takes
a piece.  What it does not take is kept up to KEPT_BYTES; beyond that lines are dropped, and counted in a
warning once it takes more.

Only EPIPE says that the reader has gone: then nothing is written any more, and mail goes on.  Any other error (a full
disk, no memory, an error of the device) is tried again after a growing pause, and said once it works again.
"""

import collections
import os
import select
import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import reason
from pyqmail.system.coroutines import WRITE
from pyqmail.system.stream import IDLE, Outgoing

KEPT_BYTES = 8 << 20
_FIRST_SECONDS, _MAX_SECONDS = 0.1, 10.0  # pauses before what failed is tried again
_PIECE = 4096  # what a pipe that is ready takes at once


class SendLog:
    """add_line(line) without its LF; the lines of one turn of the loop are written at its end, or by flush()."""

    def __init__(self, loop, fd: int = 0) -> None:
        self._loop, self._fd = loop, fd
        self._lines: collections.deque[bytes] = collections.deque()
        self._rest = b""  # what is left of a piece that has begun
        self._kept, self._dropped = 0, 0
        self._gone, self._trouble = False, None
        self._out = Outgoing(
            loop,
            self._write_some,
            self._watch,
            self._lose,
            self._note,
            first_seconds=_FIRST_SECONDS,
            max_seconds=_MAX_SECONDS,
        )
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def add_line(self, line: bytes) -> None:
        if self._gone:
            return
        if self._kept > KEPT_BYTES:
            self._dropped += 1
            return
        self._lines.append(line)
        self._kept += len(line) + 1
        if self._out.state == IDLE:
            self._out.schedule()

    def flush(self) -> None:
        """Write what the reader takes now."""
        if self._has_more:
            self._out.write()

    def finish(self, seconds: float) -> None:
        """Before the end: write all, however slow the reader or whatever fails, but not longer than that."""
        if self._out.is_waiting:
            self._loop.forget(self._fd)
        self._out.close()
        until, backoff = time.monotonic() + seconds, Backoff(_FIRST_SECONDS, _MAX_SECONDS)
        while self._has_more and (left := until - time.monotonic()) > 0:
            try:
                if self._poll.poll(left * 1000):
                    self._write_piece()
                    backoff.reset()
            except BlockingIOError:
                pass
            except OSError:
                time.sleep(min(left, backoff.next_seconds()))

    @property
    def _has_more(self):
        return bool(self._lines or self._rest) and not self._gone

    def _write_some(self):
        """Write a piece if the reader takes one; returns whether there is more.  Raises OSError."""
        if self._has_more:
            if not self._poll.poll(0):
                raise BlockingIOError
            self._write_piece()
            if self._has_more:
                return True
        self._say_what_was_wrong()
        return False

    def _write_piece(self):
        """Write whole lines of at most _PIECE bytes together; a longer one in pieces.  Raises OSError."""
        if not self._rest:
            self._rest = self._next_piece()
        try:
            count = os.write(self._fd, self._rest[:_PIECE])
        except BrokenPipeError:
            self._lose()
            return
        self._rest = self._rest[count:]
        self._kept -= count

    def _next_piece(self):
        lines, data = self._lines, b""
        while lines and (not data or len(data) + len(lines[0]) < _PIECE):
            data += lines.popleft() + b"\n"
        return data

    def _watch(self, is_wanted):
        if is_wanted:
            self._loop.watch(self._fd, WRITE, lambda _: self._out.ready())
        else:
            self._loop.forget(self._fd)

    def _lose(self):
        """Nobody reads any more: that is no reason to stop."""
        self._gone, self._rest = True, b""
        self._lines.clear()

    def _note(self, error, _):
        self._trouble = error
        return True

    def _say_what_was_wrong(self):
        """All is written: add what the reader has to know about the time when it was not."""
        if self._gone:
            return
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            self.add_line(b"warning: unable to write the log: %b; tried again" % reason(trouble).encode())
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self.add_line(b"warning: %d lines of the log lost, its reader was too slow" % dropped)
