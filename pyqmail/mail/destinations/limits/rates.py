"""Rates: one that is written, and one that is learned from a server which does not name it.

The generic cell rate algorithm keeps one number for each rate, the theoretical arrival time (TAT) of the next one: with
an interval I = period / n and a burst B, one more may pass at t if TAT - (B - 1) * I <= t; then TAT = max(TAT, t) + I.
It is equal to a bucket of B tokens that is filled again at 1 / I, and any window of length T passes at most B + T / I.
No timer is needed until somebody waits.
"""

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

_SLOTS, _SLOT_SECONDS = 12, 5  # of the ring that counts the last minute
_RING_SECONDS = _SLOTS * _SLOT_SECONDS
CUT, NEVER_BELOW = 0.7, 1 / 60  # the share of what was measured that is kept; a second
RISE, RISE_SECONDS, RISE_SHARE = 1.05, 600, 0.95  # every ten clean minutes at the cap, below this share of the bad rate
FORGET_SECONDS = 86400  # clean, until the bad rate is forgotten
PAUSE_SECONDS, LONGEST_PAUSE = 60, 7200
REPEAT_SECONDS = 600  # a refusal so soon after a pause doubles the next one
SPREAD = 0.1  # of pauses, later only: what a server asks for is kept


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


class LearnedRate:
    """Recipients a second, learned from replies that speak of a rate without a number.  The spec stands above.

    configured: the written rate, recipients a second, or None: growth goes on to it, without one until it is forgotten.
    """

    __slots__ = ("gcra",)

    def __init__(self, configured: float | None = None) -> None:
        self.gcra: Gcra | None = None  # the cap, to stand among the recipient_rates of its budget; None: nothing learned

    def accepted(self, now: float, count: int = 1) -> None:
        """Count recipients accepted."""

    def refused(self, now: float, random: "Random") -> float:
        """A reply of class rate: cut the cap to a share of what passed in the last minute; return how long to pause, seconds."""
        return 0.0

    def refresh(self, now: float) -> bool:
        """Let the cap rise, or go, as time has passed; returns whether it changed."""
        return False
