"""The window of a door: how many sessions a site may have through a source, learned from what it answers.

For session counts a server tells the exact number: so many were up when the next was refused.  That number, the
ceiling, is remembered, and nobody hunts for it again: it is tried one session at a time, and after long enough.

    first greeting           the window W is the initial one (2)
    a delivery accepted      if all of W is used and no ceiling is reached: W += 0.5 up to the threshold, 1/W beyond
    refused, E others up     ceiling X = E, not below the floor; W = threshold = X + 1, closed for T: 600 s, at the
                             same number again twice as long, at most 2 h
    T is over                one more than X may be tried
    that one is greeted      X += step (1, 2, 4 ...), T = 600 s, the next one in 60 s; X at the limit: no ceiling
    a message answered       the row of failed starts ends (a server that greets and hangs up has started nothing)
    refused, none up         pause 60 s, 120 ... 1 h: it answered, so it is not dead
    start failed everywhere  three times in a row (once if unproven), none up: dead, a probe after 60, 120 ... 1800 s;
                             greeted again: W begins as at the first greeting.  Otherwise failures never touch W
    no greeting for 24 h     one session; greeted: W is at most twice the initial one, X stays

What was on its way when a ceiling, pause or death was learned says nothing new: it neither doubles nor extends it.
Others up are sessions that were greeted and not closed yet.  States of a site: states.py.

After refused(), failed() and forgive(), and when greeted() or accepted() returns True, the budget is refreshed and
Admission.changed called: the number may be another, and so may the time at which it grows by itself.
"""

from pyqmail.mail.destinations.limits.budgets import FOREVER, NEVER, Pause
from pyqmail.mail.destinations.limits.states import CAPPED, DEAD, UNPROVEN_SITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

RISE = 0.5
CLOSED_SECONDS, LONGEST_CLOSED, NEXT_TRY_SECONDS = 600.0, 7200.0, 60
PAUSE_SECONDS, LONGEST_PAUSE = 60, 3600
PROBE_SECONDS, LONGEST_PROBE = 60, 1800
SPREAD = 0.1
DAY, MINUTE = 86400, 60
REFUSED, DEAD_REASON = b"refused", b"dead"  # reasons of pauses


class Window:
    """initial: after the first greeting; floor: learning never goes below; dead_after: failed starts, 0: never dead.

    size        W, sessions; its whole part is the window
    ceiling     X, 0: none is known; closed_until: no more than X before; closed_seconds: T
    greeted_at  the last greeting, minus infinity without any
    dead_since  None unless dead; failures: failed starts in a row, the last at failed_at
    is_shared   by budgets of sites that never greeted, refused or failed: who learns takes own() before
    refusals, probes    of the present row: pauses for refusals with none up, probes after which nothing was answered
    """

    __slots__ = (
        "initial", "floor", "dead_after", "size", "threshold", "ceiling", "closed_until", "closed_seconds", "step",
        "greeted_at", "refusals", "failures", "failed_at", "dead_since", "probes", "idle_until",
        "_minute", "_accepted", "_accepted_before", "is_shared",
    )  # fmt: skip

    def __init__(self, initial: int = 2, floor: int = 1, dead_after: int = 3) -> None:
        self.initial, self.floor, self.dead_after = initial, floor, dead_after
        self.size, self.threshold = float(initial), FOREVER
        self.ceiling, self.closed_until, self.closed_seconds, self.step = 0, NEVER, CLOSED_SECONDS, 1
        self.greeted_at = self.failed_at = self.idle_until = NEVER
        self.dead_since: float | None = None
        self.refusals = self.failures = self.probes = 0
        self._minute = self._accepted = self._accepted_before = 0  # messages in this minute and the one before
        self.is_shared = False

    def own(self) -> "Window":
        """Return this window, or one like it of which nobody else learns."""
        return Window(self.initial, self.floor, self.dead_after) if self.is_shared else self

    def is_unproven(self, now: float) -> bool:
        """Return whether no greeting was seen in the last 24 hours."""
        return now - self.greeted_at > DAY

    def facts(self, now: float) -> tuple[str, ...]:
        """Return those of the states of states.py that hold by what is learned here."""
        found = ((DEAD, self.dead_since is not None), (UNPROVEN_SITE, self.is_unproven(now)), (CAPPED, self.ceiling))
        return tuple(state for state, holds in found if holds)

    def allowed(self, now: float) -> int:
        """Return the learned cap: 1 while dead or unproven, else the window, at most the ceiling or one more."""
        if self.dead_since is not None or now - self.greeted_at > DAY:
            return 1
        if self.ceiling:
            return min(int(self.size), self.ceiling if now < self.closed_until else self.ceiling + 1)
        return int(self.size)

    def next_time(self, now: float) -> float:
        """Return when allowed() grows by time alone: one more than the ceiling may be tried.  Infinity: never."""
        return self.closed_until if self.ceiling and now < self.closed_until else FOREVER

    def greeted(self, now: float, others_up: int, limit: int) -> bool:
        """A session was greeted.  limit: that of the budget.  Returns whether allowed() or next_time() changed."""
        before = self.allowed(now), self.closed_until
        if self.dead_since is not None or self.greeted_at == NEVER:
            self.size, self.dead_since = float(self.initial), None
        elif self.is_unproven(now):
            self.size = min(self.size, 2.0 * self.initial)
        self.greeted_at, self.idle_until = now, NEVER
        self.refusals = 0
        if self.ceiling and others_up >= self.ceiling:
            self._raise_ceiling(now, others_up + 1, limit)
        return (self.allowed(now), self.closed_until) != before

    def answered(self) -> None:
        """A message was answered: the row of failed starts ends.  Who greets and then hangs up does not end it."""
        self.failures = self.probes = 0

    def accepted(self, now: float, used: int, limit: int) -> bool:
        """A message was accepted while the door had `used` sessions.  Returns whether allowed() changed."""
        self.failures = self.probes = 0  # as answered()
        self._count(now)
        window = int(self.size)
        if used < window or window >= limit or (self.ceiling and self.size > self.ceiling):
            return False
        self.size += RISE if self.size < self.threshold else 1 / self.size
        return int(self.size) > window

    def accepted_lately(self, now: float) -> int:
        """Return about how many messages were accepted in the last minute."""
        self._count(now, 0)
        return self._accepted + round(self._accepted_before * (1 - now % MINUTE / MINUTE))

    def _count(self, now: float, count: int = 1) -> None:
        minute = int(now / MINUTE)
        if minute != self._minute:
            self._accepted_before = self._accepted if minute == self._minute + 1 else 0
            self._minute, self._accepted = minute, 0
        self._accepted += count

    def refused(self, now: float, others_up: int, random: "Random") -> Pause | None:
        """A session too many was refused.  Learns the ceiling; with none up, returns how long to pause.

        None, with none up: a pause for this runs already.
        """
        if others_up:
            ceiling = max(self.floor, others_up)
            if now >= self.closed_until or ceiling != self.ceiling:
                self._learn_ceiling(now, ceiling)
            return None
        if now < self.idle_until:
            return None
        delay = min(PAUSE_SECONDS * 2.0 ** min(self.refusals, 20), LONGEST_PAUSE) * (1 + SPREAD * random.random())
        self.refusals += 1
        self.idle_until = now + delay
        return Pause(self.idle_until, REFUSED)

    def failed(self, now: float, others_up: int, random: "Random") -> Pause | None:
        """A session start failed on every host.  Returns the pause until the next probe if the door is dead now.

        None: not dead, or dead already and this was on its way.
        """
        if others_up or (self.dead_since is not None and now < self.idle_until):
            return None
        self.failures, self.failed_at = self.failures + 1, now
        needed = min(1, self.dead_after) if self.is_unproven(now) else self.dead_after
        if not needed or self.failures < needed:
            return None
        if self.dead_since is None:
            self.dead_since = now
        spread = 1 + SPREAD * (2 * random.random() - 1)
        self.idle_until = now + min(PROBE_SECONDS * 2.0 ** min(self.probes, 20), LONGEST_PROBE) * spread
        self.probes += 1
        return Pause(self.idle_until, DEAD_REASON)

    def probe_now(self) -> None:
        """A probe goes before its time: if it fails, that counts, and sets the time of the next one."""
        self.idle_until = NEVER

    def forgive(self, since: float) -> bool:
        """Take back what failed at or after `since`: it was us.  Returns whether that made it dead: lift the pause."""
        if self.failed_at < since:
            return False
        self.failures = 0
        if self.dead_since is None:
            return False
        self.probes = max(0, self.probes - 1)
        if self.dead_since < since:
            return False
        self.dead_since, self.idle_until = None, NEVER
        return True

    def _learn_ceiling(self, now: float, ceiling: int) -> None:
        is_same = ceiling == self.ceiling
        self.closed_seconds = min(2 * self.closed_seconds, LONGEST_CLOSED) if is_same else CLOSED_SECONDS
        self.ceiling, self.step = ceiling, 1
        self.size = self.threshold = ceiling + 1.0
        self.closed_until = now + self.closed_seconds

    def _raise_ceiling(self, now: float, up: int, limit: int) -> None:
        """More than the ceiling are up: it was tried, or they were on their way when it was learned."""
        if now >= self.closed_until:
            self.ceiling, self.step = max(up, self.ceiling + self.step), 2 * self.step
            self.closed_seconds, self.closed_until = CLOSED_SECONDS, now + NEXT_TRY_SECONDS
        else:
            self.ceiling = up
        self.size = self.threshold = max(self.size, self.ceiling + 1.0)
        if self.ceiling >= limit:
            self.ceiling, self.threshold, self.step, self.closed_until = 0, FOREVER, 1, NEVER
