"""The log: whole lines in order, and a reader that is slow or gone."""

import os

import pytest

from pyqmail.mail.sending import sendlog
from pyqmail.mail.sending.sendlog import SendLog, safe
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
    assert safe(b"a b\tc\nd%e\x80\x7f~!") == b"a_b_c/d_e__~!"


def test_lines_of_a_turn_go_out_together(pipe):
    loop = Loop()
    log = SendLog(loop, pipe[1])
    log.put(b"one")
    log.put(b"two")
    loop.turn(0)
    assert os.read(pipe[0], 100) == b"one\ntwo\n"


def test_a_full_pipe_is_waited_for_by_the_loop(pipe):
    loop = Loop()
    log = SendLog(loop, pipe[1])
    lines = [b"%d %s" % (i, b"x" * (i % 200)) for i in range(3000)]
    for line in lines:
        log.put(line)
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
        log.put(b"%08d %s" % (i, b"x" * 50))
    loop.turn(0)
    got = b""
    while not got.endswith(b"too slow\n"):
        got += os.read(pipe[0], 65536)
        loop.turn(0)
    lines = got.split(b"\n")[:-1]
    dropped = int(lines[-1].split()[1])
    assert len(lines) - 1 + dropped == 10000 and [int(line[:8]) for line in lines[:-1]] == list(range(len(lines) - 1))


def test_a_reader_that_has_gone_is_no_reason_to_stop(pipe):
    import signal

    old = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    loop = Loop()
    log = SendLog(loop, pipe[1])
    os.close(pipe[0])
    for _ in range(3):
        log.put(b"x")
        loop.turn(0)
    signal.signal(signal.SIGPIPE, old)


def test_finish_writes_all_but_does_not_wait_for_ever(pipe):
    loop = Loop()
    log = SendLog(loop, pipe[1])
    for _ in range(100000):
        log.put(b"x" * 20)
    loop.turn(0)
    log.finish(0.05)
    assert 50000 < len(os.read(pipe[0], 1 << 20)) <= 65536
