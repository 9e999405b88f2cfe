"""Which questions to name servers may be asked now: bounds for all, and for how fast we ask.

What a route names is asked about before all others, and once for all that go there.  Destinations that have greeted are
not held back by the young questions, and the last MAX_YOUNG of all are theirs: so a thousand domains whose name
servers are silent hold up none that is known.  Those that had no answer the last time have a quarter of the places.
"""

import math
from collections import OrderedDict, deque

MAX_YOUNG = 256  # open and younger than YOUNG_SECONDS
YOUNG_SECONDS = 1.0
MAX_QUESTIONS = 4096  # open; the last MAX_YOUNG of them are for known destinations
MAX_FAILING = MAX_QUESTIONS // 4

ROUTED, KNOWN, STRANGE, FAILING = 0, 1, 2, 3


class ResolverQuestions:
    """The questions that are open, oldest first, and which of those that wait may be asked now.

    is_narrow: the resolver is suspected; then one is asked every TEST_SECONDS.
    quiet_until: next_domain() has none before, unless an answer comes or another question.
    """

    TEST_SECONDS = 2.0

    def __init__(self) -> None:
        self._waiting: tuple[deque[tuple[bytes, bytes]], ...] = (deque(), deque(), deque(), deque())
        self._young: OrderedDict[bytes, float] = OrderedDict()  # domain -> when asked
        self._open: dict[bytes, tuple[int, bytes]] = {}  # domain -> its kind, the relay if it is routed
        self._relays: dict[bytes, int] = {}  # relay -> how many wait for its answer
        self._failing = 0
        self.is_narrow = False
        self._next_test = 0.0
        self.quiet_until = 0.0

    def add(self, domain: bytes, kind: int, relay: bytes = b"") -> None:
        """A domain is to be asked about: next_domain() returns it when it may."""
        self._waiting[kind].append((domain, relay))
        self.quiet_until = 0.0

    def next_domain(self, now: float) -> bytes | None:
        """Return a domain that may be asked about now, and count it as asked."""
        if now < self.quiet_until:
            return None
        while self._young and next(iter(self._young.values())) + YOUNG_SECONDS <= now:
            self._young.popitem(last=False)
        if self.is_narrow and now < self._next_test:
            return None
        for kind, waiting in enumerate(self._waiting):
            if waiting and self._may_ask(kind, waiting[0][1]):
                domain, relay = waiting.popleft()
                self._ask(domain, kind, relay, now)
                return domain
        self.quiet_until = next(iter(self._young.values())) + YOUNG_SECONDS if self._young else math.inf
        return None

    def note_answer(self, domain: bytes) -> None:
        """A question is answered, well or badly."""
        self.quiet_until = 0.0
        kind, relay = self._open.pop(domain, (KNOWN, b""))
        self._young.pop(domain, None)
        self._failing -= kind == FAILING
        if relay:
            self._relays[relay] -= 1
            if not self._relays[relay]:
                del self._relays[relay]

    def next_time(self) -> float | None:
        """Return when next_domain() may have one though none was answered."""
        if not any(self._waiting):
            return None
        if self.is_narrow:
            return self._next_test
        held = self._waiting[STRANGE] or self._waiting[FAILING]
        return next(iter(self._young.values())) + YOUNG_SECONDS if held and self._young else None

    def _may_ask(self, kind: int, relay: bytes) -> bool:
        count = len(self._open) - sum(self._relays.values()) + len(self._relays)
        if kind == ROUTED:
            return count < MAX_QUESTIONS or relay in self._relays
        if kind == KNOWN:
            return count < MAX_QUESTIONS
        if kind == FAILING and self._failing >= MAX_FAILING:
            return False
        return count < MAX_QUESTIONS - MAX_YOUNG and len(self._young) < MAX_YOUNG

    def _ask(self, domain: bytes, kind: int, relay: bytes, now: float) -> None:
        self._open[domain] = kind, relay
        self._next_test = now + self.TEST_SECONDS
        if kind == ROUTED:
            self._relays[relay] = self._relays.get(relay, 0) + 1
        elif kind != KNOWN:
            self._young[domain] = now
            self._failing += kind == FAILING
