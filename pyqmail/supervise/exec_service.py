"""Starting the programs in a service's directory, and the pipe on which run reports that it is ready."""

import _signal as signal
import errno
import os

from pyqmail.base.failure import reason
from pyqmail.supervise.settings import is_program, number
from pyqmail.supervise.supervise_dir import LABEL, warn
from pyqmail.system.coroutines import READ
from pyqmail.system.descriptors import log

_NO_DESCRIPTOR, _MIN_DESCRIPTOR = -1, 3
_NOT_NOW = (errno.EAGAIN, errno.ENOMEM)
# the two the interpreter ignores, and the one we handle; every other signal is the service's to inherit
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)


class NoProcess(Exception):
    """The system has no room for another process.  This was reported; try again later."""


class Unfit(Exception):
    """The program cannot be executed.  This was reported."""


def spawn(argv: list, environ: dict, directory: str, descriptor: tuple[int, int] | None = None) -> int:
    """Start a program of the working directory; return its pid.  Raises NoProcess or Unfit.

    environ: a plain dict; os.environb would be copied item by item in Python.  descriptor: (ours, its number there).
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
    """Start ./notify, if there is one, and do not wait for it.  Source: daemontools-encore"""
    if is_program("notify"):
        argv = ["./notify", script, event, str(pid), str(code)]
        try:
            os.posix_spawn(argv[0], argv, environ, setsigdef=_DEFAULTED)
        except OSError as error:
            warn(f"unable to start notify: {reason(error)}")


class Readiness:
    """The pipe from one run at a time to us; calls is_ready() once, when its first line end arrives.

    Source: s6's notification-fd
    """

    __slots__ = ("_loop", "_is_ready", "_complain", "_read")

    def __init__(self, loop, is_ready, complain) -> None:
        self._loop, self._is_ready, self._complain = loop, is_ready, complain
        self._read: int | None = None

    def open(self) -> tuple[int, int] | None:
        """Before a run: return (end to give it, its number there), or None if it wants none or none can be made.

        The end is to be closed after the start.
        """
        self.close()
        theirs = self._wanted_descriptor()
        if theirs is None:
            return None
        try:
            self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None  # then the service finds that descriptor closed
        try:
            os.set_blocking(write, True)  # it is the service's now
            self._loop.watch(self._read, READ, self._listen)
        except OSError:
            self.close()
            os.close(write)
            return None
        return write, theirs

    def _wanted_descriptor(self):
        theirs = number("notification-fd", _NO_DESCRIPTOR, self._complain)
        if theirs == _NO_DESCRIPTOR:
            return None
        if _MIN_DESCRIPTOR <= theirs < os.sysconf("SC_OPEN_MAX"):
            return theirs
        return self._complain("notification-fd", str(theirs))

    def close(self) -> None:
        """The run has ended.  Not before: a service that writes again would die of SIGPIPE."""
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
