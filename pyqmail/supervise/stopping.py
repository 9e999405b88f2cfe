"""Bringing all services down: services first, each log after its service; what does not end is killed.

With the usual 4 s to do it in:

    at once     `dx` to each service.  When its supervisor has ended, our writing end of the pipe is closed and its
                log gets `x`, so that it reads to the end of file and leaves.  A log that has left before is started
                again, at most once a second
    3 s         `k` to the services that are still there
    3.5 s       `dx` to the logs that are still there
    4 s         SIGKILL to every supervisor of ours, with its process group
    5 s         what is left is given up

The order keeps the last lines: as long as a service lives, its log does, and the log ends because it has read
everything, not because it was commanded to.  Each command is sent once to each supervisor.

Processes that lost their parents are ours if we adopt orphans: SIGTERM once no service is left, SIGKILL at 3.5 s.
"""

import _signal as signal
import os
import time

from pyqmail.supervise.control import command, command_process, is_supervised
from pyqmail.supervise.scanner import LOG, SERVICE, warn
from pyqmail.system.coroutines import Promise, TimedOut

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
        self._terminated: set[int] = set()  # pids of orphans that got SIGTERM
        self._ended = Promise()

    async def run(self) -> None:
        """Return when every supervisor and every child has ended, or when it is time to give up."""
        begun = time.monotonic()
        self._loop.on_signal(signal.SIGCHLD, self._child_ended)
        while True:
            self._ended = Promise()
            self._scanner.reap()
            passed = (time.monotonic() - begun) / self._seconds
            if not self._do_what_is_due(passed) or passed >= _GIVE_UP:
                return
            try:
                await self._ended.within(self._loop, _TICK_SECONDS)
            except TimedOut:
                pass

    def _child_ended(self):
        self._ended.keep()

    def _do_what_is_due(self, passed):
        """Do what is due when that part of the time has passed, 1.0 is all of it; return whether anything is left."""
        services = logs = False
        for slot in self._slots:
            if _is_there(slot, SERVICE):
                services = True
                self._end_service(slot, passed)
            else:
                slot.end_input()
                logs = self._end_log(slot, passed) or logs
        if passed >= _KILL_ALL:
            self._kill_supervisors()
        orphans = not services and self._end_orphans(passed)
        return services or logs or orphans

    def _end_service(self, slot, passed):
        self._command(slot, SERVICE, b"dx")
        if passed >= _KILL_SERVICES and self._command(slot, SERVICE, b"k"):
            warn(f"{os.fsdecode(slot.name)} does not end, killing it")

    def _end_log(self, slot, passed):
        """Let a log read to the end; return whether it is still needed."""
        if _is_there(slot, LOG):
            self._command(slot, LOG, b"x")
            if passed >= _END_LOGS:
                self._command(slot, LOG, b"dx")
            return True
        if not slot.unread_bytes():
            return False
        # it was down, or was killed, and x made its supervisor leave although there is more to read
        if passed >= _END_LOGS:
            self._scanner.give_up_log(slot)
            return False
        self._scanner.start_log(slot)
        return True

    def _command(self, slot, part, commands):
        """Send commands unless they were sent before; return whether they were sent now.

        A supervisor that is just starting cannot be reached yet: the next turn tries again.
        """
        key = (slot, slot.pids[part], part, commands)
        if key in self._sent or not _reach(slot, part, commands):
            return False
        self._sent.add(key)
        return True

    def _kill_supervisors(self):
        self._scanner.ends_orphans = False  # their process groups are killed here
        for slot in self._slots:
            for pid in slot.pids:
                if pid:
                    _send_signal(os.killpg, pid, signal.SIGKILL)
                    _send_signal(os.kill, pid, signal.SIGKILL)

    def _end_orphans(self, passed):
        """End adopted children; return whether there are any."""
        ours = {pid for slot in self._slots for pid in slot.pids}
        orphans = [pid for pid in self._children() if pid not in ours]
        for pid in orphans:
            if passed >= _END_LOGS:
                _send_signal(os.kill, pid, signal.SIGKILL)
            elif pid not in self._terminated:
                self._terminated.add(pid)
                _send_signal(os.kill, pid, signal.SIGTERM)
                _send_signal(os.kill, pid, signal.SIGCONT)
        return bool(orphans)


def _is_there(slot, part):
    """Return whether a supervisor is there: ours, or one that was started before us."""
    return slot.pids[part] != 0 or is_supervised(_supervisor_directory(slot, part))


def _reach(slot, part, commands):
    """Send commands; return whether they have arrived."""
    if command(_supervisor_directory(slot, part), commands):
        return True
    # its directory may have been removed, or renamed since its files got a name below SUPERVISEDIR
    return slot.pids[part] != 0 and command_process(slot.pids[part], commands)


def _supervisor_directory(slot, part):
    """Return the directory of a supervisor: the working directory of ours, which may have lost its name here."""
    if slot.pids[part]:
        try:
            return os.readlink(f"/proc/{slot.pids[part]}/cwd")
        except OSError:
            pass  # no /proc
    return os.fsdecode(slot.directory(part))


def _send_signal(send, pid, number):
    try:
        send(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # ended meanwhile
