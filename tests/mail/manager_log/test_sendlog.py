"""The log: whole lines in order, and a reader that is slow or gone."""

import os
import types

import pytest

from pyqmail.base.printable import logsafe
from pyqmail.mail.manager_log import sendlog
from pyqmail.mail.manager_log.sendlog import SendLog
from pyqmail.system.loop import Loop


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def test_safe():
    assert logsafe(b"a b\tc\nd%e\x80\x7f~!") == b"a_b_c/d_e__~!"


def test_lines_of_a_turn_go_out_together(pipe):
    loop = Loop()
    log = SendLog(loop, pipe[1])
    log.add_line(b"one")
    log.add_line(b"two")
    loop.turn(0)
    assert os.read(pipe[0], 100) == b"one\ntwo\n"


def test_a_full_pipe_is_waited_for_by_the_loop(pipe):
    loop = Loop()
    log = SendLog(loop, pipe[1])
    lines = [b"%d %s" % (i, b"x" * (i % 200)) for i in range(3000)]
    for line in lines:
        log.add_line(line)
    got = b""
    while got.count(b"\n") < len(lines):
        loop.turn(0)
        got += os.read(pipe[0], 65536)
    assert got == b"\n".join(lines) + b"\n"


def test_too_much_is_dropped_and_counted(pipe, monkeypatch):
    monkeypatch.setattr(sendlog, "KEPT_BYTES", 200000)
    loop = Loop()
    log = SendLog(loop, pipe[1])
    for i in range(10000):
        log.add_line(b"%08d %s" % (i, b"x" * 50))
    loop.turn(0)
    got = b""
    while not got.endswith(b"too slow\n"):
        got += os.read(pipe[0], 65536)
        loop.turn(0)
    lines = got.split(b"\n")[:-1]
    dropped = int(lines[-1].split()[1])
    assert len(lines) - 1 + dropped == 10000 and [int(line[:8]) for line in lines[:-1]] == list(range(len(lines) - 1))


def test_a_reader_that_has_gone_is_no_reason_to_stop(pipe):
    """Nothing is written any more, not even where another reader has the descriptor by now."""
    loop = Loop()
    log = SendLog(loop, pipe[1])
    os.close(pipe[0])
    for _ in range(3):
        log.add_line(b"x")
        loop.turn(0)
    reader, writer = os.pipe()
    os.dup2(writer, pipe[1])
    os.close(writer)
    log.add_line(b"x")
    loop.turn(0)
    log.finish(20)
    os.close(pipe[1])
    assert os.read(reader, 100) == b"" and not loop._watched and not loop._timers
    os.close(reader)


def test_finish_writes_all_but_does_not_wait_for_ever(pipe):
    loop = Loop()
    log = SendLog(loop, pipe[1])
    for _ in range(100000):
        log.add_line(b"x" * 20)
    loop.turn(0)
    log.finish(0.05)
    assert 50000 < len(os.read(pipe[0], 1 << 20)) <= 65536


@pytest.fixture
def full():
    """A descriptor that nothing can be written to as long as it is /dev/full."""
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


def test_an_error_is_tried_again_and_said_and_nothing_is_lost(full, pipe, monkeypatch):
    loop = Loop()
    log = SendLog(loop, full)
    lines = [b"%d" % i for i in range(3000)]
    for line in lines[:2000]:
        log.add_line(line)
    loop.turn(0)
    os.dup2(pipe[1], full)  # there is room again
    for line in lines[2000:]:
        log.add_line(line)
    got = b""
    while not got.endswith(b"tried again\n"):
        loop.turn(5)
        got += os.read(pipe[0], 65536)
    assert got.split(b"\n")[:-1] == [*lines, b"warning: unable to write the log: out of disk space; tried again"]


def test_the_tries_become_rarer(full):
    loop = Loop()
    log = SendLog(loop, full)
    log.add_line(b"x")
    loop.turn(0)
    pauses = [log._out._backoff.next_seconds() for _ in range(9)]
    assert pauses[0] == 0.2 and pauses[-1] == 10 and pauses == sorted(pauses)


def test_finish_ends_though_nothing_can_be_written(full, pipe, monkeypatch):
    """It tries after growing pauses, in all as long as it may; what is left is whole."""
    now, pauses = [1000.0], []

    def sleep(seconds):
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(sendlog, "time", types.SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    log = SendLog(Loop(), full)
    log.add_line(b"x")
    log.finish(5)
    assert sum(pauses) == pytest.approx(5) and pauses[:3] == pytest.approx([0.1, 0.2, 0.4])
    os.dup2(pipe[1], full)
    log.finish(5)
    assert os.read(pipe[0], 100) == b"x\n"


def test_a_line_longer_than_a_piece_never_blocks(pipe):
    """The descriptor may be a blocking one: a write of more than the pipe takes would wait for its reader."""
    loop = Loop()
    log = SendLog(loop, pipe[1])
    log.add_line(b"x" * 200000)
    log.add_line(b"y")
    got = b""
    while not got.endswith(b"y\n"):
        loop.turn(0)
        got += os.read(pipe[0], 65536)
    assert got == b"x" * 200000 + b"\ny\n"
