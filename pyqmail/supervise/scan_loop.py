"""The life of svscan: a pass at once, and one whenever something has changed, for ever or until told to stop.

What changes is a name (the kernel gives notice), or a supervisor that ends (SIGCHLD).  At rest there is no timer.
Where the kernel has no notices to give, or something is wrong that may get better, there is a pass every five seconds.
"""

import _signal as signal
import fcntl
import gc
import os
import time

from pyqmail.base.failure import Temporary
from pyqmail.supervise.control import is_supervised, open_lock
from pyqmail.supervise.inotify_paths import InotifyPaths, Watching
from pyqmail.supervise.safety import risks
from pyqmail.supervise.scanner import Scanner
from pyqmail.supervise.start_supervisor import DescriptorLimit, SupervisorStarter, inherited_descriptors
from pyqmail.supervise.stopping import Stopping
from pyqmail.system.files import Changeable
from pyqmail.system.inotify import Inotify
from pyqmail.system.loop import READ, Loop, Promise
from pyqmail.system.subreaper import adopt_orphans, children

PAUSE_SECONDS = 0.1  # between passes at least: changes come in crowds
STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# the first process has no default actions; QUIT and PWR are how some containers are told to stop
STOPPING_SIGNALS_OF_FIRST = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPWR)


def keep_scanning(supervise, program: str, stop_seconds: float | None, place: bytes | None) -> None:
    """Scan the working directory.  Returns only if stop_seconds is given, when everything is down.

    supervise: our own supervisor, forked; None: program is executed.  place: see Ground.
    Raises Temporary if stop_seconds is given and another scanner of ours is here: its services would be stopped first,
    as if it had been killed.
    """
    kept = inherited_descriptors()
    if not _is_alone() and stop_seconds is not None:
        raise Temporary("another svscan is in this directory")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    loop, limit, notices = _loop(), DescriptorLimit(), _notices()
    is_stoppable = stop_seconds is not None
    starter = SupervisorStarter(supervise, program, loop, limit, kept, is_apart=is_stoppable)
    scanner = Scanner(starter, limit, is_stoppable, Watching(notices), InotifyPaths(place), find_risks=_find_risks)
    scanning = ScanLoop(loop, scanner, notices)
    gc.freeze()  # what is imported by now is shared with every supervisor
    if is_stoppable:
        _scan_until_told(loop, scanner, scanning, stop_seconds)
    else:
        scanning.begin()
        loop.run()


def _find_risks():
    """Return what finds the risks of a service's directory in one pass: none, unless we are root."""
    if os.geteuid():
        return lambda _: ()
    changeable = Changeable()
    return lambda directory: risks(directory, changeable)


def _is_alone():
    """Return whether no other scanner is here; for as long as this one lives, the next one sees it.

    The lock is one that nobody else can hold: on a file that only its owner can open, not on the directory.
    """
    try:
        fcntl.flock(open_lock(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # no descriptor left, a directory not to be written to, no locks here; as the original, which never asks
    return True


def _loop():
    """Return a loop that hears signals already: its descriptors are had now or never."""
    try:
        loop = Loop()
        loop.on_signal(signal.SIGCHLD, lambda: None)
    except OSError as error:
        raise Temporary("unable to create pipe", error) from None
    return loop


def _notices():
    try:
        return Inotify()
    except OSError:
        return None


class ScanLoop:
    """Passes of a scanner: the first at begin(), none after end()."""

    def __init__(self, loop, scanner, notices) -> None:
        self._loop, self._scanner, self._notices = loop, scanner, notices
        self._timer, self._last, self._is_on = None, 0.0, False

    def begin(self) -> None:
        self._is_on = True
        self._loop.on_signal(signal.SIGCHLD, self._child_ended)
        if self._notices is not None:
            try:
                self._loop.watch(self._notices.fileno(), READ, self._changed)
            except OSError as error:
                raise Temporary("unable to watch directory", error) from None
        self._pass()

    def hurry(self) -> None:
        """Make a pass at once, or a moment after the last one."""
        if self._is_on:
            self._at(max(time.monotonic(), self._last + PAUSE_SECONDS))

    def end(self) -> None:
        self._is_on = False
        if self._notices is not None:
            self._loop.forget(self._notices.fileno())
        if self._timer is not None:
            self._timer.cancel()

    def _child_ended(self):
        if self._scanner.reap():
            self.hurry()

    def _changed(self, _):
        if self._notices.take():
            self.hurry()

    def _at(self, when):
        if self._timer is None or self._timer.when is None:
            self._timer = self._loop.at(when, self._pass)
        elif when < self._timer.when:
            self._timer.move(when)

    def _pass(self):
        due = self._scanner.scan()
        self._last = time.monotonic()
        if due is not None:
            self._at(max(due, self._last + PAUSE_SECONDS))


def _scan_until_told(loop, scanner, scanning, stop_seconds):
    is_first = os.getpid() == 1
    adopt_orphans()
    told = Promise()
    for number in STOPPING_SIGNALS_OF_FIRST if is_first else STOPPING_SIGNALS:
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            loop.on_signal(number, told.keep)
    if is_first:
        loop.on_signal(signal.SIGHUP, scanning.hurry)
    life = loop.start(_live(loop, scanner, scanning, stop_seconds, told))
    life.promise.then(lambda _: loop.stop())
    loop.run()
    if life.promise.error is not None:
        raise life.promise.error


async def _live(loop, scanner, scanning, stop_seconds, told):
    await loop.sleep(0)  # what its first step raised would be told as asked for by nobody, and stop nothing
    if _is_any_supervised():
        scanner.look()
        await Stopping(loop, scanner, children, stop_seconds).run()
        scanner.close()
    if not told.done:
        scanning.begin()
    await told
    scanning.end()
    await Stopping(loop, scanner, children, stop_seconds).run()


def _is_any_supervised():
    """Return whether there are supervisors here that an earlier scanner has left."""
    try:
        names = [name for name in os.listdir(".") if not name.startswith(".")]
    except OSError:
        return False  # the first pass will say so
    return any(is_supervised(folder) for name in names for folder in (name, f"{name}/log"))
