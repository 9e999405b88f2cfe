"""A process that its supervisor left behind: finding it again beyond doubt, and holding it.

A pid proves nothing: the kernel gives it out again.  A pid with the time when its process began, in ticks of this boot,
names one process for ever, and a pidfd, opened before that time is compared, cannot come to mean another one.
"""

import _signal as signal
import os

from pyqmail.base.failure import Temporary, is_lack
from pyqmail.system.coroutines import READ
from pyqmail.system.process_start import begun

_NONE = (OSError, OverflowError, ValueError, IndexError)  # no such process, or it ended while we looked


class AdoptedProcess:
    """A process that is no child of ours, held by a descriptor that no later process of its pid can take over."""

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


def place_of(directory: str) -> tuple[int, int] | None:
    """Return device and inode, which tell a service's directory from a copy of it; None: it is missing."""
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def left_process(status, details, directory: str = ".") -> tuple[int, tuple | None]:
    """Return the pid of what ran when these files were written, run or a script, and when it began, None if unknown.

    pid 0: nothing; also if the files were copied here from another service's directory.
    """
    if details is None:
        return status.pid, None
    if details.place is not None and details.place != place_of(directory):
        return 0, None
    if status.pid == 0 and details.script is not None:
        return details.script[0], details.script[1:]
    return status.pid, details.begun


def adopt_process(left) -> AdoptedProcess | None:
    """Return the process that an earlier supervisor left running, or None.

    left: its status and details, or None.  That a process has the pid in the files is not enough: it must have
    begun when the details say, in this boot, in this directory, and its supervisor must be dead.  So a copy of a
    service's directory, however it was made, has a service of its own.  Raises Temporary if it cannot be looked for
    now: to assume that there is none would start a second copy.
    """
    pid, identity = (0, None) if left is None else left_process(*left)
    if pid == 0 or identity is None:
        return None
    details = left[1]
    if details.place is None or details.supervisor is None:
        return None
    try:
        if is_alive(*details.supervisor):
            return None
        fd = _hold(pid, identity)
    except _NONE as error:
        if isinstance(error, OSError) and is_lack(error):
            raise Temporary(f"unable to look for pid {pid}", error) from None
        return None
    return None if fd is None else AdoptedProcess(fd)


def is_alive(pid, ticks, boot):
    """Return whether the process of that pid that began then still runs.  Raises OSError if that cannot be known."""
    try:
        return begun(pid) == (ticks, boot)
    except (ProcessLookupError, FileNotFoundError, OverflowError, ValueError, IndexError):
        return False


def hold(pid: int, identity=None) -> int | None:
    """Return a descriptor of the process of that pid, readable once it has ended; None: there is none.

    identity: when it began, see process_start.begun(); a process that began at another time does not count.  None: any.
    """
    if pid == 0:
        return None
    try:
        return _hold(pid, identity)
    except _NONE:
        return None


def _hold(pid, identity):
    fd, is_it = os.pidfd_open(pid), False
    try:
        # begun() is asked after the descriptor is open, so both mean the same process
        is_it = identity is None or begun(pid) == identity
    finally:
        if not is_it:
            os.close(fd)
    return fd if is_it else None
