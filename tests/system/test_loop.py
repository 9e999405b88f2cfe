"""The loop: readiness, timers, children, signals, coroutines.  Waits are on descriptors, with a bound."""

import os
import signal
import socket
import types

import pytest

from pyqmail.system import coroutines, timers
from pyqmail.system import loop as loops
from pyqmail.system.coroutines import READ, Cancelled, Promise, TimedOut
from pyqmail.system.loop import QUANTUM_SECONDS, Loop
from tests.processes import open_descriptors


@pytest.fixture
def loop():
    loop = Loop()
    guard = loop.after(20, lambda: pytest.fail("the loop did not stop"))
    yield loop
    guard.cancel()
    loop.abandon()


def finish(loop, coroutine):
    """Run a coroutine to its end and return what it returned."""
    task = loop.start(coroutine)
    task.promise.then(lambda promise: loop.stop())
    if not task.promise.done:
        loop.run()
    if task.promise.error:
        raise task.promise.error
    return task.promise.value


def test_timers_fire_in_order_each_at_its_time_and_may_be_moved(busy, loop):
    fired, now = [], loops.time.monotonic
    began = now()
    late = loop.after(2, lambda: fired.append(("moved", now() - began)))
    loop.after(1, lambda: fired.append(("first", now() - began)))
    loop.after(0.5, lambda: fired.append("cancelled")).cancel()
    loop.after(3, lambda: fired.append(("third", now() - began)))
    late.move(late.when + 2)
    for _ in range(5):
        busy(1)
        loop.turn(0)
    assert fired == [("first", 1), ("third", 3), ("moved", 4)]


def test_a_timer_moved_to_earlier_fires_once(busy, loop):
    fired = []
    timer = loop.after(10, lambda: fired.append(1))
    timer.move(0)
    loop.turn(0)
    assert fired == [1]
    busy(15)
    loop.turn(0)
    assert fired == [1]


def test_readable_then_the_same_descriptor_again(loop):
    ours, theirs = socket.socketpair()

    async def work():
        got = []
        for _ in range(3):
            await loop.readable(ours.fileno(), 5)
            got.append(ours.recv(10))
            theirs.send(b"%d" % len(got))
        return got

    theirs.send(b"x")
    assert finish(loop, work()) == [b"x", b"1", b"2"]
    loop.forget(ours.fileno())


def test_a_time_limit(loop):
    ours, theirs = socket.socketpair()

    async def work():
        try:
            await loop.readable(ours.fileno(), 0.01)
        except TimedOut:
            theirs.send(b"late")
            await loop.readable(ours.fileno(), 5)
            return ours.recv(10)

    assert finish(loop, work()) == b"late"
    loop.forget(ours.fileno())


def test_readiness_nobody_waits_for_does_not_spin(loop):
    ours, theirs = socket.socketpair()
    turns = []

    async def work():
        await loop.readable(ours.fileno(), 5)
        for _ in range(20):
            turns.append(1)
            await loop.sleep(0.001)

    theirs.send(b"unread")
    finish(loop, work())
    assert len(turns) == 20 and ours.fileno() not in loop._watched


def test_what_is_forgotten_in_a_turn_is_not_called_in_it(loop):
    pairs, called = [socket.socketpair() for _ in range(2)], []

    def ready(mine, other):
        called.append(mine)
        for ours, _ in pairs:
            loop.forget(ours.fileno())
        loop.watch(pairs[other][0].fileno(), READ, lambda events: (called.append("anew"), loop.stop()))

    for index, (ours, theirs) in enumerate(pairs):
        loop.watch(ours.fileno(), READ, lambda events, index=index: ready(index, 1 - index))
        theirs.send(b"x")
    loop.run()
    assert len(called) == 2 and called[1] == "anew"


def test_promises(loop):
    first, second = Promise(), Promise()

    async def work():
        first_value = await first
        try:
            await second
        except ValueError as error:
            return first_value, str(error)

    loop.after(0.005, lambda: first.keep(7))
    loop.after(0.01, lambda: second.break_(ValueError("no")))
    assert finish(loop, work()) == (7, "no")


def test_a_promise_kept_too_late_is_ignored(loop):
    promise = Promise()

    async def work():
        with pytest.raises(TimedOut):
            await promise.within(loop, 0.005)
        promise.keep("late")
        await loop.sleep(0.005)
        return await promise.within(loop, 1)

    assert finish(loop, work()) == "late"


def test_child_exits(loop):
    ended = []
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    loop.on_exit(pid, lambda status: (ended.append(os.WEXITSTATUS(status)), loop.stop()))
    loop.run()
    assert ended == [7]


def test_signals(loop):
    got = []
    loop.on_signal(signal.SIGUSR1, lambda: (got.append(1), len(got) == 2 and loop.stop()))
    loop.soon(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.after(0.01, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.run()
    assert got == [1, 1]


def test_a_signal_that_was_blocked_before_anybody_asked_for_it_is_heard(loop):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    try:
        signal.raise_signal(signal.SIGUSR1)  # waits
        heard = []
        loop.on_signal(signal.SIGUSR1, lambda: (heard.append(1), loop.stop()))
        loop.run()
        assert heard == [1] and signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_an_exception_nobody_asks_for_is_shown(loop):
    shown = []
    loop.on_error = shown.append

    async def work():
        raise ValueError("bug")

    loop.start(work())
    assert [str(error) for error in shown] == ["bug"] and not loop.tasks


def test_cancel_closes_the_coroutine_where_it_waits(loop):
    ended = []

    async def work():
        try:
            await loop.sleep(60)
        finally:
            ended.append(True)

    loop.start(work()).cancel()
    assert ended == [True] and not loop.tasks


def test_a_forked_child_lets_go_of_the_parent_s_loop(loop):
    ours, theirs = socket.socketpair()
    loop.watch(ours.fileno(), READ, lambda events: loop.stop())
    pid = os.fork()
    if pid == 0:
        loop.abandon()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    theirs.send(b"x")
    loop.run()
    loop.forget(ours.fileno())


def test_many_tasks_with_time_limits_leave_nothing(loop):
    pairs = [socket.socketpair() for _ in range(200)]

    async def work(sock):
        await loop.readable(sock.fileno(), 100)
        return sock.recv(1)

    tasks = [loop.start(work(ours)) for ours, _ in pairs]
    for _, theirs in pairs:
        theirs.send(b"x")
    while loop.tasks:
        loop.turn(1)
    assert all(task.promise.value == b"x" for task in tasks)
    for ours, _ in pairs:
        loop.forget(ours.fileno())


def test_what_ends_long_before_its_time_is_not_kept_until_then(loop):
    ours, theirs = socket.socketpair()
    alive, fired = [], []

    async def work():
        await loop.readable(ours.fileno(), 1200)

    for number in range(20_000):
        loop.start(work()).cancel()
        timer = loop.after(1300, lambda: fired.append(1))
        if number % 100:
            timer.cancel()
        else:
            alive.append(timer)
    assert len(loop._timers) < 3000
    for timer in alive:
        timer.move(0)
    loop.turn(0)
    assert len(fired) == len(alive) == 200
    ours.close()
    theirs.close()


# cancelling


async def outcome_of(task):
    try:
        return await task.promise
    except Cancelled:
        return "cancelled"


def test_whoever_awaits_a_cancelled_task_is_told(loop):
    slept = loop.start(loop.sleep(60))
    before, seen = loop.start(outcome_of(slept)), []
    loop.soon(slept.cancel)
    assert finish(loop, outcome_of(before)) == "cancelled"
    assert finish(loop, outcome_of(slept)) == "cancelled"  # asked afterwards
    slept.promise.then(seen.append)
    assert seen == [slept.promise] and not loop.tasks


def test_who_does_not_expect_it_ends_with_it(loop):
    slept = loop.start(loop.sleep(60))

    async def work():
        await slept.promise

    waiting, shown = loop.start(work()), []
    loop.on_error = shown.append
    slept.cancel()
    finish(loop, loop.sleep(0))
    assert isinstance(waiting.promise.error, Cancelled) and [type(error) for error in shown] == [Cancelled]


def test_a_cancelled_task_that_nobody_awaits_is_no_error(loop):
    shown = []
    loop.on_error = shown.append
    task = loop.start(loop.sleep(60))
    task.cancel()
    finish(loop, loop.sleep(0))
    assert isinstance(task.promise.error, Cancelled) and shown == [] and not loop.tasks


def test_cancel_of_what_has_ended_changes_nothing(loop):
    async def work(what):
        if what == "fail":
            raise ValueError
        return what

    loop.on_error = lambda error: None
    good, bad, cancelled = loop.start(work(1)), loop.start(work("fail")), loop.start(loop.sleep(60))
    cancelled.cancel()
    for task in (good, bad, cancelled):
        task.cancel()
    assert good.promise.value == 1 and good.promise.error is None
    assert isinstance(bad.promise.error, ValueError) and isinstance(cancelled.promise.error, Cancelled)


@pytest.mark.parametrize("ends", [False, True])
def test_a_task_that_cancels_itself_is_closed_at_its_next_wait(loop, ends):
    did = []

    async def work():
        await loop.sleep(0)
        task.cancel()
        did.append("went on")
        if ends:
            return "ended"
        try:
            await loop.sleep(60)
        finally:
            did.append("closed")

    task = loop.start(work())
    assert finish(loop, outcome_of(task)) == ("ended" if ends else "cancelled")
    assert did == (["went on"] if ends else ["went on", "closed"])


def test_a_task_that_another_one_cancels_while_it_stands_in_line_does_not_go_on(loop):
    promise, went_on = Promise(), []

    async def first():
        await promise
        others[0].cancel()

    async def second():
        await promise
        went_on.append(True)

    task = loop.start(first())
    others = [loop.start(second())]
    others[0]._used = 1.0  # it stands behind
    promise.keep()
    assert finish(loop, outcome_of(others[0])) == "cancelled"
    assert not went_on and task.promise.done


def test_a_clean_up_that_fails_is_shown_and_the_promise_is_broken_all_the_same(loop):
    shown = []
    loop.on_error = shown.append

    async def work():
        try:
            await loop.sleep(60)
        finally:
            raise ValueError("while closing")

    task = loop.start(work())
    task.cancel()
    assert finish(loop, outcome_of(task)) == "cancelled"
    assert [str(error) for error in shown] == ["while closing"]


def test_who_waits_no_longer_leaves_nothing_at_the_promise(loop):
    promise = Promise()

    async def work():
        for _ in range(5):
            with pytest.raises(TimedOut):
                await promise.within(loop, 0)
        await promise

    task = loop.start(work())
    while len(promise._waiters) != 1 or task.when is not None:
        loop.turn(1)
    task.cancel()
    assert not promise._waiters


# fairness


@pytest.fixture
def busy(monkeypatch):
    """busy(seconds): be busy for so long, on a clock that stands still otherwise."""
    now = [1000.0]

    def pass_by(seconds):
        now[0] += seconds

    for module in (loops, coroutines, timers):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    return pass_by


def test_who_asks_little_goes_before_those_who_ask_much(busy):
    """Twenty always have something to do, one is spoken to now and then: that never waits for all of them."""
    loop, (ours, theirs) = Loop(), socket.socketpair()
    waits, turns = [], [0]

    async def greedy():
        while len(waits) < 10:
            busy(0.002)
            turns[0] += 1
            if turns[0] % 50 == 0:
                said[0] = turns[0]
                theirs.send(b"x")
            await loop.give_way()

    async def modest():
        for _ in range(10):
            await loop.readable(ours.fileno(), 20)
            ours.recv(1)
            waits.append(turns[0] - said[0])

    said = [0]
    for _ in range(20):
        loop.start(greedy())
    finish(loop, modest())
    loop.abandon()
    assert max(waits) <= 2, waits


def test_those_who_ask_alike_go_round(busy):
    loop, counts = Loop(), [0] * 10

    async def greedy(number):
        while sum(counts) < 300:
            busy(0.001)
            counts[number] += 1
            await loop.give_way()

    tasks = [loop.start(greedy(number)) for number in range(10)]
    while not all(task.promise.done for task in tasks):
        loop.turn(1)
    loop.abandon()
    assert min(counts) >= 25, counts


def test_nobody_waits_for_ever(loop):
    """The seconds of waiting count: newcomers who have used nothing do not go first for ever."""
    went = []

    async def work(name, promise):
        await promise
        went.append(name)

    first, late = Promise(), Promise()
    greedy, fresh = loop.start(work("greedy", first)), loop.start(work("fresh", late))
    greedy._used, greedy._seen = 1.4, loop._now  # as much as can be: all the time there was
    first.keep()
    loop._now += 25
    late.keep()
    while len(went) < 2:
        loop.turn(1)
    assert went == ["greedy", "fresh"] and fresh.promise.done


def test_what_is_called_soon_again_and_again_does_not_hold_up_readiness(loop):
    (ours, theirs), calls = socket.socketpair(), []
    loop.watch(ours.fileno(), READ, lambda events: loop.stop())

    def again():
        calls.append(theirs.send(b"x"))
        assert len(calls) < 10
        loop.soon(again)

    loop.soon(again)
    loop._running = True
    while loop._running:
        loop.turn(None)
    assert loop._soon and len(calls) <= 2  # it was called once before readiness was looked at, and in that turn
    loop._soon.clear()
    loop.forget(ours.fileno())


def test_a_turn_is_over_after_its_quantum(busy):
    loop = Loop()

    async def work():
        seen = [loop.turn_is_over()]
        busy(1.01 * QUANTUM_SECONDS)
        seen.append(loop.turn_is_over())
        await loop.give_way()
        seen.append(loop.turn_is_over())
        return seen

    assert finish(loop, work()) == [False, True, False]
    loop.abandon()


# what the kernel refuses to watch


def test_what_cannot_be_watched_is_the_fault_of_who_waits_for_it(loop, tmp_path):
    (tmp_path / "file").touch()
    file, (ours, theirs) = os.open(tmp_path / "file", os.O_RDONLY), socket.socketpair()

    async def wait_for(fd):
        try:
            await loop.readable(fd, 20)
        except PermissionError:
            return "refused"
        return "ready"

    other, one = loop.start(wait_for(ours.fileno())), loop.start(wait_for(file))
    assert finish(loop, outcome_of(one)) == "refused"
    theirs.send(b"x")
    assert finish(loop, outcome_of(other)) == "ready"
    loop.forget(ours.fileno())
    os.close(file)


def test_what_many_depend_on_is_watched_as_soon_as_it_can_be(loop, tmp_path):
    (tmp_path / "file").touch()
    fd, (ours, theirs) = os.open(tmp_path / "file", os.O_RDONLY), socket.socketpair()
    with pytest.raises(PermissionError):
        loop.watch(fd, READ, lambda events: None)
    loop.watch_surely(fd, READ, lambda events: loop.stop())
    os.dup2(ours.fileno(), fd)
    theirs.send(b"x")
    loop.run()
    loop.forget(fd)
    os.close(fd)


def test_what_is_forgotten_is_not_tried_again(busy, loop, tmp_path):
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    loop.watch_surely(fd, READ, lambda events: pytest.fail("watched"))
    loop.forget(fd)
    ours, _ = socket.socketpair()
    os.dup2(ours.fileno(), fd)
    for _ in range(10):  # longer than until the next try
        busy(1)
        loop.turn(0)
    assert fd not in loop._watched
    os.close(fd)


def test_a_child_that_cannot_be_watched_leaves_no_descriptor(loop, monkeypatch):
    def refuse(fd, events, work):
        raise OSError

    before = open_descriptors()
    monkeypatch.setattr(loop, "watch", refuse)
    with pytest.raises(OSError):
        loop.on_exit(os.getpid(), None)
    assert os.listdir("/proc/self/fd") == before
