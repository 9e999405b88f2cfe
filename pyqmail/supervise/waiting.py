"""Waiting until services are up, ready or down, without polling.

What wakes us: a status or details that is replaced, the reader of the FIFO ok that goes away, the end of a
process that has lost its supervisor, another directory with the service's name.  Only where the kernel gives no notices
do we look once a second.

Each is watched before it is looked at, so a change between the look and the wait is not missed.
"""

import os
import select
import time

from pyqmail.base.failure import Temporary
from pyqmail.supervise.adopted_process import hold, left_process
from pyqmail.supervise.control import NOT_RUNNING, open_ok, supervise_path
from pyqmail.supervise.details import details_of
from pyqmail.supervise.service import DOWN, FAILED, LEFT
from pyqmail.supervise.status import ONCE, STATUS_BYTES, WANT_DOWN, Status
from pyqmail.system.descriptors import read_file
from pyqmail.system.inotify import Inotify

UP, READY, REALLY_DOWN = "up", "ready", "down"
_LOOK_SECONDS = 1.0
_MAX_SECONDS = 86400.0  # of one wait: poll(2) accepts at most 24 days


class Waiter:
    """Waits for services.  directories as given; wanted: UP, READY or REALLY_DOWN.  Raises Temporary."""

    def __init__(self, directories, wanted: str) -> None:
        self._inotify: Inotify | None
        try:
            self._inotify = Inotify()
        except OSError:
            self._inotify = None
        self._is_blind = self._inotify is None
        self._poll = select.poll()
        if self._inotify is not None:
            self._poll.register(self._inotify.fileno(), select.POLLIN)
        self._wanted = wanted
        self._watched = [_Watched(directory, self._poll) for directory in directories]

    def wait(self, seconds: float | None, is_any: bool) -> bool:
        """Return True once all services (is_any: one) are as wanted at the same moment, False after so many seconds."""
        limit = None if seconds is None else time.monotonic() + seconds
        enough = any if is_any else all
        while True:
            self._is_blind = self._inotify is None
            if enough([self._is_as_wanted(watched) for watched in self._watched]):
                return True
            left = _MAX_SECONDS if limit is None else limit - time.monotonic()
            if left <= 0:
                return False
            self._poll.poll(min(left, _LOOK_SECONDS if self._is_blind else _MAX_SECONDS) * 1000)
            if self._inotify is not None:
                self._inotify.take()

    def _is_as_wanted(self, watched):
        if self._inotify is not None and not watched.watch_files(self._inotify):
            self._is_blind = True
        return watched.is_as(self._wanted)


class _Watched:
    """One service: what is known of it now, and what would wake us."""

    def __init__(self, directory, poll):
        self._directory, self._poll = directory, poll
        self._ok = self._process = None
        try:
            os.stat(os.path.join(directory, ""))  # with a slash: nothing but a directory will do
        except OSError as error:
            raise Temporary(f"unable to chdir to {directory}", error) from None

    def watch_files(self, inotify):
        """Watch the supervisor's folder, or the one above it until it is made; return whether notices will come.

        Also watch where the service has its name, which another directory may get.
        """
        try:
            inotify.watch(os.path.dirname(os.path.abspath(self._directory)))
        except OSError:
            return False
        folder = os.path.realpath(supervise_path(self._directory))
        for _ in range(2):  # it may be made before the one above is watched
            try:
                inotify.watch(folder)
                return True
            except FileNotFoundError:
                pass
            except OSError:
                return False
            try:
                inotify.watch(os.path.dirname(folder))
            except OSError:
                return False
        return True

    def is_as(self, wanted):
        is_supervised = self._hold_ok()  # before the status: a later replacement of that wakes us
        try:
            status = Status(read_file(f"{supervise_path(self._directory)}/status", STATUS_BYTES))
        except (FileNotFoundError, ValueError):
            return wanted == REALLY_DOWN and not is_supervised
        except OSError as error:
            raise Temporary(f"unable to read {supervise_path(self._directory)}/status", error) from None
        details = details_of(status, supervise_path(self._directory))
        if not is_supervised:
            return wanted == REALLY_DOWN and not self._is_left_running(*left_process(status, details, self._directory))
        if wanted == REALLY_DOWN:
            if details is None or details.state is None:
                return status.pid == 0 and status.wish in (WANT_DOWN, ONCE)
            return status.pid == 0 and details.state in (DOWN, FAILED, LEFT)
        if status.pid == 0:
            return False
        return wanted == UP or not self._tells_ready() or (details is not None and details.ready is not None)

    def _tells_ready(self):
        return os.path.exists(f"{self._directory}/notification-fd")

    def _hold_ok(self):
        """Return whether a supervisor is there; hold the FIFO, so that its end wakes us."""
        path = f"{supervise_path(self._directory)}/ok"
        if self._ok is not None and (_is_broken(self._ok) or _is_another(self._ok, path)):
            self._poll.unregister(self._ok)
            os.close(self._ok)
            self._ok = None
        if self._ok is None:
            try:
                self._ok = open_ok(self._directory)
            except OSError as error:
                if error.errno in NOT_RUNNING:
                    return False
                raise Temporary(f"unable to open {supervise_path(self._directory)}/ok", error) from None
            self._poll.register(self._ok, 0)
        return True

    def _is_left_running(self, pid, begun):
        """Return whether that process, left by a supervisor that was killed, still runs; its end wakes us.

        begun: when it began; None if that is unknown, then any process of that pid counts.
        """
        if self._process is None:
            self._process = hold(pid, begun)
            if self._process is None:
                return False
            self._poll.register(self._process, select.POLLIN)
        if _is_broken(self._process):
            self._poll.unregister(self._process)
            os.close(self._process)
            self._process = None
        return self._process is not None


def _is_another(fd, path):
    """Return whether the path now leads to another file than the open one; one that was removed may still be in use."""
    try:
        return not os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


def _is_broken(fd):
    """Return whether the other side of a FIFO, or a process, is gone."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
