"""Which lane gets the next session.

A destination is *proven* for a day after it greeted.  Sessions to others, *trials*, are at most half of the total, so
that destinations that do not answer hold up none that does.  Among these, destinations that were never tried go first,
and one alone cannot have the last fifth of that half.  Proven and unproven ones alternate for what both may have.  A
bounded number of destinations is remembered.

What is kept true: a lane is in the ring that lane.ring names and in no other; `trials` is how many sessions are open
that were granted as trials to a destination that has not greeted since.
"""

import collections

from pyqmail.mail.destinations.old.remembered import Remembered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.old.lanes import Lane

    Ring = collections.OrderedDict[Lane, None]

PROVEN_SECONDS = 86400.0  # after a greeting


class LaneTurns:
    """The lanes that want a session and know where to, in rings: the first of a ring is the next.

    rejected(lane, now) is called for a lane that left its ring since it wants no session, or knows no host any more.
    """

    def __init__(self, total: int, rejected: "Callable[[Lane, float], None]") -> None:
        self._rejected = rejected
        # destinations that have greeted; never tried; tried in vain; connecting, and wanted by more sessions
        self.proven: Ring = collections.OrderedDict()
        self.untried: Ring = collections.OrderedDict()
        self.tried: Ring = collections.OrderedDict()
        self.more: Ring = collections.OrderedDict()
        self._is_turn_of_unproven = False
        self._greeted, self._attempted = Remembered(), Remembered()
        self.trials, self._max_trials = 0, max(1, total // 2)
        self._max_more = self._max_trials - self._max_trials // 5  # further sessions to one that has not greeted yet
        self.trials_of: dict[bytes, int] = {}  # destination -> how many

    def is_proven(self, lane: "Lane", now: float) -> bool:
        """Return whether the lane's destination has greeted lately."""
        greeted = self._greeted.time(lane.destination)
        return greeted is not None and now - greeted < PROVEN_SECONDS

    def add_lane(self, lane: "Lane", now: float) -> None:
        """A lane that is in no ring wants a session."""
        self._enter(lane, self._ring_for(lane, now))

    def remove_lane(self, lane: "Lane") -> None:
        """Take a lane out of its ring, if it is in one."""
        if lane.ring is not None:
            del lane.ring[lane]
            lane.ring = None

    def next_lane(self, now: float) -> "Lane | None":
        """Return the lane that gets the next session, None if none may have one."""
        proven, unproven = self._head(self.proven, now), self._next_unproven(now)
        return (unproven or proven) if self._is_turn_of_unproven else (proven or unproven)

    def count_waiting(self, now: float) -> int:
        """Return how many lanes wait for nothing but a unit of the total."""
        if not (self.proven or self.untried or self.tried or self.more):
            return 0
        self.next_lane(now)
        first = min(len(self.untried) + len(self.tried), max(0, self._max_trials - self.trials))
        further = min(len(self.more), max(0, self._max_more - self.trials))
        return len(self.proven) + first + further

    def grant_session(self, lane: "Lane", now: float) -> bool:
        """The lane, which is in a ring, gets a session and goes to the end; return whether that is a trial."""
        is_trial = lane.ring is not self.proven
        self._is_turn_of_unproven = not is_trial
        if is_trial:
            self.trials += 1
            self.trials_of[lane.destination] = self.trials_of.get(lane.destination, 0) + 1
            self._attempted.note(lane.destination, now)
        self._move(lane, self.more if is_trial else self.proven)
        return is_trial

    def yield_turn(self, lane: "Lane") -> None:
        """A session of the lane ends for the sake of others: it has had its turn."""
        if lane.ring is not None:
            lane.ring.move_to_end(lane)
        self._is_turn_of_unproven = True

    def note_greeting(self, lane: "Lane", now: float) -> None:
        """The lane's destination has greeted: none of its sessions counts as a trial any more."""
        self._greeted.note(lane.destination, now)
        self._attempted.forget(lane.destination)
        self.trials -= self.trials_of.pop(lane.destination, 0)
        if lane.ring is not None and lane.ring is not self.proven:
            self._move(lane, self.proven)

    def end_trial(self, lane: "Lane") -> None:
        """A session that was granted as a trial has ended."""
        count = self.trials_of.get(lane.destination)
        if count is None:
            return  # it has greeted meanwhile
        self.trials -= 1
        self.trials_of[lane.destination] = count - 1
        if count == 1:
            del self.trials_of[lane.destination]
            if lane.ring is self.more:
                self._move(lane, self.tried)

    def _ring_for(self, lane: "Lane", now: float) -> "Ring":
        if self.is_proven(lane, now):
            return self.proven
        if lane.destination in self.trials_of:
            return self.more
        return self.untried if self._attempted.time(lane.destination) is None else self.tried

    def _enter(self, lane: "Lane", ring: "Ring") -> None:
        ring[lane] = None
        lane.ring = ring

    def _move(self, lane: "Lane", ring: "Ring") -> None:
        self.remove_lane(lane)
        self._enter(lane, ring)

    def _head(self, ring: "Ring", now: float) -> "Lane | None":
        """Return the lane whose turn it is in a ring, None if none of those in it wants a session."""
        while ring:
            lane = next(iter(ring))
            if lane.wants and lane.candidates is not None:
                return lane
            self.remove_lane(lane)
            self._rejected(lane, now)
        return None

    def _next_unproven(self, now: float) -> "Lane | None":
        first = self._head(self.untried, now) or self._head(self.tried, now)
        further = self._head(self.more, now)
        if self.trials >= self._max_trials:
            return None
        return first or (further if self.trials < self._max_more else None)
