"""Bringing all services down: services first, each log after its service, what will not end killed.

With the usual 4 s to do it in:

    at once     `dx` to each service.  When its supervisor has ended: our writing end of the pipe is closed and its
                log gets `x`, so that it reads to the end of file and leaves.  One that has left without is started
                again, at most once a second
    3 s         `k` to the services still there
    3.5 s       `dx` to the logs still there
    4 s         SIGKILL to every supervisor of ours, with its process group
    5 s         whoever is left stays

Processes that lost their parents are ours if we adopt orphans: SIGTERM once no service is left, SIGKILL at 3.5 s.
"""

import _signal as signal
import os
import time

from pyqmail.supervise.control import command, command_process, is_supervised
from pyqmail.supervise.scanner import LOG, SERVICE, warn
from pyqmail.system.loop import Promise, TimedOut

STOP_SECONDS = 4.0
_KILL_SERVICES, _END_LOGS, _KILL_ALL, _GIVE_UP = 0.75, 0.875, 1.0, 1.25  # of those seconds
_TICK_SECONDS = 0.1


class Stopping:
    """Brings down the services of a scanner; await run().

    children() lists the pids of our children, adopted ones included.
    """

    def __init__(self, loop, scanner, children, stop_seconds: float = STOP_SECONDS) -> None:
        self._loop, self._scanner, self._children, self._seconds = loop, scanner, children, stop_seconds
        self._slots = list(scanner.slots.values())
        self._sent: set = set()  # (slot, pid, part, commands): each is sent once
        self._told: set[int] = set()  # pids of orphans that got SIGTERM
        self._ended = Promise()

    async def run(self) -> None:
        """Return when every supervisor and every child has ended, or at last when it is time to give up."""
        begun = time.monotonic()
        self._loop.on_signal(signal.SIGCHLD, self._child_ended)
        while True:
            self._ended = Promise()
            self._scanner.reap()
            passed = (time.monotonic() - begun) / self._seconds
            if not self._press(passed) or passed >= _GIVE_UP:
                return
            try:
                await self._ended.within(self._loop, _TICK_SECONDS)
            except TimedOut:
                pass

    def _child_ended(self):
        self._ended.keep()

    def _press(self, passed):
        """Do what is due when so much of the time has passed, 1.0 is all; return whether anybody is left."""
        services = logs = False
        for slot in self._slots:
            if _is_there(slot, SERVICE):
                services = True
                self._command(slot, SERVICE, b"dx")
                if passed >= _KILL_SERVICES and self._command(slot, SERVICE, b"k"):
                    warn(f"{os.fsdecode(slot.name)} does not end, killing it")
                continue
            slot.end_input()
            if _is_there(slot, LOG):
                logs = True
                self._command(slot, LOG, b"x")
                if passed >= _END_LOGS:
                    self._command(slot, LOG, b"dx")
            elif slot.unread_bytes():
                # it was down, or killed, when it heard x: that it had not read all was no reason to stay
                if passed < _END_LOGS:
                    logs = True
                    self._scanner.start_log(slot)
                else:
                    self._scanner.give_up_log(slot)
        if passed >= _KILL_ALL:
            self._kill_supervisors()
        orphans = not services and self._end_orphans(passed)
        return services or logs or orphans

    def _command(self, slot, part, commands):
        """Send commands once; return whether that was now.

        A supervisor that just starts cannot be reached yet: the next turn tries again.
        """
        key = (slot, slot.pids[part], part, commands)
        if key in self._sent or not _reach(slot, part, commands):
            return False
        self._sent.add(key)
        return True

    def _kill_supervisors(self):
        self._scanner.ends_orphans = False  # their groups go with them
        for slot in self._slots:
            for pid in slot.pids:
                if pid:
                    _tell(os.killpg, pid, signal.SIGKILL)
                    _tell(os.kill, pid, signal.SIGKILL)

    def _end_orphans(self, passed):
        """Tell adopted children to end; return whether there are any."""
        ours = {pid for slot in self._slots for pid in slot.pids}
        orphans = [pid for pid in self._children() if pid not in ours]
        for pid in orphans:
            if passed >= _END_LOGS:
                _tell(os.kill, pid, signal.SIGKILL)
            elif pid not in self._told:
                self._told.add(pid)
                _tell(os.kill, pid, signal.SIGTERM)
                _tell(os.kill, pid, signal.SIGCONT)
        return bool(orphans)


def _is_there(slot, part):
    """Return whether a supervisor is there: ours, or one that somebody started before us."""
    return slot.pids[part] != 0 or is_supervised(_folder(slot, part))


def _reach(slot, part, commands):
    """Send commands; return whether they have arrived."""
    if command(_folder(slot, part), commands):
        return True
    # its directory may have been removed, or renamed since its files got a name below SUPERVISEDIR
    return slot.pids[part] != 0 and command_process(slot.pids[part], commands)


def _folder(slot, part):
    """Return where to reach a supervisor: where ours stands, which may have no name among the services any more."""
    if slot.pids[part]:
        try:
            return os.readlink(f"/proc/{slot.pids[part]}/cwd")
        except OSError:
            pass  # no /proc
    return os.fsdecode(slot.folder(part))


def _tell(send, pid, number):
    try:
        send(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # ended meanwhile
