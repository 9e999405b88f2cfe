"""queue/lock/tcpto: addresses where connecting timed out lately, shared by all pyremote processes.

64 records of 16 bytes: IPv4 address (4), count of recent timeouts (1), unused (3), time (4, little-endian), unused
(4).  Everything under an exclusive lock.  Without the file there is no such memory.  Source: tcpto.c of qmail
"""

import fcntl
import os
import struct

RECORDS, RECORD_BYTES = 64, 16
SIZE = RECORDS * RECORD_BYTES
MAX_COUNT = 10  # timeouts counted
FRESH_SECONDS = 120  # a timeout this soon after the last counted one is the same trouble
_TIME = struct.Struct("<I")


class Timeouts:
    """The table at path.  pid spreads the moments at which processes try a dead address again."""

    def __init__(self, path: str, pid: int) -> None:
        self._path, self._patience = path, (60 + (pid & 31)) * 64
        self._was_known = False

    def is_dead(self, address: bytes, now: int) -> bool:
        """Return whether not to try an address now; remembers for note() whether it was in the table."""
        wanted = _packed(address)
        self._was_known = False
        table = self._locked(lambda fd, table: table)
        for at in range(0, SIZE, RECORD_BYTES) if table and wanted else ():
            if table[at : at + 4] == wanted:
                self._was_known = True
                return table[at + 4] >= 2 and now - _TIME.unpack_from(table, at + 8)[0] < self._patience
        return False

    def note(self, address: bytes, timed_out: bool, now: int) -> None:
        """Note how connecting to the address went that is_dead() was last asked about."""
        wanted = _packed(address)
        if wanted and (timed_out or self._was_known):
            self._locked(lambda fd, table: _update(fd, table, wanted, timed_out, now))

    def _locked(self, work):
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            table = os.pread(fd, SIZE, 0)
            return work(fd, table) if len(table) == SIZE else None
        except OSError:
            return None
        finally:
            os.close(fd)


def clear(path: str) -> None:
    """Forget all; not locked, as in the original.  Nothing happens if there is no such file."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.pwrite(fd, bytes(SIZE), 0)
    except OSError:
        pass
    finally:
        os.close(fd)


def _update(fd, table, address, timed_out, now):
    at = next((i for i in range(0, SIZE, RECORD_BYTES) if table[i : i + 4] == address), None)
    if not timed_out:
        if at is not None:
            os.pwrite(fd, b"\0", at + 4)
        return
    if at is None:
        at = _free(table)
        count = 1
    else:
        count = table[at + 4]
        # also when the stored time lies ahead: the clock was set back
        if count and now - _TIME.unpack_from(table, at + 8)[0] < FRESH_SECONDS:
            return
        count = min(count + 1, MAX_COUNT)
    os.pwrite(fd, address + bytes((count, 0, 0, 0)) + _TIME.pack(now & 0xFFFFFFFF) + bytes(4), at)


def _free(table):
    """Return the offset of the first unused record, else of the one that matters least."""
    places = range(0, SIZE, RECORD_BYTES)
    unused = next((at for at in places if table[at + 4] == 0), None)
    if unused is not None:
        return unused
    return min(places, key=lambda at: _TIME.unpack_from(table, at + 8)[0] + table[at + 4] * 1024)


def _packed(address):
    """Return the four bytes of an IPv4 address; None for another, which the table cannot hold."""
    parts = address.split(b".")
    return bytes(map(int, parts)) if len(parts) == 4 else None
