"""One loop for parents and residents: readiness, timers, child exits, signals, and coroutines.

Over epoll; no asyncio, and not selectors, whose layers cost time in each turn and memory in each forked process.
Callbacks are called from run() and must not wait.  A coroutine waits with `await loop.readable(fd, seconds)`,
`await loop.writable(fd, seconds)`, `await loop.sleep(seconds)` or `await promise`; a time limit raises TimedOut
inside it.

A descriptor that was given to the loop must be given back with forget() before it is closed.  A forked child
that does not go on with the loop calls abandon() first.

Who goes first.  Callbacks are called as soon as they are due.  A coroutine whose waiting is over stands in line
instead, and its turn lasts until it waits again.  What matters to somebody who talks to one of thousands is how long
the others hold him up, so the line is in order of what each has used lately: its own running time, which counts half as
much after each second (as in a multi-level feedback queue; the level is the binary logarithm of the microseconds).  A
second of waiting makes up for one level.  So who asks little goes before who asks much, those who ask alike go round,
and nobody waits for ever: at most as many seconds as there are levels.

After SLICE_SECONDS of turns the loop looks at readiness, timers and callbacks before the line goes on.  A turn should
last QUANTUM_SECONDS at most; nobody can be stopped, but system/driver.py reads in small pieces, and asks turn_is_over()
whenever a session has said something.
"""

import _signal as signal  # without its enums: their pages would be copied in each forked supervisor
import heapq
import os
import select
import time
import types
from _collections import deque  # collections brings much that a cold start has no use for

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import traceback_text

READ, WRITE, NOTHING = select.EPOLLIN, select.EPOLLOUT, 0
QUANTUM_SECONDS = 0.005  # what a coroutine may use before others have their turn
SLICE_SECONDS = 0.001  # between two looks at what is ready
_LOOK_SECONDS = 0.000005  # what such a look costs for each descriptor that is ready, at most: it is not to be all we do
_SMALL_CROWD = 1000  # timers that are not worth looking through
_MAX_AGAIN_SECONDS = 5.0  # until what the kernel had no room for is tried again, at most


class TimedOut(Exception):
    """The time limit passed before what was waited for happened."""


class Cancelled(Exception):
    """The task that was waited for has been cancelled."""


class Timer:
    """A call at a time to come.  cancel() at any moment; move(when) to a later or earlier one."""

    __slots__ = ("_loop", "_work", "when", "_entry")

    def __init__(self, loop, when, work):
        self._loop, self._work, self.when, self._entry = loop, work, when, None
        loop._schedule(self)

    def cancel(self):
        self.when = None

    def move(self, when):
        """Fire at `when` (time.monotonic seconds) instead; costs nothing if that is later than before."""
        self.when = when
        self._loop._schedule(self)

    def fire(self):
        self._work()


class Promise:
    """A value to come.  keep() or break_() once; coroutines await it, callbacks ask with then()."""

    __slots__ = ("done", "value", "error", "_waiters")

    def __init__(self):
        self.done, self.value, self.error, self._waiters = False, None, None, []

    def keep(self, value=None):
        if not self.done:
            self.done, self.value = True, value
            self._wake()

    def break_(self, error):
        """Raise error in whoever awaits."""
        if not self.done:
            self.done, self.error = True, error
            self._wake()

    def then(self, work):
        """Call work(promise) once done; at once if it is."""
        if self.done:
            work(self)
        else:
            self._waiters.append(work)

    def forget(self, work):
        """Do not call work(), which then() was given."""
        if work in self._waiters:
            self._waiters.remove(work)

    def within(self, loop, seconds):
        """Return an awaitable that raises TimedOut if the promise is not kept in time."""
        return _await_promise(self, time.monotonic() + seconds)

    def __await__(self):
        return _promised(self, None)

    def _wake(self):
        waiters, self._waiters = self._waiters, []
        for work in waiters:
            work(self)


class Task:
    """A running coroutine.  `promise` is kept with what it returns; what it raises breaks the promise.

    An exception nobody asks for goes to loop.on_error.
    """

    __slots__ = ("_loop", "_coroutine", "promise", "when", "_entry", "_watch", "_due", "_used", "_seen")

    def __init__(self, loop, coroutine):
        self._loop, self._coroutine, self.promise = loop, coroutine, Promise()
        self.when = self._entry = self._watch = None
        self._due = None  # (value, error) to go on with, while it stands in line
        self._used = self._seen = 0.0  # seconds it has used lately, as of this time

    def step(self):
        """Have a turn: go on with what is due, until the next wait."""
        (value, error), self._due = self._due, None
        self._leave()
        loop = self._loop
        began = loop._began = time.monotonic()
        try:
            request = self._coroutine.send(value) if error is None else self._coroutine.throw(error)
        except StopIteration as stop:
            loop.tasks.discard(self)
            self.promise.keep(stop.value)
        except Exception as failure:
            loop.tasks.discard(self)
            if not self.promise._waiters:
                loop.on_error(failure)
            self.promise.break_(failure)
        else:
            loop._now = time.monotonic()
            self._used += loop._now - began
            if self._due is _CANCEL:
                self._close()
            else:
                loop._park(self, request)

    def cancel(self):
        """Close the coroutine where it waits, or will wait next; whoever awaits the promise gets Cancelled.

        Nothing happens to one that has ended.
        """
        if self.promise.done:
            return
        if self._coroutine.cr_running:
            self._due = _CANCEL  # by itself, or by what it has called
        else:
            self._close()

    def fire(self):
        self.resume(error=TimedOut())

    def wake(self, promise):
        """Go on with what the promise holds; a promise that came too late is ignored."""
        if self._watch is promise:
            self.resume(promise.value, promise.error)

    def resume(self, value=None, error=None):
        """Stand in line to go on with value, or with error; what it waited for else comes too late."""
        if self._due is None and not self.promise.done:
            self._due, self.when = (value, error), None
            self._loop._line_up(self)

    def _close(self):
        self._leave()
        self._loop.tasks.discard(self)
        try:
            self._coroutine.close()
        except Exception as failure:
            self._loop.on_error(failure)  # its clean-up failed
        self._due = None
        self.promise.break_(Cancelled())

    def _leave(self):
        """Wait for nothing any more."""
        watch, self._watch, self.when = self._watch, None, None
        if type(watch) is _Watch:
            watch.task = None
        elif watch is not None:
            watch.forget(self.wake)


_CANCEL = object()  # due to a task that is to be closed once it waits


class Loop:
    """See the module.  One for each process; turn() is one wait and what it brought, run() turns until stop()."""

    def __init__(self):
        self._epoll = select.epoll()
        self._watched = {}  # fd -> (events, work)
        self._timers, self._crowd = [], _SMALL_CROWD
        self._count = 0
        self._soon = deque()
        self._line = []  # a heap of (place, number, task)
        self._now = self._began = time.monotonic()  # about now; when the turn that goes on now began
        self._unwatched = {}  # fd -> (events, work) that the kernel had no room for
        self._running = False
        self._signals = {}
        self._pending_signals = deque()
        self._wakeup = None
        self.tasks = set()

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
        """As watch(), for what many depend on: what the kernel has no room for is tried again until it has."""
        self._watch_surely(fd, (events, work), Backoff(max_seconds=_MAX_AGAIN_SECONDS))

    def _watch_surely(self, fd, wish, backoff):
        try:
            self.watch(fd, *wish)
        except OSError:
            self._unwatched[fd] = wish
            again = backoff.next_seconds()
            self.after(again, lambda: self._unwatched.get(fd) is wish and self._watch_surely(fd, wish, backoff))

    def forget(self, fd):
        """Stop watching fd, whoever waits; nothing happens if it is not watched."""
        self._unwatched.pop(fd, None)
        if self._watched.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # closed already

    # time

    def after(self, seconds, work):
        """Call work() once in so many seconds; returns the Timer."""
        return Timer(self, time.monotonic() + seconds, work)

    def at(self, when, work):
        """Call work() once at `when` of time.monotonic(); returns the Timer."""
        return Timer(self, when, work)

    def soon(self, work):
        """Call work() after what runs now, before anything else is waited for."""
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
        """As on_exit(), for a child that must be waited for: without a descriptor now, it is asked for again."""
        self._on_exit_surely(pid, work, Backoff(max_seconds=_MAX_AGAIN_SECONDS))

    def _on_exit_surely(self, pid, work, backoff):
        try:
            self.on_exit(pid, work)
        except OSError:
            self.after(backoff.next_seconds(), lambda: self._on_exit_surely(pid, work, backoff))

    def on_signal(self, number, work):
        """Call work() in a turn of the loop after each such signal (several may become one).

        Whoever started us may have ignored or blocked it: both are inherited, and it is we who must hear it.
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
        """Await a turn: others who stand in line, and have used less, go first."""
        return _await_turn()

    def readable(self, fd, seconds=None):
        """Await until fd can be read (or has ended).  Raises TimedOut; OSError if it cannot be watched."""
        return _await_descriptor(fd, READ, seconds)

    def writable(self, fd, seconds=None):
        """Await until fd can be written.  Raises TimedOut; OSError if it cannot be watched."""
        return _await_descriptor(fd, WRITE, seconds)

    async def sleep(self, seconds):
        """Await so many seconds."""
        try:
            await _await_promise(Promise(), time.monotonic() + seconds)
        except TimedOut:
            pass

    def on_error(self, failure):
        """What a coroutine raised and nobody asked for: a traceback on descriptor 2."""
        os.write(2, os.fsencode(traceback_text(failure)))

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

    def turn(self, longest_seconds):
        """Wait at most so long (None: until something happens) and handle all that is ready."""
        self._run_soon()
        if not self._running and longest_seconds is None:
            return
        watched = self._watched
        patience = 0 if self._soon or self._line else self._patience(longest_seconds)
        ready = self._epoll.poll(patience, max(1, len(watched)))
        self._now = time.monotonic()
        for fd, event, (wanted, work) in [(fd, event, watched[fd]) for fd, event in ready if fd in watched]:
            now = watched.get(fd)
            if now is not None and now[1] is work:  # else given back, or another's by now, in this very turn
                # an error or a hang-up is for whoever waits for anything
                work(((event & ~WRITE and READ) | (event & ~READ and WRITE)) & wanted)
        self._fire_timers()
        self._run_soon()
        self._run_line(SLICE_SECONDS + _LOOK_SECONDS * len(ready))

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
        heapq.heappush(self._line, (int(used * 1_000_000).bit_length() + now, self._count, task))

    def _run_line(self, seconds):
        """Let those in line have their turns for so long, at least one."""
        line = self._line
        end = time.monotonic() + seconds
        while line:
            task = heapq.heappop(line)[2]
            if task._due is None:
                continue  # cancelled
            task.step()
            if self._soon:
                self._run_soon()
            if time.monotonic() >= end:
                return

    def _patience(self, longest):
        timers = self._timers
        while timers and timers[0][2].when is None:
            heapq.heappop(timers)[2]._entry = None
        if not timers:
            return longest
        until = max(0.0, timers[0][0] - time.monotonic())
        return until if longest is None else min(until, longest)

    def _schedule(self, item):
        if item._entry is None or item.when < item._entry:
            self._count += 1
            item._entry = item.when
            heapq.heappush(self._timers, (item.when, self._count, item))
            if len(self._timers) > self._crowd:
                self._forget_dead_timers()

    def _forget_dead_timers(self):
        """Drop what will not fire: else thousands that end long before their time would stay until then."""
        timers, kept = self._timers, []
        for entry in timers:
            when, _, item = entry
            if item._entry == when:
                if item.when is not None:
                    kept.append(entry)
                else:
                    item._entry = None
        timers[:] = kept  # in place: _fire_timers() may be at it
        heapq.heapify(timers)
        self._crowd = max(_SMALL_CROWD, 2 * len(timers))

    def _fire_timers(self):
        timers, now = self._timers, time.monotonic()
        while timers and timers[0][0] <= now:
            when, _, item = heapq.heappop(timers)
            if item._entry != when:
                continue  # a later entry than the one that counts
            item._entry = None
            if item.when is None:
                continue
            if item.when > now:
                self._schedule(item)
                continue
            item.when = None
            item.fire()

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
            watch = _Watch(self, target)
        if wanted != events:
            try:
                self.watch(target, events, watch)
            except OSError as error:
                task.resume(error=error)  # its own trouble, nobody else's
                return
        watch.task = task
        task._watch = watch


class _Watch:
    """What a descriptor's readiness leads to: the task that waits for it.  Stays registered between waits."""

    __slots__ = ("_loop", "_fd", "task")

    def __init__(self, loop, fd):
        self._loop, self._fd, self.task = loop, fd, None

    def __call__(self, events):
        task = self.task
        if task is None:
            self._loop.forget(self._fd)  # ready while nobody waits: register again at the next wait
        else:
            task.resume()


@types.coroutine
def _await_descriptor(fd, events, seconds):
    yield fd, events, None if seconds is None else time.monotonic() + seconds


@types.coroutine
def _await_turn():
    yield None, None, None


def _promised(promise, when):
    if not promise.done:
        value = yield promise, None, when
        return value
    if promise.error is not None:
        raise promise.error
    return promise.value


@types.coroutine
def _await_promise(promise, when):
    return (yield from _promised(promise, when))
