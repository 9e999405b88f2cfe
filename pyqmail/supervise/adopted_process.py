"""A process that its supervisor left behind: finding it again beyond doubt, and holding it."""

import _signal as signal
import os

from pyqmail.base.failure import Temporary, is_lack
from pyqmail.system.loop import READ
from pyqmail.system.process_start import begun

_NONE = (OSError, OverflowError, ValueError, IndexError)  # no such process, or it ended while we looked


class AdoptedProcess:
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


def place_of(directory: str) -> tuple[int, int] | None:
    """Return what tells a service's directory from a copy of it: device and inode.  None: it is not there."""
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def left_process(status, details, directory: str = ".") -> tuple[int, tuple | None]:
    """Return the pid of what ran when these files were written, run or a script, and when it began: None is unknown.

    pid 0: nothing; nor did anything run in a directory that the files were only copied to, from another service.
    """
    if details is None:
        return status.pid, None
    if details.place is not None and details.place != place_of(directory):
        return 0, None
    if status.pid == 0 and details.script is not None:
        return details.script[0], details.script[1:]
    return status.pid, details.begun


def find_survivor(left) -> AdoptedProcess | None:
    """Return the process that an earlier supervisor left running, or None.

    left: its status and details, or None.  That a process has the number of the files is not enough: it must have
    begun when the details say, in this very boot, in this very directory, and its supervisor must be dead: a copy of a
    service's directory, made in whatever way, has a service of its own.  Raises Temporary if it cannot be looked for
    now: to believe that there is none would mean to start a second copy.
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
    """Return a descriptor of the process of that pid, to be read once it has ended; None: there is none.

    identity: when it began, see identity.begun(); another process of that number is none.  None: any will do.
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
        # the descriptor is older than this look, which is of the same process then
        is_it = identity is None or begun(pid) == identity
    finally:
        if not is_it:
            os.close(fd)
    return fd if is_it else None
