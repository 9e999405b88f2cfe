"""One loop for parents and residents: readiness, timers, child exits, signals, and coroutines.

Over epoll; no asyncio, and not selectors, whose layers cost time in each turn and memory in each forked process.
Callbacks are called from run() and must not wait.  A coroutine waits with `await loop.readable(fd, seconds)`,
`await loop.writable(fd, seconds)`, `await loop.sleep(seconds)` or `await promise`; a time limit raises TimedOut
inside it.  What a coroutine may assume is in system/coroutines.py, how timers are kept in system/timers.py.

A turn:

    soon --> epoll_wait, as long as nothing is due --> watches that are ready --> timers --> soon --> line
     ^        (not at all if soon or the line has something)                                          |
     +------------------------------------------------------------------------------------------------+

What is kept true:

- A callback of `soon` runs before the loop waits.  What it adds in its turn runs after the next look at readiness,
  so that no chain of callbacks keeps the loop from its descriptors.
- A watch stays registered until forget(), and is called again and again while its descriptor is ready: level triggered,
  so that a callback may leave a part for later.  A descriptor must be given back with forget() before it is closed:
  the kernel may give its number to another file at once.  For the same reason a callback that an earlier one of the
  same turn has replaced or taken away is not called: its readiness was that of the old watch.
- An error or a hang-up is reported as whatever is watched, READ or WRITE: the callback learns more from its own call.
- A registration may fail for want of memory (ENOMEM, ENOSPC).  watch() and on_exit() raise it, for what has somebody
  to take the blame; the ..._surely() ones try again until it works, for what many depend on.
- A child's exit is read from a descriptor of the process (pidfd_open(2)): its number cannot be another's by then, and
  no other child's exit is taken away from those who wait for it.
- A signal handler only notes the signal and wakes the loop through a pipe; its work runs in a turn as any callback.
- A forked child that does not go on with the loop calls abandon() first.

Who goes first.  Callbacks are called as soon as they are due.  A coroutine whose waiting is over stands in line
instead, and its turn lasts until it waits again.  A client that talks to one of thousands notices how long the
others hold it up, so the line is in order of what each has used lately: its own running time, which counts half as
much after each second (as in a multi-level feedback queue; the level is the binary logarithm of the microseconds).  A
second of waiting makes up for one level.  So a coroutine that asks for little goes before one that asks for much, those
that ask for the same take turns, and none waits for ever: at most as many seconds as there are levels.

After SLICE_SECONDS of turns the loop looks at readiness, timers and callbacks before the line goes on.  A turn should
last QUANTUM_SECONDS at most; nothing can stop a coroutine, but system/driver.py reads in small pieces, and asks
turn_is_over() whenever a session has said something.
"""

import _signal as signal  # without its enums: their pages would be copied in each forked supervisor
import os
import select
import time
from _collections import deque  # collections brings much that a cold start has no use for
from _heapq import heappop, heappush

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import traceback_text
from pyqmail.system.coroutines import (
    NOTHING,
    READ,
    WRITE,
    Cancelled,
    Promise,
    Task,
    TimedOut,
    Watch,
    await_descriptor,
    await_promise,
    await_turn,
)
from pyqmail.system.timers import Timer, Timers

# those who have a loop find here what belongs to it
__all__ = ["NOTHING", "READ", "WRITE", "Cancelled", "Loop", "Promise", "Task", "TimedOut", "Timer"]

QUANTUM_SECONDS = 0.005  # what a coroutine may use before others have their turn
SLICE_SECONDS = 0.001  # between two looks at what is ready
_LOOK_SECONDS = 0.000005  # what such a look costs for each descriptor that is ready, at most: it is not to be all we do
_MAX_AGAIN_SECONDS = 5.0  # the maximum pause before what the kernel had no room for is tried again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.system.turn_meter import TurnMeter


def print_traceback(failure: BaseException) -> None:
    """Print an exception, and where it came from, to descriptor 2."""
    os.write(2, os.fsencode(traceback_text(failure)))


class Loop:
    """See the module.  One for each process; turn() is one wait and what it brought, run() turns until stop()."""

    def __init__(self):
        self._epoll = select.epoll()
        self._watched: dict[int, tuple] = {}  # fd -> (events, work)
        self._unwatched: dict[int, tuple] = {}  # fd -> (events, work) that the kernel had no room for
        self._timers = Timers()
        self._schedule, self._patience = self._timers.schedule, self._timers.patience
        self._soon: deque = deque()  # work
        self._line: list[tuple] = []  # a heap of (place, number that makes it unique, task)
        self._count = 0
        self._now = self._began = time.monotonic()  # about now; when the turn that goes on now began
        self._running = False
        self.on_error: Callable[[BaseException], object] = print_traceback  # of an exception that no one awaits
        self._signals: dict = {}  # number -> work
        self._pending_signals: deque[int] = deque()
        self._wakeup: tuple[int, int] | None = None  # the pipe that a signal writes to
        self.tasks: set[Task] = set()
        self.meter: TurnMeter | None = None  # hears how long each turn was

    # readiness

    def watch(self, fd, events, work):
        """Call work(events) whenever fd is ready for one of them, from now until forget(); again to change.

        Raises OSError if the kernel has no room for it: then all is as it was before.
        """
        known = self._watched.get(fd)
        if known is None:
            self._epoll.register(fd, events)
        elif known[0] != events:
            self._epoll.modify(fd, events)
        self._watched[fd] = events, work
        self._unwatched.pop(fd, None)

    def watch_surely(self, fd, events, work):
        """As watch(), for what many depend on: it is tried again until the kernel has room for it."""
        self._watch_surely(fd, (events, work), Backoff(max_seconds=_MAX_AGAIN_SECONDS))

    def _watch_surely(self, fd, wish, backoff):
        try:
            self.watch(fd, *wish)
        except OSError:
            self._unwatched[fd] = wish
            again = backoff.next_seconds()
            self.after(again, lambda: self._unwatched.get(fd) is wish and self._watch_surely(fd, wish, backoff))

    def forget(self, fd):
        """Stop watching fd; nothing happens if it is not watched."""
        self._unwatched.pop(fd, None)
        if self._watched.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # closed already

    # time

    def after(self, seconds, work):
        """Call work() once in so many seconds; returns the Timer."""
        return Timer(self._timers, time.monotonic() + seconds, work)

    def at(self, when, work):
        """Call work() once at `when` of time.monotonic(); returns the Timer."""
        return Timer(self._timers, when, work)

    def soon(self, work):
        """Call work() after what runs now, before the loop waits."""
        self._soon.append(work)

    # processes and signals

    def on_exit(self, pid, work):
        """Call work(wait_status) when the child pid has ended.  Raises OSError if no descriptor can be had."""
        fd = os.pidfd_open(pid)

        def ended(_):
            self.forget(fd)
            os.close(fd)
            work(os.waitpid(pid, 0)[1])

        try:
            self.watch(fd, READ, ended)
        except OSError:
            os.close(fd)
            raise

    def on_exit_surely(self, pid, work):
        """As on_exit(), for a child that must be waited for: it is tried again until a descriptor can be had."""
        self._on_exit_surely(pid, work, Backoff(max_seconds=_MAX_AGAIN_SECONDS))

    def _on_exit_surely(self, pid, work, backoff):
        try:
            self.on_exit(pid, work)
        except OSError:
            self.after(backoff.next_seconds(), lambda: self._on_exit_surely(pid, work, backoff))

    def on_signal(self, number, work):
        """Call work() in a turn of the loop after each such signal (several may become one).

        Our parent may have ignored or blocked it, and both are inherited: it is unblocked and handled here.
        """
        if self._wakeup is None:
            self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
            self.watch(self._wakeup[0], READ, self._signalled)
        self._signals[number] = work
        signal.signal(number, lambda got, _: self._pending_signals.append(got))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))

    # coroutines

    def start(self, coroutine):
        """Run a coroutine as far as it goes now, and on from there; returns its Task."""
        task = Task(self, coroutine)
        self.tasks.add(task)
        task._due, task._seen = (None, None), self._now
        before = self._began
        task.step()
        self._began = before
        return task

    def turn_is_over(self):
        """Return whether the coroutine that runs now has used its quantum: then it should give way."""
        return time.monotonic() - self._began > QUANTUM_SECONDS

    def give_way(self):
        """Await a turn: others in line that have used less go first."""
        return await_turn()

    def readable(self, fd, seconds=None):
        """Await until fd can be read (or has ended).  Raises TimedOut; OSError if it cannot be watched."""
        return await_descriptor(fd, READ, seconds)

    def writable(self, fd, seconds=None):
        """Await until fd can be written.  Raises TimedOut; OSError if it cannot be watched."""
        return await_descriptor(fd, WRITE, seconds)

    async def sleep(self, seconds):
        """Await so many seconds."""
        try:
            await await_promise(Promise(), time.monotonic() + seconds)
        except TimedOut:
            pass

    # the turn

    def run(self):
        """Turn until stop(); what remains to be called then is called first."""
        self._running = True
        while self._running:
            self.turn(None)
        while self._soon or self._line:
            self._run_soon()
            self._run_line(0)

    def stop(self):
        self._running = False

    def turn(self, max_seconds):
        """Wait at most so long (None: until something happens) and handle all that is ready."""
        self._run_soon()
        if not self._running and max_seconds is None:
            return
        watched = self._watched
        patience = 0 if self._soon or self._line else self._patience(max_seconds)
        ready = self._epoll.poll(patience, max(1, len(watched)))
        self._now = time.monotonic()
        for fd, event, (wanted, work) in [(fd, event, watched[fd]) for fd, event in ready if fd in watched]:
            now = watched.get(fd)
            if now is not None and now[1] is work:  # else given back, or another's by now, in this very turn
                # an error or a hang-up counts as whatever is waited for
                work(((event & ~WRITE and READ) | (event & ~READ and WRITE)) & wanted)
        self._timers.fire()
        self._run_soon()
        self._run_line(SLICE_SECONDS + _LOOK_SECONDS * len(ready))
        if self.meter is not None:
            self.meter.note(self._now, time.monotonic())

    def abandon(self):
        """In a forked child: let go of everything without touching what the parent goes on with."""
        self.abandon_signals()
        self._epoll.close()
        for fd in self._wakeup or ():
            os.close(fd)

    def abandon_signals(self):
        """In a forked child that closes our descriptors itself: the rest, with as few pages copied as possible."""
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)

    def _run_soon(self):
        soon = self._soon
        for _ in range(len(soon)):  # what these add waits until readiness has been looked at
            soon.popleft()()

    def _line_up(self, task):
        """Put a task in line, at the place that what it has used lately gives it."""
        now = self._now
        used = task._used = task._used * 0.5 ** (now - task._seen)
        task._seen = now
        self._count += 1
        heappush(self._line, (int(used * 1_000_000).bit_length() + now, self._count, task))

    def _run_line(self, seconds):
        """Let those in line have their turns for so long, at least one."""
        line = self._line
        end = time.monotonic() + seconds
        while line:
            task = heappop(line)[2]
            if task._due is None:
                continue  # cancelled
            task.step()
            if self._soon:
                self._run_soon()
            if time.monotonic() >= end:
                return

    def _signalled(self, _):
        try:
            while os.read(self._wakeup[0], 4096):
                pass
        except BlockingIOError:
            pass
        while self._pending_signals:
            self._signals[self._pending_signals.popleft()]()

    def _park(self, task, request):
        target, events, when = request
        if target is None:
            task.resume()
            return
        if when is not None:
            task.when = when
            self._schedule(task)
        if events is None:
            task._watch = target
            target.then(task.wake)
            return
        wanted, watch = self._watched.get(target, (None, None))
        if wanted is None:
            watch = Watch(self, target)
        if wanted != events:
            try:
                self.watch(target, events, watch)
            except OSError as error:
                task.resume(error=error)  # this task's trouble alone
                return
        watch.task = task
        task._watch = watch
