"""Lines on descriptor 2: said one by one, written many at once, never one in two writes."""

import os
import select

from pyqmail.base.failure import reason
from pyqmail.system.descriptors import write_all
from pyqmail.tcp.admission import drop_line

QUIET, ERRORS, EVERYTHING = 0, 1, 2
_PIPE_BYTES = 4096  # a write of no more is not mixed with other processes' lines


def log_is_full() -> bool:
    """Return whether a write to descriptor 2 would have to wait."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    return not poll.poll(0)


class Lines:
    """What is to be said, according to verbosity.

    is_writing: flush() is at it, and may have to wait.  is_to_end: it shall not wait any more.
    """

    def __init__(self, verbosity: int):
        self.verbosity = verbosity
        self.is_writing = self.is_to_end = False
        self._lines = []

    def say(self, line: bytes) -> None:
        """Say a complete line at the next flush(), if everything is to be said."""
        if self.verbosity >= EVERYTHING:
            self._lines.append(line)

    def warn(self, text: str) -> None:
        """Say why a connection is dropped, unless nothing is to be said."""
        if self.verbosity >= ERRORS:
            self._lines.append(drop_line(text))

    def complain(self, text: str) -> None:
        """Say what is wrong with the server itself, unless nothing is to be said."""
        if self.verbosity >= ERRORS:
            self._lines.append(b"tcpserver: warning: " + os.fsencode(text) + b"\n")

    def warn_of_fork(self, error: OSError) -> None:
        """Say that a connection is dropped for want of a process."""
        self.warn(f"unable to fork: {reason(error)}")

    def flush(self) -> None:
        """Write what was said.  A log that is gone is no reason to stop."""
        while self._lines:
            data = self._some_lines()
            self.is_writing = True
            try:
                if not (self.is_to_end and log_is_full()):  # nobody reads it: that shall not keep us
                    write_all(2, data)
            except OSError:
                pass
            self.is_writing = False

    def forget(self) -> None:
        """In a forked child: what was said is the parent's to write."""
        self._lines = []

    def _some_lines(self):
        size = taken = 0
        for line in self._lines:
            size += len(line)
            if size > _PIPE_BYTES and taken:
                break
            taken += 1
        data = b"".join(self._lines[:taken])
        del self._lines[:taken]
        return data
