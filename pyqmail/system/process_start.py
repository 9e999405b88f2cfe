"""Telling a process from a later one that got its number."""

import errno
import os
import time

from pyqmail.system.descriptors import read_file

_STAT_BYTES = 4096  # more than there is: a larger buffer would be pages of each supervisor
_START_TIME = 19  # counted from the field after the name, see proc(5)


def begun(pid: int) -> tuple[int, bytes]:
    """Return when a process began: ticks since boot, and which boot.

    Raises OSError if there is none of that number, or one that has ended and was not waited for.
    """
    # pid (name) state ppid ...; the name may hold blanks and parentheses
    fields = read_file(f"/proc/{pid}/stat", _STAT_BYTES).rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return int(fields[_START_TIME]), _boot()


def _boot():
    """Return a word that no other boot of this machine has."""
    try:
        return read_file("/proc/sys/kernel/random/boot_id", _STAT_BYTES).strip()
    except FileNotFoundError:  # a /proc without sys: when it was; a clock that is set makes it another one
        return b"minute-%d" % round((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)) / 60)
