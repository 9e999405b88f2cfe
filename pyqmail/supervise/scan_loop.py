"""The life of svscan: a pass at once, and one whenever something has changed, for ever or until commanded to stop.

    a name changes (inotify)   --+
    a supervisor ends (SIGCHLD) -+--> scan_soon() --> a pass, PAUSE_SECONDS after the last one at the earliest
    the pass asked for another --+

At rest there is no timer and no wake-up.  That is safe only because every change makes an event, so where the kernel
gives no notices, or something is wrong that may get better, each pass asks for another one five seconds later.

With stop_seconds the scanner adopts orphans and ends with its services.  Supervisors that an earlier scanner left
here are brought down first, since nobody holds their pipes or reaps them.  Without, it dies of a signal like
the original and leaves everything running.
"""

import _signal as signal
import fcntl
import os
import time

from pyqmail.base.failure import Temporary
from pyqmail.supervise.control import is_supervised, open_lock
from pyqmail.supervise.inotify_paths import InotifyPaths, Watching
from pyqmail.supervise.scanner import Scanner
from pyqmail.supervise.start_supervisor import DescriptorLimit, SupervisorStarter, inherited_descriptors
from pyqmail.supervise.stopping import Stopping
from pyqmail.system.coroutines import READ, Promise
from pyqmail.system.inotify import Inotify
from pyqmail.system.loop import Loop
from pyqmail.system.shared_pages import share_with_forks
from pyqmail.system.subreaper import adopt_orphans, children

PAUSE_SECONDS = 0.1  # minimum between passes: changes come in bursts
STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# the first process has no default actions for signals; some containers are stopped by QUIT or PWR
STOPPING_SIGNALS_OF_FIRST = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPWR)


def keep_scanning(supervise, program: str, stop_seconds: float | None, path: bytes | None) -> None:
    """Scan the working directory.  Returns only if stop_seconds is given, when everything is down.

    supervise: our own supervisor, forked; None: program is executed.  path: see InotifyPaths.
    Raises Temporary if stop_seconds is given and another scanner of ours is here: we would stop its services first, as
    if it had been killed.
    """
    kept = inherited_descriptors()
    if not _is_alone() and stop_seconds is not None:
        raise Temporary("another svscan is in this directory")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    loop, limit, inotify = _loop(), DescriptorLimit(), _inotify()
    is_stoppable = stop_seconds is not None
    starter = SupervisorStarter(supervise, program, loop, limit, kept, is_apart=is_stoppable)
    scanner = Scanner(starter, limit, is_stoppable, Watching(inotify), InotifyPaths(path), find_risks=_risk_finder())
    scanning = ScanLoop(loop, scanner, inotify)
    share_with_forks(supervise)
    if is_stoppable:
        _scan_until_stopped(loop, scanner, scanning, stop_seconds)
    else:
        scanning.begin()
        loop.run()


def _risk_finder():
    """Return a function that gives each pass what finds the risks of a service's directory; none unless we are root."""
    if os.geteuid():
        return lambda: lambda _: ()
    from pyqmail.supervise.safety import risks
    from pyqmail.system.files import Changeable

    def find():
        changeable = Changeable()
        return lambda directory: risks(directory, changeable)

    return find


def _is_alone():
    """Return whether no other scanner is here; as long as this process lives, the next one gets False.

    The lock is on a file that only its owner can open, not on the directory: nobody else can hold it.
    """
    try:
        fcntl.flock(open_lock(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # no descriptor, no right to write, no locks here: go on like the original, which never checks
    return True


def _loop():
    """Return a loop that handles signals already: its descriptors must be there before services take them all."""
    try:
        loop = Loop()
        loop.on_signal(signal.SIGCHLD, lambda: None)
    except OSError as error:
        raise Temporary("unable to create pipe", error) from None
    return loop


def _inotify():
    try:
        return Inotify()
    except OSError:
        return None


class ScanLoop:
    """Passes of a scanner: the first at begin(), none after end()."""

    def __init__(self, loop, scanner, inotify) -> None:
        self._loop, self._scanner, self._inotify = loop, scanner, inotify
        self._timer, self._last, self._is_on = None, 0.0, False

    def begin(self) -> None:
        self._is_on = True
        self._loop.on_signal(signal.SIGCHLD, self._child_ended)
        if self._inotify is not None:
            try:
                self._loop.watch(self._inotify.fileno(), READ, self._changed)
            except OSError as error:
                raise Temporary("unable to watch directory", error) from None
        self._pass()

    def scan_soon(self) -> None:
        """Make a pass at once, or a moment after the last one."""
        if self._is_on:
            self._at(max(time.monotonic(), self._last + PAUSE_SECONDS))

    def end(self) -> None:
        self._is_on = False
        if self._inotify is not None:
            self._loop.forget(self._inotify.fileno())
        if self._timer is not None:
            self._timer.cancel()

    def _child_ended(self):
        if self._scanner.reap():
            self.scan_soon()

    def _changed(self, _):
        if self._inotify.take():
            self.scan_soon()

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


def _scan_until_stopped(loop, scanner, scanning, stop_seconds):
    is_first = os.getpid() == 1
    adopt_orphans()
    is_stopping = Promise()
    for number in STOPPING_SIGNALS_OF_FIRST if is_first else STOPPING_SIGNALS:
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            loop.on_signal(number, is_stopping.keep)
    if is_first:
        loop.on_signal(signal.SIGHUP, scanning.scan_soon)
    life = loop.start(_live(loop, scanner, scanning, stop_seconds, is_stopping))
    life.promise.then(lambda _: loop.stop())
    loop.run()
    if life.promise.error is not None:
        raise life.promise.error


async def _live(loop, scanner, scanning, stop_seconds, is_stopping):
    await loop.sleep(0)  # an exception before the first suspension would be printed, and would not stop the loop
    if _is_any_supervised():
        scanner.look()
        await Stopping(loop, scanner, children, stop_seconds).run()
        scanner.close()
    if not is_stopping.done:
        scanning.begin()
    await is_stopping
    scanning.end()
    await Stopping(loop, scanner, children, stop_seconds).run()


def _is_any_supervised():
    """Return whether an earlier scanner has left supervisors here."""
    try:
        names = [name for name in os.listdir(".") if not name.startswith(".")]
    except OSError:
        return False  # the first pass will report it
    return any(is_supervised(folder) for name in names for folder in (name, f"{name}/log"))
