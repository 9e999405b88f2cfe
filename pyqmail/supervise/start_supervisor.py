"""Starting a supervisor for a service or its log: ours in a forked copy of this process, or a program by exec.

The forked copy has what exec would have left it: descriptors 0, 1 and 2, those we were started with, and none of our
own.  If another service's pipe stayed open there, that service's log would never read the end.
"""

import _signal as signal
import os
import resource

from pyqmail.base.failure import reason
from pyqmail.supervise.scanner import warn
from pyqmail.system import processes
from pyqmail.system.descriptors import open_descriptors
from pyqmail.system.title import show_in_fork, words_place

# signals that a scanner may have handlers for
_HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPWR)
_SPARE_DESCRIPTORS = 8  # if pipes took all of them, we could not even read the directory


class DescriptorLimit:
    """How many descriptors we may open, raised when many services need them; our children get the old limit."""

    def __init__(self) -> None:
        self._before: tuple[int, int] | None = None

    def allow_more(self) -> bool:
        """Raise the soft limit to the hard one; return whether that is more than before."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == hard:
            return False
        self._before = self._before or (soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return True

    def has_room_above(self, fd: int) -> bool:
        """Return whether, with all up to fd in use, enough are left to go on working."""
        return fd + _SPARE_DESCRIPTORS < resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def restore(self) -> None:
        """In a forked child: set the limit that we were started with."""
        if self._before is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._before)


class SupervisorStarter:
    """Starts supervisors.

    supervise   our own supervisor: called with a directory and the environment, or None to exec program
    program     what to look for in PATH
    loop        the loop that a forked copy gives up
    kept        descriptors above 2 that our children inherit, see inherited_descriptors()
    is_apart    give each supervisor and its service a process group of their own
    """

    def __init__(self, supervise, program, loop, descriptor_limit, kept=(), is_apart=False):
        self._supervise, self._program, self._loop = supervise, program, loop
        self._environ, self._words_place = dict(os.environb), words_place()
        self._limit, self._kept, self._is_apart = descriptor_limit, kept, is_apart

    def __call__(self, name: bytes, is_log: bool, theirs: tuple[int, int] | None) -> int:
        """Start a supervisor of the directory name, or of log in it; return its pid.  Raises OSError.

        theirs: our end of the log's pipe and the descriptor it becomes, or None.
        """
        # a signal to the child must not meet our handlers, which it still has
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        shown = os.fsdecode(name)
        try:
            pid = processes.fork(lambda: self._child(name, shown, is_log, theirs, mask))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if self._is_apart:
            _set_group(pid)  # here too, so that the group exists before we signal it
        return pid

    def _child(self, name, shown, is_log, theirs, mask):
        if self._is_apart:
            _set_group(0)
        self._loop.abandon_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            if theirs is not None:
                os.dup2(*theirs)
        except OSError as error:
            return _failed(f"unable to set up descriptors for {shown}", error)
        try:
            if is_log:
                os.chdir(name)
        except OSError as error:
            return _failed(f"unable to switch to {shown}", error)
        directory = "log" if is_log else shown
        if self._supervise is None:
            return self._execute(directory, shown, is_log)
        close_others(self._kept)
        self._limit.restore()
        show_in_fork([b"pysupervise", b"log" if is_log else name], self._words_place)
        return self._supervise(directory, self._environ)

    def _execute(self, directory, shown, is_log):
        self._limit.restore()
        processes.stop_ignoring()
        argv = [os.fsencode(self._program), os.fsencode(directory)]
        failure = processes.execute(argv, self._environ, self._environ.get(b"PATH"))
        return _failed(f"unable to start supervise {shown}" + ("/log" if is_log else ""), failure)


def inherited_descriptors() -> list[int]:
    """Return the descriptors above 2, sorted, that a program we exec would inherit."""
    kept = []
    for fd in open_descriptors():
        try:
            if fd > 2 and os.get_inheritable(fd):
                kept.append(fd)
        except OSError:
            pass  # the descriptor that read the list, or a closed one
    return kept


def close_others(kept) -> None:
    """Close every descriptor above 2 that is not in kept, a sorted list."""
    low = 3
    for fd in kept:
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _failed(text, error):
    warn(f"{text}: {reason(error)}")
    return 111


def _set_group(pid):
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass  # the other process was first
