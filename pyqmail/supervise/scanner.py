"""Scanning a directory of services, and keeping a supervisor on each, and on its log.

A service is known by device and inode of its directory, not by its name.  If it has a `log` when it is first
seen, its descriptor 1 and the log's descriptor 0 are one pipe, of which we hold both ends, so that neither
side's restart loses a line.

How a supervisor is started, and what to do when descriptors run out, is given from outside: see starting.py.
"""

import errno
import os
import signal
import stat

from pyqmail.base.failure import reason
from pyqmail.system.descriptors import log

SECONDS = 5.0
LONGEST_LOGGED_NAME = 255
SERVICE, LOG = PARTS = 0, 1


class Slot:
    """One service: its name in the last pass, and the pids of its supervisor and its log's; 0 is none.

    pipe: (read, write) if it is logged, else None.
    """

    __slots__ = ("identity", "name", "pids", "pipe", "is_present")

    def __init__(self, identity, name, pipe):
        self.identity, self.name, self.pipe = identity, name, pipe
        self.pids = [0, 0]
        self.is_present = True

    def folder(self, part: int) -> bytes:
        """Return the directory of the service or of its log."""
        return self.name if part == SERVICE else self.name + b"/log"

    def close_pipe(self):
        """Let go of the pipe: its log sees the end of file once the service is gone."""
        pipe, self.pipe = self.pipe, None
        for fd in pipe or ():
            os.close(fd)


class Scanner:
    """Looks at the working directory.  slots: what is known now, identity -> Slot, in the order found.

    ends_orphans: a service whose supervisor was killed is told to end, with all of their process group.
    """

    def __init__(self, supervise, descriptors, ends_orphans=False) -> None:
        self._supervise, self._descriptors, self._ends_orphans = supervise, descriptors, ends_orphans
        self.slots = {}

    def scan(self) -> None:
        """Make one pass: reap, look at every name, start what does not run, free what has gone."""
        self.reap()
        if not self.look():
            return
        for slot in self.slots.values():
            if slot.is_present:
                self._start(slot)
        self._free()

    def look(self) -> bool:
        """Find the services that are there now; start nothing.  Returns whether the directory could be read."""
        for slot in self.slots.values():
            slot.is_present = False
        try:
            with os.scandir(b".") as entries:
                names = [entry.name for entry in entries]
        except OSError as error:
            warn("unable to read directory", error)
            return False
        for name in names:
            if not name.startswith(b"."):
                self._see(name)
        return True

    def reap(self) -> None:
        """Reap all children that have ended; a supervisor's slot is free then."""
        by_pid = {pid: (slot, part) for slot in self.slots.values() for part, pid in enumerate(slot.pids) if pid}
        while True:
            try:
                # looked at before it is reaped: until then nobody else can get its number
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            slot, part = by_pid.get(ended.si_pid, (None, None))
            if slot is not None:
                slot.pids[part] = 0
                if self._ends_orphans and ended.si_code != os.CLD_EXITED:
                    self._end_group(slot.folder(part), ended.si_pid)
            os.waitpid(ended.si_pid, 0)

    def close(self) -> None:
        """Let go of every service and its pipe; the next look finds them anew."""
        for slot in self.slots.values():
            slot.close_pipe()
        self.slots.clear()

    def _end_group(self, folder, group):
        log(f"svscan: warning: supervise {os.fsdecode(folder)} was killed, ending its service")
        for number in (signal.SIGTERM, signal.SIGCONT):
            try:
                os.killpg(group, number)
            except (ProcessLookupError, PermissionError):
                return

    def _see(self, name):
        try:
            found = os.stat(name)
        except OSError as error:
            return warn(f"unable to stat {os.fsdecode(name)}", error)
        if not stat.S_ISDIR(found.st_mode):
            return None
        identity = (found.st_dev, found.st_ino)
        slot = self.slots.get(identity)
        if slot is None:
            return self._admit(identity, name)
        if not slot.is_present:  # a second name for the same directory is of no interest
            slot.is_present, slot.name = True, name
        return None

    def _admit(self, identity, name):
        try:
            pipe = self._make_pipe() if _has_log(name) else None
        except _NoLog as problem:
            return warn(f"unable to stat {os.fsdecode(name)}/log", problem.error)
        except OSError as error:
            return warn(f"unable to create pipe for {os.fsdecode(name)}", error)
        self.slots[identity] = Slot(identity, name, pipe)
        return None

    def _make_pipe(self):
        try:
            return os.pipe()
        except OSError as error:
            if error.errno != errno.EMFILE or not self._descriptors.allow_more():
                raise
        return os.pipe()

    def _start(self, slot):
        parts = ((SERVICE, 1),) if slot.pipe is None else ((SERVICE, 1), (LOG, 0))
        for part, descriptor in parts:
            if slot.pids[part]:
                continue
            theirs = None if slot.pipe is None else (slot.pipe[descriptor], descriptor)
            try:
                slot.pids[part] = self._supervise(slot.name, part == LOG, theirs)
            except OSError as error:
                warn(f"unable to fork for {os.fsdecode(slot.folder(part))}", error)

    def _free(self):
        for slot in [slot for slot in self.slots.values() if not slot.is_present and slot.pids == [0, 0]]:
            slot.close_pipe()
            del self.slots[slot.identity]


class _NoLog(Exception):
    def __init__(self, error):
        super().__init__()
        self.error = error


def _has_log(name):
    if len(name) > LONGEST_LOGGED_NAME:
        return False
    try:
        os.stat(name + b"/log")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _NoLog(error) from None
    return True


def warn(text: str, error: OSError) -> None:
    """Say what could not be done; the scanner goes on."""
    log(f"svscan: warning: {text}: {reason(error)}")
