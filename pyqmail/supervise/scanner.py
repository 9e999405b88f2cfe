"""Scanning a directory of services, and keeping a supervisor on each, and on its log.

    a pass:   reap --> look at every name --> start what does not run --> free what has gone --> when to scan again

What is kept true:

- A service is known by device and inode of its directory, not by its name.  So a rename restarts nothing, two names
  for one directory are one service, and a new directory under an old name is a new service beside the old one.
- If it has a `log` when it is first seen, its descriptor 1 and the log's descriptor 0 are one pipe.  The scanner
  holds both ends for as long as it knows the service, so neither side's restart loses a line, and a log reads an end
  of file only if the scanner lets go of the writing end.
- A slot outlives its name: while a supervisor is there, the service goes on, and its pipe stays.  A slot is freed
  once its name has gone and neither supervisor runs.
- A child is looked at before it is reaped: until then nobody else gets its pid, and what is left of its process group
  can be signalled.
- Trouble never ends the scanner.  It is a warning, one of its kind in five seconds, and another pass.

When to make the next pass is known after each.  How a supervisor is started, what to do when descriptors run out, and
how changes are noticed is given from outside: see start_supervisor.py and inotify_paths.py.
"""

import _signal as signal
import errno
import fcntl
import os
import stat
import sys
import termios
import time

from pyqmail.base.failure import reason
from pyqmail.supervise.inotify_paths import InotifyPaths, Watching
from pyqmail.system.descriptors import log

LABEL = "svscan"  # at the head of a scanner's lines
SECONDS = 5.0  # until the next pass, where something is wrong or changes are not reported
RESTART_SECONDS = 1.0
SETTLE_SECONDS = 0.25  # a new directory is left alone while it is being filled: its log may come last
MAX_LOGGED_NAME = 255
SERVICE, LOG = 0, 1
_DESCRIPTOR = {SERVICE: 1, LOG: 0}  # which of its own, and which end of the pipe
_TOO_MANY = (errno.EMFILE, errno.ENFILE)


def warn(text: str) -> None:
    """Report what is wrong; the scanner goes on."""
    log(f"{LABEL}: warning: {text}")


class Slot:
    """One service: its name in the last pass, and the pids of its supervisor and its log's; 0 is none.

    pipe: (read, write) if it is logged, otherwise None; write is None after end_input().  due: for each of the two,
    when it may be started (time.monotonic).
    """

    __slots__ = ("identity", "name", "pids", "due", "pipe", "is_present", "warned_risks")

    def __init__(self, identity, name, pipe):
        self.identity, self.name, self.pipe = identity, name, pipe
        self.pids, self.due = [0, 0], [0.0, 0.0]
        self.is_present = True
        self.warned_risks = set()

    def directory(self, part: int) -> bytes:
        """Return the directory of the service or of its log."""
        return self.name if part == SERVICE else self.name + b"/log"

    def end_input(self):
        """Close the writing end: its log reads the end of file once the service has gone."""
        if self.pipe is not None and self.pipe[1] is not None:
            os.close(self.pipe[1])
            self.pipe = (self.pipe[0], None)

    def close_pipe(self):
        """Close the pipe; what is in it is lost."""
        pipe, self.pipe = self.pipe, None
        for fd in pipe or ():
            if fd is not None:
                os.close(fd)

    def unread_bytes(self) -> int:
        """Return how much its log has not read."""
        if self.pipe is None:
            return 0
        return int.from_bytes(fcntl.ioctl(self.pipe[0], termios.FIONREAD, bytes(4)), sys.byteorder)


class Scanner:
    """Looks at the working directory.  slots: what is known now, identity -> Slot, in the order found.

    ends_orphans: a service whose supervisor was killed gets SIGTERM, with all of their process group.  clock: seconds
    that only grow.  find_risks(), called for each pass, returns a function of a directory that returns the ends of
    warnings about it; each is reported once.
    """

    def __init__(
        self,
        supervise,
        descriptors,
        ends_orphans=False,
        watching=None,
        inotify_paths=None,
        clock=time.monotonic,
        find_risks=lambda: lambda _: (),
    ) -> None:
        self._find_risks, self._risks = find_risks, None
        self._started: list[
            tuple[Slot, int]
        ] = []  # what is not yet looked at for risks: its slot, and which of the two
        self._start_supervisor, self._descriptor_limit, self.ends_orphans = supervise, descriptors, ends_orphans
        self._watching, self._inotify_paths = watching or Watching(), inotify_paths or InotifyPaths()
        self._clock = clock
        self.slots: dict[tuple[int, int], Slot] = {}
        self._by_pid: dict[
            int, tuple[Slot, int, float]
        ] = {}  # pid of a supervisor -> its slot, which of the two it is, and since when
        self._has_scanned = False
        self._without_pipe: list[tuple[bytes, OSError]] = []
        self._next: float | None = None
        self._pass = 0
        self._warned: dict[str, tuple[int, float]] = {}  # kind of trouble -> the pass that reported it last, and when
        self._new: dict[tuple[int, int], float] = {}  # identity of a directory that is left alone for now -> since when

    def scan(self) -> float | None:
        """Make one pass: reap, look at every name, start what does not run, free what has gone.

        Returns when (on the clock) to make another one, None: when something changes.
        """
        self.reap()
        self._next = None
        if self.look():
            self._has_scanned = True
            for slot in self.slots.values():
                if slot.is_present:
                    self._start_missing(slot)
            self._warn_of_risks()
            self._free_slots()
        self._risks = None  # it remembers what it saw in this pass
        if self._watching.is_blind:
            self._scan_again_in(SECONDS)
        return self._next

    def look(self) -> bool:
        """Find the services that are there now; start nothing.  Returns whether the directory could be read."""
        for slot in self.slots.values():
            slot.is_present = False
        self._pass += 1
        self._risks = self._find_risks()
        self._watching.begin_pass()
        self._inotify_paths.enter(self._watching)
        found = self._read_directory()
        if found is None:
            return False
        without_pipe, self._without_pipe = self._without_pipe, []
        new, self._new = self._new, {}
        for entry in found:
            if not entry.name.startswith(b"."):
                self._look_at(entry, new)
        self._watching.end_pass()
        self._warn_of_pipes(without_pipe)
        return True

    def _read_directory(self):
        try:
            with os.scandir(b".") as entries:
                return list(entries)
        except OSError as error:
            self._warn("unable to read directory", b"", error)
            return None

    def reap(self) -> bool:
        """Reap all children that have ended; return whether a supervisor was among them: its slot is free then."""
        has_ended = False
        while True:
            try:
                # looked at before it is reaped: until then nobody else can get its number
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return has_ended
            if ended is None:
                return has_ended
            supervisor = self._by_pid.pop(ended.si_pid, None)
            if supervisor is not None:
                has_ended = True
                slot, part, since = supervisor
                slot.pids[part] = 0
                slot.due[part] = self._restart_time(since, ended)
                if self.ends_orphans and ended.si_code != os.CLD_EXITED:
                    self._end_group(slot.directory(part), ended.si_pid)
            os.waitpid(ended.si_pid, 0)

    def close(self) -> None:
        """Close every pipe and forget every service; the next look finds them again."""
        for slot in self.slots.values():
            slot.close_pipe()
        self.slots.clear()

    def _restart_time(self, since, ended):
        """Return when a supervisor may be started again.

        Killed: at once, if a second has passed since the start.  Commanded to leave: after a second, in which the name
        can be removed.  Unable to begin: like the original, five seconds after the start.
        """
        now = self._clock()
        if ended.si_code != os.CLD_EXITED:
            return since + RESTART_SECONDS
        return max(now + RESTART_SECONDS, since + SECONDS if ended.si_status else 0)

    def _end_group(self, folder, group):
        warn(f"supervise {os.fsdecode(folder)} was killed, ending its service")
        for number in (signal.SIGTERM, signal.SIGCONT):
            try:
                os.killpg(group, number)
            except (ProcessLookupError, PermissionError):
                return

    def _look_at(self, entry, new):
        name = entry.name
        try:
            if entry.is_symlink():
                self._watching.watch_links(name)
            found = os.stat(name)
        except OSError as error:
            return self._warn("unable to stat", name, error)
        if not stat.S_ISDIR(found.st_mode):
            return None
        identity = (found.st_dev, found.st_ino)
        slot = self.slots.get(identity)
        if slot is None:
            return self._look_at_new(identity, name, found, new.get(identity, self._clock()))
        if not slot.is_present:  # a second name for the same directory is ignored
            slot.is_present, slot.name = True, name
        return None

    def _look_at_new(self, identity, name, found, since):
        if left := self._settling_seconds(since, found):
            self._new[identity] = since
            return self._scan_again_in(left)
        return self._add_service(identity, name)

    def _settling_seconds(self, since, found):
        """Return for how long to leave a new directory alone, first seen at since: its names may change for ever."""
        age = time.time() - found.st_mtime
        if not self._has_scanned or not 0 <= age < SETTLE_SECONDS:
            return 0
        return max(0, min(SETTLE_SECONDS - age, since + SECONDS - self._clock()))

    def _add_service(self, identity, name):
        try:
            pipe = self._make_pipe() if _has_log(name) else None
        except _NoLog as problem:
            return self._warn("unable to stat", name + b"/log", problem.error)
        except OSError as error:
            if error.errno in _TOO_MANY:
                return self._without_pipe.append((name, error))
            return self._warn("unable to create pipe for", name, error)
        self.slots[identity] = Slot(identity, name, pipe)
        return None

    def _make_pipe(self):
        while True:
            try:
                pipe = os.pipe()
                if self._descriptor_limit is None or self._descriptor_limit.has_room_above(max(pipe)):
                    return pipe
                for fd in pipe:
                    os.close(fd)
                error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            except OSError as problem:
                error = problem
            if error.errno != errno.EMFILE or not self._descriptor_limit.allow_more():
                raise error

    def _warn_of_pipes(self, before):
        """Report in one line, once, that descriptors have run out: it may concern hundreds of services."""
        if not self._without_pipe:
            return
        self._scan_again_in(SECONDS)
        name, error = self._without_pipe[0]
        number = len(self._without_pipe) - 1
        if number + 1 != len(before):
            more = f" and {number} more" if number else ""
            warn(f"unable to create pipe for {os.fsdecode(name)}{more}: {reason(error)}")

    def start_log(self, slot) -> None:
        """Start the supervisor of a log once more, unless the last one has ended a moment ago."""
        now = self._clock()
        if slot.due[LOG] <= now:
            self._start_part(slot, LOG, now)
            self._warn_of_risks()

    def _start_missing(self, slot):
        now = self._clock()
        for part in (SERVICE,) if slot.pipe is None else (SERVICE, LOG):
            if slot.pids[part]:
                continue
            if slot.due[part] > now:
                self._scan_again_in(slot.due[part] - now)
                continue
            self._start_part(slot, part, now)

    def _start_part(self, slot, part, now):
        descriptor = _DESCRIPTOR[part]
        theirs = None if slot.pipe is None else (slot.pipe[descriptor], descriptor)
        try:
            pid = self._start_supervisor(slot.name, part == LOG, theirs)
        except OSError as error:
            slot.due[part] = now + SECONDS
            self._warn("unable to fork for", slot.directory(part), error)
            return
        self._started.append((slot, part))
        slot.pids[part] = pid
        self._by_pid[pid] = slot, part, now

    def _warn_of_risks(self):
        """Report the risks of what was started, after all starts: between two forks as little as possible is done.

        What the parent writes to between them is a page of its own for each child.
        """
        started, self._started = self._started, []
        for slot, part in started:
            for risk in (self._risks or self._find_risks())(slot.directory(part)):
                if risk not in slot.warned_risks:
                    slot.warned_risks.add(risk)
                    warn(f"{os.fsdecode(slot.directory(part))} {risk}")

    def _free_slots(self):
        for slot in [slot for slot in self.slots.values() if not slot.is_present and slot.pids == [0, 0]]:
            self.give_up_log(slot)
            del self.slots[slot.identity]

    def give_up_log(self, slot) -> None:
        """Close the pipe of a log that has gone; report what it has not read."""
        if unread := slot.unread_bytes():
            warn(f"log of {os.fsdecode(slot.name)} has left {unread} bytes unread")
        slot.close_pipe()

    def _warn(self, text, name, error):
        """Report what could not be done, for the service of that name if it has one, and scan again later."""
        if self._may_warn(text):
            named = f"{text} {os.fsdecode(name)}" if name else text
            warn(f"{named}: {reason(error)}")
            self._scan_again_in(SECONDS)

    def _may_warn(self, kind):
        """Return whether this pass may report such trouble: one pass in five seconds, as many as the original makes.

        If not, there will be another pass as soon as it may.
        """
        now = self._clock()
        last, since = self._warned.get(kind, (self._pass, now))
        if last != self._pass and now - since < SECONDS:
            self._scan_again_in(since + SECONDS - now)
            return False
        self._warned[kind] = self._pass, since if last == self._pass else now
        return True

    def _scan_again_in(self, seconds):
        when = self._clock() + seconds
        self._next = when if self._next is None else min(self._next, when)


class _NoLog(Exception):
    def __init__(self, error):
        super().__init__()
        self.error = error


def _has_log(name):
    if len(name) > MAX_LOGGED_NAME:
        return False
    try:
        os.stat(name + b"/log")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _NoLog(error) from None
    return True
