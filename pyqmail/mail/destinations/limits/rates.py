"""Rates: one that is written, and one that is learned from a server which does not name it.

The generic cell rate algorithm keeps one number for each rate, the theoretical arrival time (TAT) of the next one: with
an interval I = period / n and a burst B, one more may pass at t if TAT - (B - 1) * I <= t; then TAT = max(TAT, t) + I.
It is equal to a bucket of B tokens that is filled again at 1 / I, and any window of length T passes at most B + T / I.
No timer is needed until somebody waits.
"""

import math
from array import array

_SLOTS, _SLOT_SECONDS = 12, 5  # of the ring that counts the last minute
_RING_SECONDS = _SLOTS * _SLOT_SECONDS
UNMEASURED = 1 << 40  # the burst of a rate that lets everything pass
CUT, LOWEST_RATE = 0.7, 1 / 60  # the share of what was measured that is kept; recipients a second
AT_THE_CAP = 0.8  # a minute that passed so much of the rate was held back by it
RISE, RISE_SECONDS, RISE_SHARE = 1.05, 600, 0.95  # every ten clean minutes at the cap, below this share of the bad rate
FORGET_SECONDS = 86400  # clean, until the bad rate is forgotten
PAUSE_SECONDS, LONGEST_PAUSE = 60, 7200
REPEAT_SECONDS = 600  # a refusal so soon after a pause doubles the next one


class Gcra:
    """At most n in a period, and burst at once.  interval is period / n in seconds; burst is at least 1."""

    __slots__ = ("interval", "burst", "tat")

    def __init__(self, interval: float, burst: int = 1) -> None:
        self.interval, self.burst = interval, burst
        self.tat = -math.inf

    def is_free(self, now: float) -> bool:
        return self.tat - (self.burst - 1) * self.interval <= now

    def next_time(self) -> float:
        """Return the earliest time at which one more may pass; it may be past (minus infinity: never used)."""
        return self.tat - (self.burst - 1) * self.interval

    def room(self, now: float) -> int:
        """Return how many may pass at once now: 0 to burst."""
        if self.tat <= now:
            return self.burst
        return max(0, self.burst - math.ceil((self.tat - now) / self.interval))

    def take(self, now: float, count: int = 1) -> None:
        """Let count pass, whether or not they may: what is too much is paid for by those that follow."""
        self.tat = max(self.tat, now) + count * self.interval


class WrittenRate:
    """A rate of which nothing has passed yet, as a rule says it: one for all budgets that the rule speaks of.

    A budget makes a Gcra of it when something passes first: 100,000 that were never used cost nothing.
    """

    __slots__ = ("interval", "burst")

    def __init__(self, interval: float, burst: int = 1) -> None:
        self.interval, self.burst = interval, burst

    def next_time(self) -> float:
        return -math.inf

    def room(self, now: float) -> int:
        return self.burst


class LearnedRate:
    """How many recipients a second a server takes, learned from replies that speak of a rate without a number.

    A server that refuses does not name its rate, so what passed in the last minute (R) is its measure: the cap becomes
    0.7 R, at least one a minute, R itself is remembered as the bad rate, and nothing starts for 60 s * 2^i, at most 2 h
    (i grows if it happens again within 10 min after the pause).  Every 10 clean minutes at the cap raise it by a
    twentieth while it is below 0.95 R; after 24 clean hours the bad rate is forgotten and it rises on, to the written
    rate if there is one: then nothing is learned any more.  A refusal before anything was accepted again measures
    nothing: it is the same ban, and only the pause grows.

    gcra stands among the recipient_rates of the budget at all times; it lets everything pass until something is
    learned.  configured is the written rate, recipients a second; 0.0: none.
    """

    __slots__ = (
        "gcra",
        "configured",
        "rate",
        "bad_rate",
        "pauses",
        "paused_until",
        "refused_at",
        "_rose_at",
        "_ring",
        "_slot",
    )

    def __init__(self, configured: float = 0.0) -> None:
        self.gcra, self.configured = Gcra(0.0, UNMEASURED), configured
        self.rate, self.bad_rate, self.pauses = 0.0, 0.0, 0  # recipients a second; 0.0: nothing learned
        self.paused_until = self.refused_at = self._rose_at = -math.inf
        self._ring, self._slot = array("I", bytes(4 * _SLOTS)), 0

    def accepted(self, now: float, count: int = 1) -> bool:
        """Count recipients accepted.  Returns whether the rate rose, or was forgotten."""
        slot = self._turn_to(now)
        self._ring[slot % _SLOTS] += count
        if not self.rate or now - self._rose_at < RISE_SECONDS:
            return False
        return self._rise(now)

    def refused(self, now: float) -> float:
        """A reply of class rate: cut the rate to a share of what passed.  Return how long to pause, in seconds.

        0.0: a pause runs already; this is the answer to what was on its way.
        """
        if now < self.paused_until:
            return 0.0
        is_repeated = now - self.paused_until <= REPEAT_SECONDS
        self.pauses = self.pauses + 1 if is_repeated else 0
        measured = self.measure(now)
        if measured or not self.rate:
            self.bad_rate = measured
            self._set_rate(max(CUT * measured, LOWEST_RATE))
            self._ring = array("I", bytes(4 * _SLOTS))
        self.refused_at = self._rose_at = now
        seconds = min(PAUSE_SECONDS * 2.0 ** min(self.pauses, 20), LONGEST_PAUSE)
        self.paused_until = now + seconds
        return seconds

    def measure(self, now: float) -> float:
        """Return recipients a second, accepted in the last minute.

        Of a minute that began with a pause, what came after it counts, but as no more than the rate in force.
        """
        self._turn_to(now)
        count = sum(self._ring)
        measured, passed = count / _RING_SECONDS, now - self.paused_until
        if self.rate and passed < _RING_SECONDS:
            measured = max(measured, min(self.rate, count / max(passed, _SLOT_SECONDS)))
        return measured

    def restore(self, rate: float, bad_rate: float, refused_at: float) -> None:
        """Take up what was learned before; refused_at: monotonic seconds, may be negative.  No pause is restored."""
        self._set_rate(rate)
        self.bad_rate, self.refused_at = bad_rate, refused_at

    def forget(self) -> None:
        """Let everything pass again."""
        self.rate = self.bad_rate = 0.0
        self.gcra.interval, self.gcra.burst, self.gcra.tat = 0.0, UNMEASURED, -math.inf

    def _rise(self, now: float) -> bool:
        """Raise the rate if it was what held mail back in the last minute."""
        if self.measure(now) < AT_THE_CAP * self.rate:
            return False
        if self.bad_rate and now - self.refused_at >= FORGET_SECONDS:
            self.bad_rate = 0.0
        if self.bad_rate and self.rate >= RISE_SHARE * self.bad_rate:
            return False
        rate = self.rate * RISE
        if self.bad_rate:
            rate = min(rate, RISE_SHARE * self.bad_rate)
        self._rose_at = now
        if self.configured and rate >= self.configured:
            self.forget()
        else:
            self._set_rate(rate)
        return True

    def _set_rate(self, rate: float) -> None:
        self.rate = rate
        self.gcra.interval, self.gcra.burst = 1 / rate, max(1, int(rate * _SLOT_SECONDS))

    def _turn_to(self, now: float) -> int:
        """Empty the counters that are older than a minute; return the number of the present slot."""
        slot = int(now // _SLOT_SECONDS)
        passed = slot - self._slot
        if passed > 0:
            for old in range(max(slot - _SLOTS + 1, self._slot + 1), slot + 1):
                self._ring[old % _SLOTS] = 0
            self._slot = slot
        return slot
