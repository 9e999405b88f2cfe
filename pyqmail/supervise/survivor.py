"""A process that its supervisor left behind: finding it again beyond doubt, and holding it."""

import _signal as signal
import os

from pyqmail.system.identity import begun
from pyqmail.system.loop import READ


class Survivor:
    """A process that is no child of ours, by a descriptor that no later process of its number can take over."""

    __slots__ = ("_fd",)

    def __init__(self, fd) -> None:
        self._fd = fd

    def signal(self, number: int) -> None:
        """Raises ProcessLookupError if it has ended."""
        signal.pidfd_send_signal(self._fd, number)

    def watch(self, loop, has_ended) -> None:
        """Call has_ended() once it has."""

        def ended(_):
            loop.forget(self._fd)
            os.close(self._fd)
            has_ended()

        loop.watch(self._fd, READ, ended)


def left_process(status, details) -> tuple[int, tuple | None]:
    """Return the pid of what ran when these files were written, run or a script, and when it began: None is unknown."""
    if details is None:
        return status.pid, None
    if status.pid == 0 and details.script is not None:
        return details.script[0], details.script[1:]
    return status.pid, details.begun


def find_survivor(left) -> Survivor | None:
    """Return the process that an earlier supervisor left running, or None.

    left: its status and details, or None.  That a process has the number of the files is not enough: it must have
    begun when the details say, in this very boot.
    """
    pid, identity = (0, None) if left is None else left_process(*left)
    fd = None if identity is None else hold(pid, identity)
    return None if fd is None else Survivor(fd)


def hold(pid: int, identity=None) -> int | None:
    """Return a descriptor of the process of that pid, to be read once it has ended; None: there is none.

    identity: when it began, see identity.begun(); another process of that number is none.  None: any will do.
    """
    if pid == 0:
        return None
    try:
        fd = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return None
    try:
        if identity is None or begun(pid) == identity:  # the descriptor is older than this look: of the same process
            return fd
    except (OSError, ValueError, IndexError):
        pass  # it ended meanwhile
    os.close(fd)
    return None
