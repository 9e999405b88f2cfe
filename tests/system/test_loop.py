"""The loop: readiness, timers, children, signals, coroutines.  Waits are on descriptors, with a bound."""

import os
import signal
import socket

import pytest

from pyqmail.system.loop import READ, Loop, Promise, TimedOut


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


def test_timers_fire_in_order_and_may_be_moved(loop):
    fired = []
    now = 0
    late = loop.after(0.02, lambda: fired.append("moved"))
    loop.after(0.01, lambda: fired.append("first"))
    loop.after(0.005, lambda: fired.append("cancelled")).cancel()
    loop.after(0.03, lambda: fired.append("third"))
    end = loop.after(0.05, loop.stop)
    late.move(end.when - 0.005)
    loop.run()
    assert fired == ["first", "third", "moved"] and now == 0


def test_a_timer_moved_to_earlier_fires_once(loop):
    fired = []
    timer = loop.after(10, lambda: fired.append(1))
    timer.move(0)
    loop.after(0.01, loop.stop)
    loop.run()
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
