"""Putting files on disk while the loop goes on.

sync(files, directories, then) returns at once.  All files of a call are synced together, after them its directories,
then then(lost) is called: never within sync() itself, so that a caller may first note what it waits for.  Until then
the descriptors stay open, and are the caller's to close.

                 sync()                       all files are synced             all directories are synced
    (a job)  ------------>  FILES under way  -------------------->  DIRECTORIES  ------------------>  then(lost)

The kernel does the work (AioQueue of fsync_batch.py) and tells an eventfd of each end, which the loop watches.  At
most MAX_FILES are under way, the others stand in line in their order.  What the kernel does not take in that way is
synced by fsync(2) between two turns of the loop, a few at a time: so is everything where there is no AIO.  No threads:
who has them may not fork.

What is kept true:

- A file counts as on disk only if its own fsync has succeeded after the call of sync().  If the kernel cannot say any
  more what became of what is under way, all of that is lost, and the queue is not used again.
- Every job comes to its end: something is under way in the kernel, or a call of the loop is due.
"""

import collections
import os
import time

from pyqmail.system.coroutines import READ
from pyqmail.system.fsync_batch import MAX_FILES, AioQueue, is_synced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyqmail.system.loop import Loop

    Then = Callable[[set[int]], object]

_SLICE_SECONDS = 0.005  # of fsync(2) in one turn


class _Job:
    """One call of sync(): how many files are still to be synced, what comes after them."""

    __slots__ = ("left", "directories", "then", "lost")

    def __init__(self, count: int, directories: list[int], then: "Then") -> None:
        self.left, self.directories, self.then = count, directories, then
        self.lost: set[int] = set()


class BackgroundSync:
    """See the module.  One for each loop; close() once it is_idle."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._line: collections.deque[tuple[int, _Job]] = collections.deque()  # what has not begun
        self._slow: collections.deque[tuple[int, _Job]] = collections.deque()  # what fsync(2) is to sync
        self._under_way: dict[int, tuple[int, _Job]] = {}  # place -> descriptor, its job
        self._free = list(range(MAX_FILES))
        self._jobs = 0
        self._is_due = self._is_slow_due = False
        self._notice, self._queue = -1, None
        self._open_queue()

    def _open_queue(self):
        try:
            self._notice = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._queue = AioQueue(self._notice)
        except OSError:
            self._drop_queue()
            return
        self._loop.watch_surely(self._notice, READ, lambda _: self._collect())

    def _drop_queue(self):
        self._queue = None
        if self._notice >= 0:
            self._loop.forget(self._notice)
            os.close(self._notice)
            self._notice = -1

    @property
    def is_idle(self) -> bool:
        """True while nobody waits for anything."""
        return not self._jobs

    def sync(self, files: "Iterable[int]", directories: "Iterable[int]", then: "Then") -> None:
        """fsync each file, then each directory; call then(those that are not safely on disk)."""
        files, directories = list(files), list(directories)
        self._jobs += 1
        self._begin(files or directories, _Job(len(files), directories if files else [], then))

    def close(self) -> None:
        self._drop_queue()

    def _begin(self, fds, job):
        """Put descriptors of a job into the line."""
        job.left = len(fds)
        if not fds:
            self._loop.soon(lambda: self._end(job))
            return
        self._line.extend((fd, job) for fd in fds)
        if not self._is_due:
            self._is_due = True
            self._loop.soon(self._submit)  # what one turn brings goes to the kernel together

    def _submit(self):
        self._is_due = False
        line, free = self._line, self._free
        if self._queue is None:
            self._add_slow(line)
            line.clear()
        while line and free:
            some = [(free.pop(), *line.popleft()) for _ in range(min(len(line), len(free)))]
            taken = self._queue.submit([(place, fd) for place, fd, _ in some])
            self._under_way.update((place, (fd, job)) for place, fd, job in some[:taken])
            refused = some[taken:]
            free.extend(place for place, _, _ in refused)
            self._add_slow([(fd, job) for _, fd, job in refused[:1]])
            line.extendleft((fd, job) for _, fd, job in reversed(refused[1:]))
        self._go_on_slowly()

    def _collect(self):
        """The kernel has told of ends."""
        try:
            os.eventfd_read(self._notice)
        except BlockingIOError:
            pass
        try:
            ended = self._queue.collect(MAX_FILES, False)
        except InterruptedError:
            self._loop.soon(self._collect_if_open)
            return
        except OSError:
            self._lose_all()
            return
        for place, is_on_disk in ended:
            fd, job = self._under_way.pop(place)
            self._free.append(place)
            self._ended(fd, job, is_on_disk)
        if self._line and not self._is_due:
            self._submit()

    def _collect_if_open(self):
        if self._queue is not None:
            self._collect()

    def _lose_all(self):
        under_way, self._under_way = self._under_way, {}
        self._drop_queue()
        for fd, job in under_way.values():
            self._ended(fd, job, False)
        self._submit()

    def _add_slow(self, some):
        """Have fsync(2) sync descriptors: their blocks are allocated together, and the first fsync commits them all."""
        for fd, _ in some:
            _start_writing(fd)
        self._slow.extend(some)

    def _go_on_slowly(self):
        if self._slow and not self._is_slow_due:
            self._is_slow_due = True
            self._loop.after(0, self._sync_slowly)

    def _sync_slowly(self):
        self._is_slow_due = False
        slow, until = self._slow, time.monotonic() + _SLICE_SECONDS
        while slow:
            fd, job = slow.popleft()
            self._ended(fd, job, is_synced(fd))
            if time.monotonic() > until:
                break
        self._go_on_slowly()

    def _ended(self, fd, job, is_on_disk):
        if not is_on_disk:
            job.lost.add(fd)
        job.left -= 1
        if job.left:
            return
        directories, job.directories = job.directories, []
        if directories:
            self._begin(directories, job)
        else:
            self._end(job)

    def _end(self, job):
        self._jobs -= 1
        job.then(job.lost)


def _start_writing(fd):
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass  # fsync reports what is wrong with it
