"""The bound on the files of messages that are still arriving, in $TMPDIR, for all processes of one server together.

A sender may never end: without a bound a few of them fill the disk.  Together they may have a quarter of what would be
free without them, and MAX_BYTES.  Every process counts its own bytes in a slot of a file without a name, in
memory, that its parent made before it forked (share()), and reads the slots of all.  A slot belongs to the process that
locks it: the kernel unlocks it when that process ends, however it ends.  A process whose parent
made none counts alone, as does one that finds no free slot.
"""

import fcntl
import os
import struct

MAX_BYTES = 4 << 30
_FREE_PARTS = 4
_UNIT = 65536  # what is counted at a time
_SLOTS, _SIZE = 1024, 8
# The descriptor of the slots, set before the first fork.  It belongs to the process, as the working directory does: the
# parent makes it for children whose programs it does not know
_shared = None


def share() -> None:
    """Have all processes that are forked from now on count together.  Raises OSError."""
    global _shared
    if _shared is None:
        _shared = _new_slots()


class BufferSpace:
    """The space that one process has reserved.  Its methods never raise.

    free_bytes(fd) says how much is free on the file system of a file; it may raise OSError.
    """

    __slots__ = ("_free_bytes", "_slots", "_slot", "_own", "_counted")

    def __init__(self, free_bytes=None) -> None:
        self._free_bytes, self._slots, self._slot = free_bytes or _free_bytes, _shared, None
        self._own = self._counted = 0

    def reserve(self, size: int, fd: int) -> bool:
        """Reserve size more bytes of the file until they are released; returns False if there is no room."""
        if self._own + size > self._counted:
            try:
                if not self._count(self._own + size, fd):
                    return False
            except OSError:
                return False
        self._own += size
        return True

    def release(self, size: int) -> None:
        self._own -= size
        needed = _in_units(self._own)
        if size and needed < self._counted:
            self._write(needed)

    def _count(self, own, fd):
        wanted, free, total = _in_units(own), self._free_bytes(fd), self._total()
        limit = min(MAX_BYTES, (free + total) // _FREE_PARTS)
        if total - self._counted + wanted > limit:
            total = self._total(is_exact=True)
            if total - self._counted + wanted > limit:
                return False
        self._write(wanted)
        return True

    def _total(self, is_exact=False):
        """Return what all have reserved; if is_exact, without that of processes that have ended."""
        if self._slot is None:
            self._claim()
        if self._slot < 0:
            return self._counted
        values = memoryview(os.pread(self._slots, _SLOTS * _SIZE, 0)).cast("q")
        if is_exact:
            return sum(value for slot, value in enumerate(values) if value and not self._clear_if_left(slot))
        return sum(values)

    def _claim(self):
        if self._slots is None:
            self._slots = _new_slots()
        self._slot = next((slot for slot in range(_SLOTS) if _lock(self._slots, slot)), -1)
        self._write(self._counted)

    def _clear_if_left(self, slot):
        """Return whether the slot's process has ended; the slot is free then."""
        if slot == self._slot or not _lock(self._slots, slot):
            return False
        os.pwrite(self._slots, bytes(_SIZE), slot * _SIZE)
        fcntl.lockf(self._slots, fcntl.LOCK_UN, _SIZE, slot * _SIZE)
        return True

    def _write(self, counted):
        self._counted = counted
        if self._slot is not None and self._slot >= 0:
            os.pwrite(self._slots, struct.pack("q", counted), self._slot * _SIZE)


def _free_bytes(fd):
    place = os.fstatvfs(fd)
    return place.f_bavail * place.f_frsize


def _new_slots():
    fd = os.memfd_create("spooled", os.MFD_CLOEXEC)
    os.truncate(fd, _SLOTS * _SIZE)
    return fd


def _lock(fd, slot):
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _SIZE, slot * _SIZE)
    except OSError:
        return False
    return True


def _in_units(size):
    return -(-size // _UNIT) * _UNIT
