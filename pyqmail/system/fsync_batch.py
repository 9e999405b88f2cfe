"""Putting many files on disk in the time of a few.

fsync(2) waits for a flush of the device for each file, even if the journal has been written for all of them with the
first.  The kernel makes one flush serve many who wait at the same time; for one process that is Linux AIO
(io_submit(2), IOCB_CMD_FSYNC, Linux 4.18): here 20 files took 0.5 of the time, 40 a third.  Each file is synced exactly
as by fsync.  No threads: who has them may not fork.
"""

import errno
import os
import struct

from pyqmail.system.libc import CLibrary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILES = 256  # files in one go
_FSYNC, _HAS_NOTICE = 2, 1
# number, key, flags, what, priority, fd, 4 that fsync does not use, whether there is a notice, descriptor for it
_CONTROL_BLOCK = struct.Struct("=QIIHhIQQqQII")
_EVENT = struct.Struct("=QQqq")  # number, address, result, 0
# machine -> io_setup, io_submit, io_getevents; all of them with the low byte first, 64 bits
_GENERIC = (0, 2, 4)
_CALLS = {
    "x86_64": (206, 209, 208),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}


class FsyncBatch:
    """Syncs files.  Where the system has no AIO to give, one after the other.

    max_files: how many go together.  The system has 65536 to give to all (fs.aio-max-nr); they are ours until we end.
    """

    def __init__(self, max_files: int = MAX_FILES) -> None:
        self._queue: AioQueue | None = None
        self._max_files = max_files
        try:
            self._queue = AioQueue(max_files=max_files)
        except OSError:
            pass

    def sync(self, files: "Sequence[int]", directories: "Sequence[int]") -> set[int]:
        """fsync each file, then each directory; return those that are not safely on disk."""
        return self.flush(files) | {fd for fd in directories if not is_synced(fd)}

    def flush(self, fds: "Sequence[int]") -> set[int]:
        """fsync each; return those that are not safely on disk."""
        lost: set[int] = set()
        for at in range(0, len(fds), self._max_files):
            some = fds[at : at + self._max_files]
            done = self._together(some)
            lost.update(fd for fd, is_on_disk in zip(some, done, strict=False) if not is_on_disk)
            lost |= flush_in_turn(some[len(done) :])
        return lost

    def _together(self, fds):
        """Return of the first files whether each is on disk; the others were not tried."""
        if self._queue is None or len(fds) == 1:
            return []
        done = self._queue.sync(fds)
        if self._queue.is_broken:
            self._queue = None
        return done


def sync_in_turn(files: "Sequence[int]", directories: "Sequence[int]") -> set[int]:
    """FsyncBatch.sync() without what the kernel does together: strict, and it needs nothing but fsync(2)."""
    return flush_in_turn(files) | {fd for fd in directories if not is_synced(fd)}


def flush_in_turn(fds: "Sequence[int]") -> set[int]:
    """fsync one file after the other; return those that are not safely on disk.

    Write-back of all is started before the first fsync waits: their blocks are allocated in one journal transaction,
    the first fsync commits it for all, and the others have little left to do.
    """
    if len(fds) > 1:
        for fd in fds:
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError:
                pass  # fsync reports what is wrong with it
    return {fd for fd in fds if not is_synced(fd)}


def is_synced(fd: int) -> bool:
    """fsync a file or a directory; return whether it is safely on disk."""
    try:
        os.fsync(fd)
    except OSError:
        return False
    return True


class AioQueue:
    """Files under way to disk, at most max_files.  Raises OSError if the system has none to give.

    submit() begins, collect() reports what has come to its end.  notice: an eventfd that is told of each end, -1 for
    none.
    """

    def __init__(self, notice: int = -1, max_files: int = MAX_FILES) -> None:
        machine = os.uname().machine
        if machine not in _CALLS or struct.calcsize("P") != 8:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._library, self._notice = CLibrary(), notice
        import ctypes

        setup, self._submit, self._get_events = _CALLS[machine]
        self._long, self._byref = ctypes.c_long, ctypes.byref
        self._blocks = ctypes.create_string_buffer(_CONTROL_BLOCK.size * max_files)
        self._first = ctypes.addressof(self._blocks)
        self._pointers = (ctypes.c_void_p * max_files)()
        self._events = ctypes.create_string_buffer(_EVENT.size * max_files)
        self._no_time = ctypes.create_string_buffer(16)  # a timespec
        self._context, self.is_broken = ctypes.c_ulong(0), False
        self._call(setup, self._long(max_files), self._byref(self._context))

    def submit(self, files: "Sequence[tuple[int, int]]") -> int:
        """Begin to sync files, (place, descriptor); returns how many of them, the first ones, the kernel took.

        A place is below max_files and holds nothing that is still under way.
        """
        notice = (0, 0) if self._notice < 0 else (_HAS_NOTICE, self._notice)
        for at, (place, fd) in enumerate(files):
            offset = _CONTROL_BLOCK.size * place
            _CONTROL_BLOCK.pack_into(self._blocks, offset, place, 0, 0, _FSYNC, 0, fd, 0, 0, 0, 0, *notice)
            self._pointers[at] = self._first + offset
        taken = 0
        try:
            while taken < len(files):
                pointers = self._byref(self._pointers, taken * 8)
                count = self._call(self._submit, self._context, self._long(len(files) - taken), pointers)
                if count == 0:
                    break
                taken += count
        except OSError:
            pass  # a file that cannot be synced so, or too much at once in the whole system
        return taken

    def collect(self, count: int, waits: bool) -> list[tuple[int, bool]]:
        """Return (place, whether it is on disk) of up to count files; waits: of exactly so many.

        The kernel reports an error once: a second fsync of such a file may succeed.  Raises InterruptedError, and
        OSError, upon which is_broken: what is still under way may be reported later, the queue is of no use any more.
        """
        least = self._long(count if waits else 0)
        until = None if waits else self._no_time
        try:
            got = self._call(self._get_events, self._context, least, self._long(count), self._events, until)
        except InterruptedError:
            raise
        except OSError:
            self.is_broken = True
            raise
        events = [_EVENT.unpack_from(self._events, _EVENT.size * at) for at in range(got)]
        return [(place, result == 0) for place, _, result, _ in events]

    def sync(self, fds: "Sequence[int]") -> list[bool]:
        """Wait; return whether each is on disk, of as many of the files, the first ones, as the kernel took."""
        done = [False] * self.submit(list(enumerate(fds)))
        left = len(done)
        while left:
            try:
                ended = self.collect(left, True)
            except InterruptedError:
                continue
            except OSError:
                break
            for place, is_on_disk in ended:
                done[place] = is_on_disk
            left -= len(ended)
        return done

    def _call(self, *words):
        return self._library.call("syscall", *words)  # there are no functions for these calls
