"""Figures that are known from elsewhere: if these models do not reproduce them, their other figures mean nothing.

postfix-16    Postfix's concurrency feedback against a server that takes 5 sessions: its SCHEDULER_README
one-of-two    one MX of two silent, a sender without memory: throughput c * N / T, as its TUNING_README says
qmail-times   retry times of remote mail, from qmail-send's nextretry()
gcra-window   no window of length T passes more than B + T / I
"""

import math
import random

from bench.destinations.clock import Clock
from pyqmail.mail.destinations.limits.rates import Gcra
from pyqmail.mail.destinations.retry import REMOTE_CONSTANT, retry_time

SESSIONS, DELIVERIES, DELIVERY_SECONDS = 5, 1000, 2.0


class PostfixWindow:
    """The window of one destination: success and failure credits, as when Postfix's figures were measured.

    Later versions add half a step to both comparisons, for rounding; with it the figures are 16.5, 32.7 and 33.6.
    """

    def __init__(self, gain, initial=5, limit=20):
        self.gain, self.initial, self.limit = gain, initial, limit
        self.window, self._success, self._failure = initial, 0.0, 0.0

    def succeeded(self, busy):
        if self.window < self.limit and self.window < busy + self.initial:
            self._success += self.gain(self.window)
            while self._success >= 1:
                self.window += 1
                self._success -= 1
                self._failure = 0.0
            self.window = min(self.window, self.limit)

    def failed(self):
        self._failure -= self.gain(self.window)
        while self._failure < 0:
            self.window -= 1
            self._success = 0.0
            self._failure += 1
        self.window = max(self.window, 1)


class PostfixModel:
    """Deliveries to a server that takes SESSIONS at once and refuses the others; who is refused is deferred."""

    def __init__(self, gain, seed=1):
        self.clock, self.window = Clock(), PostfixWindow(gain)
        self._random = random.Random(seed)
        self.waiting, self.busy, self.at_server, self.deferred = DELIVERIES, 0, 0, 0

    def run(self) -> float:
        """Return the percentage that was deferred."""
        self._fill()
        self.clock.run()
        return 100 * self.deferred / DELIVERIES

    def _fill(self):
        while self.waiting and self.busy < self.window.window:
            self.waiting -= 1
            self.busy += 1
            self.clock.after(self._random.uniform(0.001, 0.01), self._connect)

    def _connect(self):
        if self.at_server >= SESSIONS:
            self.deferred += 1
            self.busy -= 1
            self.window.failed()
        else:
            self.at_server += 1
            self.clock.after(DELIVERY_SECONDS * self._random.uniform(0.98, 1.02), self._end)
        self._fill()

    def _end(self):
        self.at_server -= 1
        self.busy -= 1
        self.window.succeeded(self.busy)
        self._fill()


GAINS = {"1/W": lambda window: 1 / window, "1/sqrt W": lambda window: 1 / math.sqrt(window), "1": lambda window: 1.0}


def postfix_16() -> dict:
    """Percentages deferred, by feedback."""
    return {name: PostfixModel(gain).run() for name, gain in GAINS.items()}


def one_of_two(sessions=20, timeout=30.0, hosts=2, seconds=3600.0, seed=1) -> float:
    """Deliveries a second of a sender that tries the hosts in random order, each time until the timeout."""
    clock, draw, done = Clock(), random.Random(seed), [0]
    end = clock.now + seconds

    def deliver():
        is_silent = draw.randrange(hosts)  # that one comes first
        clock.after(0.6 + (timeout if is_silent else 0), finish)

    def finish():
        done[0] += 1
        if clock.now < end:
            deliver()

    for _ in range(sessions):
        deliver()
    clock.run(end)
    return done[0] / seconds


def qmail_times() -> list:
    """Seconds after birth at which remote mail is tried that is deferred each time."""
    birth = now = 1_800_000_000
    times = []
    for _ in range(5):
        now = retry_time(birth, now, REMOTE_CONSTANT)
        times.append(now - birth)
    return times


def gcra_window(runs=200, seed=1) -> int:
    """Return how many windows passed more than B + T / I, of many runs with random arrivals."""
    draw, broken = random.Random(seed), 0
    for _ in range(runs):
        interval, burst = draw.choice((0.1, 0.2, 1.0, 6.0)), draw.randint(1, 30)
        gcra, now, passed = Gcra(interval, burst), 1000.0, []
        for _ in range(400):
            now += draw.choice((0.0, interval / 3, interval, draw.expovariate(1 / interval)))
            if gcra.is_free(now):
                gcra.take(now)
                passed.append(now)
        for i in range(len(passed)):
            for j in range(i, len(passed), 7):
                broken += j - i + 1 > burst + (passed[j] - passed[i]) / interval + 1e-6
    return broken
