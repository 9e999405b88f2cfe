"""What goes out without waiting: by turns, past slow readers, through passing errors, until the reader has gone."""

import errno
import os

import pytest

from pyqmail.system import stream
from pyqmail.system.loop import Loop
from pyqmail.system.stream import CLOSED, DUE, IDLE, PAUSED, WAITING, DescriptorBuffer, OutgoingBuffer, Pipe
from tests.waiting import turn_until


class FakeLoop:
    """Keeps what is to be called; the test calls it."""

    def __init__(self):
        self.due, self.timers = [], []

    def soon(self, work):
        self.due.append(work)

    def after(self, seconds, work):
        self.timers.append((seconds, work))

    def end_turn(self):
        due, self.due = self.due, []
        for work in due:
            work()

    def fire(self):
        """Call the timers; return their seconds."""
        timers, self.timers = self.timers, []
        for _, work in timers:
            work()
        return [seconds for seconds, _ in timers]


class Writer:
    """An OutgoingBuffer over a script: each write takes so many bytes, or fails with that errno."""

    def __init__(self, *script, watch_fails=0, **more):
        self.loop, self.script, self.calls, self.written = FakeLoop(), list(script), 0, b""
        self.watched, self.lost, self._watch_fails = [], 0, watch_fails
        self.buffer = OutgoingBuffer(self.loop, self.write, self.watch, self.lose, **more)

    def write(self, data):
        self.calls += 1
        step = self.script.pop(0) if self.script else len(data)
        if step < 0:
            raise OSError(-step, os.strerror(-step))
        self.written += bytes(data[:step])
        return min(step, len(data))

    def watch(self, is_wanted):
        if is_wanted and self._watch_fails:
            self._watch_fails -= 1
            raise OSError(errno.ENOSPC, "")
        self.watched.append(is_wanted)

    def lose(self):
        self.lost += 1


def test_what_one_turn_puts_is_one_write():
    writer = Writer()
    for data in (b"a", b"b", b"c"):
        writer.buffer.put(data)
    assert (writer.buffer.state, writer.calls) == (DUE, 0)
    writer.loop.end_turn()
    assert (writer.buffer.state, writer.calls, writer.written) == (IDLE, 1, b"abc")


def test_a_slow_reader_is_waited_for_and_costs_one_call_for_each_wake_up():
    writer = Writer(2, -errno.EAGAIN)
    writer.buffer.put(b"abcdef")
    writer.loop.end_turn()
    writer.buffer.put(b"gh")
    writer.loop.end_turn()
    writer.buffer.write()
    assert (writer.buffer.state, writer.calls, writer.watched) == (WAITING, 2, [True])
    assert writer.buffer.unsent_bytes == 6
    writer.script[:] = [1, -errno.EAGAIN]
    writer.buffer.ready()
    assert (writer.buffer.state, writer.calls, writer.watched) == (WAITING, 4, [True])
    writer.buffer.ready()
    assert (writer.written, writer.watched, writer.buffer.unsent_bytes) == (b"abcdefgh", [True, False], 0)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS, errno.EIO, errno.ENOSPC])
def test_an_error_that_may_pass_is_waited_out_with_growing_pauses(number):
    writer = Writer(-number, -number, -number, 1, -number)
    writer.buffer.put(b"abc")
    writer.loop.end_turn()
    writer.buffer.put(b"d")
    assert (writer.buffer.state, writer.loop.due, writer.calls) == (PAUSED, [], 1)
    assert [writer.loop.fire() for _ in range(3)] == [[0.05], [0.1], [0.2]]
    assert (writer.written, writer.buffer.state) == (b"a", PAUSED)
    assert writer.loop.fire() == [0.05]  # something was taken in between
    assert (writer.written, writer.buffer.state, writer.lost, writer.watched) == (b"abcd", IDLE, 0, [])


def test_nothing_is_watched_during_a_pause():
    writer = Writer(1, -errno.EAGAIN, -errno.ENOBUFS)
    writer.buffer.put(b"abc")
    writer.loop.end_turn()
    writer.buffer.ready()
    assert (writer.buffer.state, writer.watched) == (PAUSED, [True, False])


def test_a_watch_that_fails_is_an_error_that_may_pass():
    writer = Writer(1, -errno.EAGAIN, watch_fails=1)
    writer.buffer.put(b"abc")
    writer.loop.end_turn()
    assert writer.buffer.state == PAUSED
    writer.loop.fire()
    assert (writer.written, writer.buffer.state) == (b"abc", IDLE)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET])
def test_a_reader_who_has_gone_is_said_once(number):
    writer = Writer(-number)
    writer.buffer.put(b"abc")
    writer.loop.end_turn()
    writer.buffer.put(b"d")
    writer.buffer.schedule()
    writer.loop.end_turn()
    assert (writer.lost, writer.calls, writer.buffer.state, writer.loop.timers) == (1, 1, CLOSED, [])
    assert writer.buffer.unsent_bytes == 0


def test_the_owner_decides_about_any_other_error():
    asked = []

    def failed(error, tries):
        asked.append((error.errno, tries))
        return tries < 3

    writer = Writer(*[-errno.EIO] * 5, failed=failed)
    writer.buffer.put(b"abc")
    writer.loop.end_turn()
    while writer.loop.timers:
        writer.loop.fire()
    assert asked == [(errno.EIO, 1), (errno.EIO, 2), (errno.EIO, 3)]
    assert (writer.lost, writer.calls) == (1, 3)


def test_a_reader_who_leaves_too_much_counts_as_gone_but_not_within_put():
    writer = Writer(*[-errno.EAGAIN] * 9, max_bytes=10)
    writer.buffer.put(b"a" * 10)
    writer.loop.end_turn()
    assert writer.buffer.state == WAITING
    writer.buffer.put(b"b")
    assert writer.lost == 0
    writer.loop.end_turn()
    assert (writer.lost, writer.buffer.state, writer.watched) == (1, CLOSED, [True, False])


def test_a_large_block_that_is_taken_at_once_is_not_too_much():
    writer = Writer(max_bytes=10)
    writer.buffer.put(b"a" * 1000)
    writer.loop.end_turn()
    assert (writer.lost, len(writer.written)) == (0, 1000)


def test_closed_it_writes_nothing_and_take_returns_the_rest():
    writer = Writer(1, -errno.EAGAIN)
    writer.buffer.put(b"abc")
    writer.loop.end_turn()
    writer.buffer.put(b"d")
    assert writer.buffer.take() == b"bcd"
    writer.buffer.ready()
    writer.loop.end_turn()
    assert (writer.written, writer.calls) == (b"a", 2)


def test_the_tail_of_a_large_block_is_not_copied_at_each_write():
    writer = Writer(*[1000] * 999)
    kinds = set()
    take = writer.write

    def write(data):
        kinds.add(type(data))
        return take(data)

    writer.buffer._write = write
    writer.buffer.put(b"x" * 1_000_000)
    writer.loop.end_turn()
    assert kinds == {bytes, memoryview} and writer.calls == 1000 and writer.written == b"x" * 1_000_000


# --- with descriptors and a real loop


def test_a_descriptor_takes_more_than_a_pipe_holds():
    loop, (read_fd, write_fd), got = Loop(), os.pipe(), b""
    told = []
    buffer = DescriptorBuffer(loop, write_fd, lambda: None, before_write=lambda: told.append(len(got)))
    buffer.put(bytes(range(256)) * 2000)

    def read(_):
        nonlocal got
        got += os.read(read_fd, 10_000)

    loop.watch(read_fd, stream.READ, read)
    turn_until(loop, lambda: len(got) == 512_000)
    assert got == bytes(range(256)) * 2000 and told[0] == 0
    turn_until(loop, lambda: buffer.state == IDLE)
    for fd in (read_fd, write_fd):
        loop.forget(fd)
        os.close(fd)
    loop.abandon()


def test_a_pipe_says_what_came_and_once_that_the_other_end_has_gone():
    loop, (their_in, our_out), (our_in, their_out) = Loop(), os.pipe(), os.pipe()
    came, lost = [], []
    pipe = Pipe(loop, our_out, our_in, came.append, lambda: lost.append(1))
    pipe.listen()
    pipe.put(b"question")
    loop.turn(0)
    assert os.read(their_in, 100) == b"question"
    os.write(their_out, b"answer")
    turn_until(loop, lambda: came)
    os.close(their_in)
    pipe.put(b"more")
    loop.turn(0)  # which writes it
    turn_until(loop, lambda: lost)
    pipe.put(b"nothing")
    pipe.close()
    loop.turn(0)
    assert (came, lost, pipe.gone) == ([b"answer"], [1], True)
    with pytest.raises(OSError):
        os.fstat(our_in)
    os.close(their_out)
    loop.abandon()
