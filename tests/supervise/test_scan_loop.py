"""When passes are made: at once, at what the scanner says, at each change and at the end of a supervisor."""

import os
import signal
import time

import pytest

from pyqmail.supervise.scan_loop import PAUSE_SECONDS, Scanning
from pyqmail.system.inotify import Notices
from pyqmail.system.loop import Loop


class Stub:
    """Stands for a scanner: due is how many seconds later it wants the next pass, or None."""

    def __init__(self, due=None):
        self.due, self.passes, self.has_ended = due, [], True

    def scan(self):
        self.passes.append(time.monotonic())
        return None if self.due is None else time.monotonic() + self.due

    def reap(self):
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    return self.has_ended
            except ChildProcessError:
                return self.has_ended


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.abandon()


@pytest.fixture
def notices(tmp_path):
    made = Notices()
    made.watch(tmp_path)
    yield made
    made.close()


def turn_until(loop, holds, seconds=5):
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        loop.turn(limit - time.monotonic())


def is_at_rest(loop):
    """Return whether the loop would wait for ever."""
    return loop._patience(None) is None


def test_no_timer_at_rest(loop, notices):
    scanner = Stub()
    Scanning(loop, scanner, notices).begin()
    assert len(scanner.passes) == 1 and is_at_rest(loop)


def test_a_change_is_a_pass_and_many_are_few(loop, notices, tmp_path):
    scanner = Stub()
    Scanning(loop, scanner, notices).begin()
    for number in range(50):
        (tmp_path / str(number)).touch()
        loop.turn(0)
    turn_until(loop, lambda: len(scanner.passes) == 2)
    assert is_at_rest(loop) and scanner.passes[1] - scanner.passes[0] >= PAUSE_SECONDS
    assert scanner.passes[1] - scanner.passes[0] < 3


@pytest.mark.parametrize("has_ended", [True, False])
def test_the_end_of_a_child_is_a_pass_if_it_was_a_supervisor(loop, notices, has_ended):
    scanner = Stub()
    scanner.has_ended = has_ended
    Scanning(loop, scanner, notices).begin()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    loop.turn(5)
    if has_ended:
        turn_until(loop, lambda: len(scanner.passes) == 2)
    assert is_at_rest(loop) and len(scanner.passes) == 1 + has_ended


def test_where_the_kernel_has_no_notices_there_is_a_timer(loop):
    scanner = Stub(due=0.2)
    Scanning(loop, scanner, None).begin()
    assert not is_at_rest(loop)
    turn_until(loop, lambda: len(scanner.passes) == 3)
    assert scanner.passes[2] - scanner.passes[0] >= 0.4


def test_the_earlier_of_two_times_counts(loop, notices, tmp_path):
    scanner = Stub(due=3600)
    scanning = Scanning(loop, scanner, notices)
    scanning.begin()
    (tmp_path / "new").touch()
    turn_until(loop, lambda: len(scanner.passes) == 2)
    scanning.hurry()
    turn_until(loop, lambda: len(scanner.passes) == 3)
    scanning.end()
    scanning.hurry()
    (tmp_path / "newer").touch()
    loop.turn(0)
    assert is_at_rest(loop) and len(scanner.passes) == 3


def test_a_blocked_signal_is_heard(loop):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    Scanning(loop, Stub(), None).begin()
    assert signal.SIGCHLD not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
