"""Starting the programs in a service's directory."""

import _signal as signal
import errno
import os

from pyqmail.base.failure import reason
from pyqmail.supervise.settings import is_program
from pyqmail.supervise.supervise_dir import LABEL, warn
from pyqmail.system.descriptors import log

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
        log(f"{LABEL}: fatal: unable to start {directory}/{argv[0][2:]}: {reason(error)}")
        raise Unfit from None


def spawn_notify(environ: dict, script: str, event: str, pid: int, code: int) -> None:
    """Start ./notify, if there is one; nobody waits for it.  Source: daemontools-encore"""
    if is_program("notify"):
        argv = ["./notify", script, event, str(pid), str(code)]
        try:
            os.posix_spawn(argv[0], argv, environ, setsigdef=_DEFAULTED)
        except OSError as error:
            warn(f"unable to start notify: {reason(error)}")
