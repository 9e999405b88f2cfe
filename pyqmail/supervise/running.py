"""Starting the programs in a service's directory, and finding the one that an earlier supervisor has left."""

import _signal as signal
import errno
import os

from pyqmail.base.failure import reason
from pyqmail.supervise.folder import warn
from pyqmail.supervise.settings import is_program
from pyqmail.system.descriptors import log
from pyqmail.system.identity import begun
from pyqmail.system.loop import READ

_NOT_NOW = (errno.EAGAIN, errno.ENOMEM)
# the two the interpreter ignores, and the one we handle; every other signal is the service's to inherit
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)


class NoProcess(Exception):
    """The system has no process to give; this was said, and it will be tried again."""


class Unfit(Exception):
    """The program cannot be executed; this was said."""


def spawn(argv: list, environ: dict, directory: str, descriptor: tuple[int, int] | None = None) -> int:
    """Start a program of the working directory; return its pid.  Raises NoProcess or Unfit.

    environ: no os.environb, which would be walked in Python.  descriptor: (ours, its number there), or None.
    """
    actions = [(os.POSIX_SPAWN_DUP2, *descriptor)] if descriptor else ()
    try:
        # straight from exec: no shell, no PATH, what we inherited and nothing of our own
        return os.posix_spawn(argv[0], argv, environ, file_actions=actions, setsigdef=_DEFAULTED)
    except OSError as error:
        if error.errno in _NOT_NOW:
            warn(f"unable to fork for {directory}, sleeping 60 seconds: {reason(error)}")
            raise NoProcess from None
        log(f"supervise: fatal: unable to start {directory}/{argv[0][2:]}: {reason(error)}")
        raise Unfit from None


def spawn_notify(environ: dict, script: str, event: str, pid: int, code: int) -> None:
    """Start ./notify, if there is one; nobody waits for it.  Source: daemontools-encore"""
    if is_program("notify"):
        argv = ["./notify", script, event, str(pid), str(code)]
        try:
            os.posix_spawn(argv[0], argv, environ, setsigdef=_DEFAULTED)
        except OSError as error:
            warn(f"unable to start notify: {reason(error)}")


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


def find_survivor(left) -> Survivor | None:
    """Return the process that an earlier supervisor left running, or None.

    left: its status and details, or None.  That a process has the number of the status is not enough: it must have
    begun when the details say, in this very boot.
    """
    if left is None or left[0].pid == 0 or left[1].begun is None:
        return None
    status, details = left
    try:
        fd = os.pidfd_open(status.pid)
    except OSError:
        return None
    try:
        if begun(status.pid) == details.begun:  # the descriptor is older than this look: it is of the same process
            return Survivor(fd)
    except (OSError, ValueError, IndexError):
        pass  # it ended meanwhile
    os.close(fd)
    return None
