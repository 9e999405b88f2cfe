"""Readiness: a service says that it is ready by writing a line end to a descriptor.  Source: s6's notification-fd"""

import os

from pyqmail.supervise.settings import number
from pyqmail.system.loop import READ

_NONE, _LOWEST = -1, 3


class Readiness:
    """The pipe between one run at a time and us; calls is_ready() once, when its first line end arrives."""

    def __init__(self, loop, is_ready, complain) -> None:
        self._loop, self._is_ready, self._complain = loop, is_ready, complain
        self._read: int | None = None

    def open(self) -> tuple[int, int] | None:
        """Before a run: return (our end to give it, its number there), or None if it is not asked for or not to be had.

        Our end is to be closed after the start.
        """
        self.close()
        theirs = number("notification-fd", _NONE, self._complain)
        if theirs == _NONE:
            return None
        if not _LOWEST <= theirs < os.sysconf("SC_OPEN_MAX"):
            return self._complain("notification-fd", str(theirs))
        try:
            self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None  # it then finds its descriptor closed
        try:
            os.set_blocking(write, True)  # it is the service's now
            self._loop.watch(self._read, READ, self._listen)
        except OSError:
            self.close()
            os.close(write)
            return None
        return write, theirs

    def close(self) -> None:
        """The run has ended.  Not before: who goes on writing would die of it."""
        if self._read is not None:
            self._loop.forget(self._read)
            os.close(self._read)
            self._read = None

    def _listen(self, _):
        said = os.read(self._read, 4096)
        if b"\n" in said or not said:
            self._loop.forget(self._read)
        if b"\n" in said:
            self._is_ready()
