"""Other rules from now on: each lane is looked up again, some at a time.

No session is cut; what is over a lower limit ends after the message in hand.  A budget keeps what it had until a lane
that was looked up again names it: so no limit is missing meanwhile.
"""

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Lane
    from pyqmail.mail.destinations.rules.lookup import RuleSet
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.ways import Ways

LANES_AT_ONCE = 200  # a few milliseconds


class RuleRenewal:
    """use() begins; advance() goes on until all lanes were looked up again."""

    def __init__(self, core: "Core", ways: "Ways") -> None:
        self._core, self._ways = core, ways
        self._lanes: deque[Lane] = deque()

    def use(self, rules: "RuleSet", now: float) -> None:
        self._core.rules = rules
        self._core.budgets.forget_rules()
        self._ways.note_rules()
        self._lanes = deque(self._ways.all_lanes())
        self.advance(now)

    def advance(self, now: float) -> None:
        """Look up the next lanes."""
        lanes, ways = self._lanes, self._ways
        for _ in range(min(LANES_AT_ONCE, len(lanes))):
            lane = lanes.popleft()
            if ways.find(lane.domain) is lane:
                ways.renew(lane, now)
        if not lanes:
            return
        self._core.timers.at(now, self._go_on, None)

    def _go_on(self, _: None, now: float) -> None:
        self.advance(now)
