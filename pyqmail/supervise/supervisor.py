"""The supervisor of one service: its files under supervise/, its process, and the loop between them.

Carries out the orders of service.py.  At rest it waits for two things, a byte in the control FIFO and the end of
a child, and touches nothing.  Every wake-up is one round: reap first, then take one command.
"""

import errno
import fcntl
import os
import signal
import stat

from pyqmail.base import tai
from pyqmail.base.failure import Temporary, reason
from pyqmail.supervise.service import ENDED, FRESH, LEAVE, LEFT, PAUSED, RESTED, START, STATUS, UP, Service
from pyqmail.supervise.status import WANT_DOWN, WANT_UP, pack_status
from pyqmail.system.descriptors import log
from pyqmail.system.loop import READ, Loop

DEAF_SECONDS = 1.02  # after each start, so that a service that ends at once is started once a second
NO_PROCESS_SECONDS = 60
_NOT_NOW = (errno.EAGAIN, errno.ENOMEM)


class Supervisor:
    """Supervises the service in directory, which is named in messages as it was given."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._pid = 0
        self._label = tai.now_label()
        self._is_within_round = False
        try:
            self._loop = Loop()
            self._loop.on_signal(signal.SIGCHLD, self._round)
        except OSError as error:
            raise Temporary(f"unable to create pipe for {directory}", error) from None
        # whoever ignored or blocked it: we are the one who must hear it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))

    def run(self) -> None:
        """Supervise until told to leave.  Raises Temporary if the directory is not fit for it."""
        self._enter()
        self._service = Service(WANT_DOWN if self._is_down_by_default() else WANT_UP)
        self._make_folder()
        self._lock()
        self._control = self._open_fifo("control")
        # open for writing too, or the FIFO would be at its end after the first writer
        self._open("control", os.O_WRONLY | os.O_NONBLOCK, "write")
        self._write_status()
        # ok comes after the status and before the start: whoever sees it may read the one and command the other
        self._open_fifo("ok")
        self._loop.watch(self._control, READ, self._round)
        self._follow(self._service.begin())
        self._loop.run()

    # the directory

    def _enter(self):
        try:
            os.chdir(self._directory)
        except OSError as error:
            raise Temporary(f"unable to chdir to {self._directory}", error) from None

    def _is_down_by_default(self):
        try:
            os.stat("down")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Temporary(f"unable to stat {self._directory}/down", error) from None
        return True

    def _make_folder(self):
        """Make supervise/, or what a symbolic link of that name points to (a patch of Debian's)."""
        try:
            os.mkdir("supervise", 0o700)
        except FileExistsError:
            if os.path.islink("supervise") and not os.path.exists("supervise"):
                _ignoring_errors(os.mkdir, os.readlink("supervise"), 0o700)
        except OSError:
            pass  # the lock will tell

    def _lock(self):
        path = f"{self._directory}/supervise/lock"
        try:
            lock = os.open("supervise/lock", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Temporary(f"unable to acquire {path}", error) from None

    def _open_fifo(self, name):
        """Return a descriptor reading a FIFO below supervise/, made if need be.

        Anything else of that name goes: nobody could command us through it, and the lock says it is ours.
        """
        path = f"supervise/{name}"
        try:
            if not stat.S_ISFIFO(os.stat(path).st_mode):
                os.unlink(path)
                self._warn(f"{self._directory}/{path} is no FIFO, making it anew")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Temporary(f"unable to read {self._directory}/{path}", error) from None
        _ignoring_errors(os.mkfifo, path, 0o600)
        return self._open(name, os.O_RDONLY | os.O_NONBLOCK, "read")

    def _open(self, name, flags, purpose):
        try:
            return os.open(f"supervise/{name}", flags)
        except OSError as error:
            raise Temporary(f"unable to {purpose} {self._directory}/supervise/{name}", error) from None

    # the rounds

    def _round(self, _=None):
        if self._service.state == FRESH:
            return  # deaf: the end of the deaf second comes back here
        self._reap()
        if self._service.state == FRESH:
            self._is_within_round = True  # deaf in the middle of it: the command is still due
        elif self._service.state != LEFT:
            self._take_command()

    def _take_command(self):
        try:
            command = os.read(self._control, 1)
        except BlockingIOError:
            return
        self._follow(self._service.receive(command))

    def _reap(self):
        """Reap every child that has ended; other children than the service are those we had before we began."""
        if self._pid == 0 and self._service.state == UP:
            self._has_ended()  # it could not be executed
        while self._service.state != FRESH:  # then the new process may have ended already: not to be heard yet
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._has_ended()

    def _has_ended(self):
        self._pid, self._label = 0, tai.now_label()
        self._follow(self._service.receive(ENDED))

    def _follow(self, orders):
        for order in orders:
            if order == STATUS:
                self._write_status()
            elif order == START:
                self._start()
            elif order == LEAVE:
                self._loop.stop()
            else:
                self._signal(getattr(signal, order))

    def _signal(self, number):
        if self._pid == 0:
            return  # it could not be executed; to kill, 0 means our own process group
        try:
            os.kill(self._pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # gone, or of a user out of our reach: as the original, no word about it

    # the process

    def _start(self):
        """Start ./run and be deaf for a second.  One that cannot be executed is one that ends at once."""
        try:
            # straight from exec: no shell, no PATH, what we inherited and nothing of our own
            self._pid = os.posix_spawn("./run", ["./run"], os.environb, setsigdef=_DEFAULTED)
        except OSError as error:
            if error.errno in _NOT_NOW:
                self._warn(f"unable to fork for {self._directory}, sleeping {NO_PROCESS_SECONDS} seconds", error)
                self._rest(NO_PROCESS_SECONDS, self._start)
                return
            log(f"supervise: fatal: unable to start {self._directory}/run: {reason(error)}")
            self._pid = 0
        self._label = tai.now_label()
        self._write_status()
        self._rest(DEAF_SECONDS, self._rested)

    def _rest(self, seconds, work):
        self._loop.forget(self._control)
        self._loop.after(seconds, work)

    def _rested(self):
        self._loop.watch(self._control, READ, self._round)
        self._follow(self._service.receive(RESTED))
        if self._is_within_round:
            self._is_within_round = False
            self._take_command()  # else a service that ends at once would never let us hear one
        self._loop.soon(self._round)

    # the status

    def _write_status(self):
        """Replace supervise/status; whoever reads it sees the old 18 bytes or the new."""
        new = f"{self._directory}/supervise/status.new"
        data = pack_status(self._label, self._pid, self._service.state == PAUSED, self._service.wish)
        try:
            fd = os.open("supervise/status.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o644)
        except OSError as error:
            return self._warn(f"unable to open {new}", error)
        try:
            if os.write(fd, data) != len(data):
                return self._warn(f"unable to write {new}: partial write")
        except OSError as error:
            return self._warn(f"unable to write {new}", error)
        finally:
            os.close(fd)
        try:
            os.rename("supervise/status.new", "supervise/status")
        except OSError as error:
            self._warn(f"unable to rename {new} to status", error)

    def _warn(self, text, error=None):
        log(f"supervise: warning: {text}" + (f": {reason(error)}" if error else ""))


# the two the interpreter ignores, and the one we handle; every other signal is the service's to inherit
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)


def _ignoring_errors(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        pass
