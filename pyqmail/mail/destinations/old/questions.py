"""Which questions to name servers may be asked now: bounds for all, and for how fast we ask.  Pure: the time is given.

A relay that a route names is asked about before all others, and once for all its lanes.  Proven destinations are not
held back by the young questions, and the last MAX_YOUNG_QUESTIONS of all are theirs: so a thousand domains whose name
servers are silent hold up none that has greeted.
"""

import collections

from pyqmail.mail.destinations.old.lanes import Lane

MAX_YOUNG_QUESTIONS = 256  # open and younger than YOUNG_SECONDS
YOUNG_SECONDS = 1.0
MAX_QUESTIONS = 4096  # open; the last MAX_YOUNG_QUESTIONS of them are for proven destinations


class Questions:
    """The questions that are open, oldest first, and which of those that wait may be asked now."""

    def __init__(self) -> None:
        self._young: collections.OrderedDict[bytes, float] = collections.OrderedDict()  # domain -> when asked
        self._old: set[bytes] = set()
        self._relays: dict[bytes, int] = {}  # relay -> how many lanes wait for its answer
        # lanes that wait
        self._routed: collections.deque[Lane] = collections.deque()
        self._proven: collections.deque[Lane] = collections.deque()
        self._others: collections.deque[Lane] = collections.deque()

    def add_lane(self, lane: Lane, is_proven: bool) -> None:
        """A lane must know where to: its question may be asked when next_lane() returns it."""
        (self._proven if is_proven else self._others if lane.is_strange else self._routed).append(lane)

    def next_lane(self, now: float) -> Lane | None:
        """Return a lane whose question may be asked now, and count it as asked."""
        while self._young and next(iter(self._young.values())) + YOUNG_SECONDS <= now:
            self._old.add(self._young.popitem(last=False)[0])
        count = len(self._young) + len(self._old) + len(self._relays)
        if self._routed and (count < MAX_QUESTIONS or self._routed[0].name in self._relays):
            lane = self._routed.popleft()
            self._relays[lane.name] = self._relays.get(lane.name, 0) + 1
        elif self._proven and count < MAX_QUESTIONS:
            lane = self._proven.popleft()
            self._old.add(lane.domain)
        elif self._others and count < MAX_QUESTIONS - MAX_YOUNG_QUESTIONS and len(self._young) < MAX_YOUNG_QUESTIONS:
            lane = self._others.popleft()
            self._young[lane.domain] = now
        else:
            return None
        return lane

    def note_answer(self, lane: Lane) -> None:
        """The question of a lane is answered, well or badly."""
        if lane.is_strange:
            self._young.pop(lane.domain, None)
            self._old.discard(lane.domain)
        elif lane.name:
            self._relays[lane.name] -= 1
            if not self._relays[lane.name]:
                del self._relays[lane.name]

    def next_time(self) -> float | None:
        """Return when next_lane() may have another one though none was answered."""
        if self._others and self._young:
            return next(iter(self._young.values())) + YOUNG_SECONDS
        return None
