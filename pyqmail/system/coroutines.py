"""What a coroutine on the loop is, and what it can wait for: readiness, a promise, a time limit, its turn.

A coroutine waits by yielding a request, a tuple (target, events, when), which the loop parks:

    (descriptor, READ or WRITE, when)    until the descriptor is ready
    (promise, None, when)                until the promise is done
    (None, None, None)                   only until its next turn
    when                                 the time limit, of time.monotonic(); None without one

A Task goes round:

    step() -- the coroutine runs --> it yields a request -- Loop._park() --> it waits
      ^                                                                        |
      |                                                                        | the first of: ready, done, time limit
      +--- its turn comes <-- it stands in the loop's line, `_due` is set <----+

What a coroutine may assume:
- Nothing else runs between two of its waits: what it has looked at stays true until then.  After a wait anything may
  have changed, as the connection that it waited for may have been closed.
- It gets exactly one answer to a wait.  The first that happens sets `_due`; whatever comes later, until its turn, is
  ignored.  So TimedOut means that nothing else had happened before the time was up.
- cancel() closes it where it waits, so that only its `finally` and `except GeneratorExit` run; they must not wait.
- What it raises goes to those who await its promise; if there are none, to Loop.on_error().

A descriptor stays registered with epoll between two waits, through its Watch: a session that reads again and again
costs no epoll_ctl(2) for each.  Readiness while no task waits ends that: the Watch makes the loop forget the
descriptor, and the next wait registers it again.  One coroutine at a time may wait for a descriptor.
"""

import select
import time
import types

READ, WRITE, NOTHING = select.EPOLLIN, select.EPOLLOUT, 0
_CANCEL = object()  # due to a task that is to be closed once it waits


class TimedOut(Exception):
    """The time limit passed before what was waited for happened."""


class Cancelled(Exception):
    """The task that was waited for has been cancelled."""


class Promise:
    """A value to come.  keep() or break_() once; coroutines await it, callbacks ask with then()."""

    __slots__ = ("done", "value", "error", "_waiters")

    def __init__(self):
        self.done, self.value, self.error, self._waiters = False, None, None, []

    def keep(self, value=None):
        """Give value to each coroutine that awaits; nothing happens if it is done already."""
        if not self.done:
            self.done, self.value = True, value
            self._wake()

    def break_(self, error):
        """Raise error in each coroutine that awaits."""
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
        return await_promise(self, time.monotonic() + seconds)

    def __await__(self):
        return _promised(self, None)

    def _wake(self):
        waiters, self._waiters = self._waiters, []
        for work in waiters:
            work(self)


class Task:
    """A running coroutine.  `promise` is kept with what it returns; what it raises breaks the promise.

    An exception that no one awaits goes to loop.on_error.
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
        """Close the coroutine where it waits, or will wait next; those who await the promise get Cancelled.

        Nothing happens to one that has ended.
        """
        if self.promise.done:
            return
        if self._coroutine.cr_running:
            self._due = _CANCEL  # by itself, or by what it has called
        else:
            self._close()

    def fire(self):
        """The time limit has passed (system/timers.py)."""
        self.resume(error=TimedOut())

    def wake(self, promise):
        """Go on with what the promise holds; a promise that came too late is ignored."""
        if self._watch is promise:
            self.resume(promise.value, promise.error)

    def resume(self, value=None, error=None):
        """Stand in line to go on with value, or with error; anything else that it waited for comes too late."""
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
        """Wait for nothing."""
        watch, self._watch, self.when = self._watch, None, None
        if type(watch) is Watch:
            watch.task = None
        elif watch is not None:
            watch.forget(self.wake)


class Watch:
    """What a descriptor's readiness leads to: the task that waits for it, None between two waits."""

    __slots__ = ("_loop", "_fd", "task")

    def __init__(self, loop, fd):
        self._loop, self._fd, self.task = loop, fd, None

    def __call__(self, events):
        task = self.task
        if task is None:
            self._loop.forget(self._fd)  # ready while no task waits: the next wait registers again
        else:
            task.resume()


@types.coroutine
def await_descriptor(fd, events, seconds):
    """Wait until fd is ready for one of events.  Raises TimedOut after seconds, None for no limit."""
    yield fd, events, None if seconds is None else time.monotonic() + seconds


@types.coroutine
def await_turn():
    """Wait for the next turn."""
    yield None, None, None


@types.coroutine
def await_promise(promise, when):
    """Wait until a promise is done, and return its value.  Raises its error; TimedOut at `when`, None for no limit."""
    return (yield from _promised(promise, when))


def _promised(promise, when):
    if not promise.done:
        return (yield promise, None, when)
    if promise.error is not None:
        raise promise.error
    return promise.value
