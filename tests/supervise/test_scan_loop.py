"""When passes are made: at once, at what the scanner says, at each change and at the end of a supervisor."""

import os
import signal
import types

import pytest

from pyqmail.supervise import scan_loop
from pyqmail.supervise.scan_loop import PAUSE_SECONDS, ScanLoop
from pyqmail.system import loop as loops
from pyqmail.system import timers
from pyqmail.system.inotify import Inotify
from pyqmail.system.loop import Loop


class Clock:
    """Stands for time in the loop and what is on it: it goes on only by pass_by(), after which what is due is done."""

    def __init__(self):
        self.now, self.loop = 1000.0, None

    def monotonic(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds
        self.loop.turn(0)


class Stub:
    """Stands for a scanner: due is how many seconds later it wants the next pass, or None."""

    def __init__(self, clock, due=None):
        self._clock, self.due, self.passes, self.has_ended = clock, due, [], True

    def scan(self):
        self.passes.append(self._clock.now)
        return None if self.due is None else self._clock.now + self.due

    def reap(self):
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    return self.has_ended
            except ChildProcessError:
                return self.has_ended


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    for module in (loops, timers, scan_loop):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def loop(clock):
    made = clock.loop = Loop()
    yield made
    made.abandon()


@pytest.fixture
def notices(tmp_path):
    made = Inotify()
    made.watch(tmp_path)
    yield made
    made.close()


def is_at_rest(loop):
    """Return whether the loop would wait for ever."""
    return loop._patience(None) is None


def test_no_timer_at_rest(clock, loop, notices):
    scanner = Stub(clock)
    ScanLoop(loop, scanner, notices).begin()
    assert len(scanner.passes) == 1 and is_at_rest(loop)


def test_a_change_is_a_pass_and_many_are_few(clock, loop, notices, tmp_path):
    scanner = Stub(clock)
    ScanLoop(loop, scanner, notices).begin()
    for number in range(50):
        (tmp_path / str(number)).touch()
        loop.turn(0)
    clock.pass_by(0.9 * PAUSE_SECONDS)
    assert scanner.passes == [1000] and not is_at_rest(loop)
    clock.pass_by(0.2 * PAUSE_SECONDS)
    assert scanner.passes == [1000, clock.now] and is_at_rest(loop)


@pytest.mark.parametrize("has_ended", [True, False])
def test_the_end_of_a_child_is_a_pass_if_it_was_a_supervisor(clock, loop, notices, has_ended):
    scanner = Stub(clock)
    scanner.has_ended = has_ended
    ScanLoop(loop, scanner, notices).begin()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    loop.turn(5)
    clock.pass_by(PAUSE_SECONDS)
    assert is_at_rest(loop) and len(scanner.passes) == 1 + has_ended


def test_where_the_kernel_has_no_notices_there_is_a_timer(clock, loop):
    scanner = Stub(clock, due=5)
    ScanLoop(loop, scanner, None).begin()
    assert not is_at_rest(loop)
    for _ in range(11):
        clock.pass_by(1)
    assert scanner.passes == [1000, 1005, 1010]


def test_the_earlier_of_two_times_counts(clock, loop, notices, tmp_path):
    scanner = Stub(clock, due=3600)
    scanning = ScanLoop(loop, scanner, notices)
    scanning.begin()
    (tmp_path / "new").touch()
    loop.turn(0)
    clock.pass_by(PAUSE_SECONDS)
    assert len(scanner.passes) == 2
    scanning.scan_soon()
    clock.pass_by(PAUSE_SECONDS)
    assert len(scanner.passes) == 3
    scanning.end()
    scanning.scan_soon()
    (tmp_path / "newer").touch()
    loop.turn(0)
    assert is_at_rest(loop) and len(scanner.passes) == 3


def test_a_blocked_signal_is_heard(clock, loop):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    ScanLoop(loop, Stub(clock), None).begin()
    assert signal.SIGCHLD not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
