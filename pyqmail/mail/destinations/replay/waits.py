"""Where mail waits while a log is played: looked at now and then, and summed up by what holds it up."""

from pyqmail.mail.destinations.views.limit_texts import name_of, owner_of
from pyqmail.mail.destinations.views.reasons import obstacle_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.engine import Engine
    from pyqmail.mail.destinations.views.reasons import Obstacle

LOOKS = 2000  # in a log, however long it is
LEAST_SECONDS = 1.0


class Held:
    """seconds: of all recipients together.  most: recipients at once, first at the time `since`."""

    __slots__ = ("seconds", "most", "since")

    def __init__(self, since: float) -> None:
        self.seconds, self.most, self.since = 0.0, 0, since


class Waits:
    """look(now) is called as time passes; found: what held mail up -> Held."""

    def __init__(self, engine: "Engine", span_seconds: float) -> None:
        self._engine, self._step = engine, max(LEAST_SECONDS, span_seconds / LOOKS)
        self._next, self._last = 0.0, 0.0
        self.found: dict[str, Held] = {}

    def look(self, now: float) -> None:
        if now < self._next:
            return
        passed, self._last, self._next = now - self._last, now, now + self._step
        counts: dict[str, int] = {}
        tables = self._engine.tables
        for lane in tables.ways.all_lanes():
            if not lane.left or not lane.queue.parcels:
                continue
            obstacle = obstacle_of(tables.core, lane, now)
            if obstacle.text:
                words = label_of(obstacle)
                counts[words] = counts.get(words, 0) + lane.queue.parcels
        for words, count in counts.items():
            held = self.found.get(words)
            if held is None:
                held = self.found[words] = Held(now)
            held.seconds += count * min(passed, self._step)
            held.most = max(held.most, count)


def label_of(obstacle: "Obstacle") -> str:
    """Return what holds mail up, without what changes from moment to moment."""
    budget = obstacle.budget
    if budget is None:
        return obstacle.text.partition(" for ")[0].partition("; ")[0]
    if budget.learned is not None and budget.learned < budget.limit and obstacle.state == "full":
        return f"full: {name_of(budget)}, by what was learned"
    return f"{obstacle.state}: {name_of(budget)}{owner_of(budget)}"
