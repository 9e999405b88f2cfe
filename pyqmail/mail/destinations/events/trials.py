"""Sessions to sites that have not greeted: they give way while others of their kind wait.

A session of this class that was not greeted after its grace (2 s, and 4, 8 ... 60 s at the site's next turns) gives its
place up as soon as another unproven site waits.  Nobody is blamed for it.
"""

import heapq

from pyqmail.mail.destinations.limits.budgets import FOREVER
from pyqmail.mail.destinations.limits.rooms import LeastTriedRoom
from pyqmail.mail.destinations.limits.windows import DEAD_REASON
from pyqmail.mail.destinations.sessions import CONNECTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyqmail.mail.destinations.doors import Door, Site
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.sessions import DeliverySession

GRACE_SECONDS, LONGEST_GRACE = 2.0, 60.0
PROBES_AT_ONCE, SPREAD_SECONDS = 20, 60.0  # after ALRM


class Trials:
    """close(session, now): the session is to give way.

    look_at: yield_places() finds nothing to do before.
    """

    def __init__(self, core: "Core", close: "Callable[[DeliverySession, float], None]") -> None:
        self._core, self._close = core, close
        self._graces: list[tuple[float, int, DeliverySession]] = []  # when it may be asked to give way
        self._leaving = 0
        self.look_at = FOREVER
        core.budgets.unproven.room = LeastTriedRoom(_attempts, self._want_one)  # type: ignore[arg-type]

    def started(self, session: "DeliverySession", now: float) -> None:
        """A session of the class has begun; its door's attempts count it already."""
        graces = self._graces
        while graces and not _is_trial(graces[0][2]):
            heapq.heappop(graces)
        times = max(0, session.door.attempts - 1)
        session.grace = now + min(GRACE_SECONDS * 2.0 ** min(times, 10), LONGEST_GRACE)
        assert session.number is not None
        heapq.heappush(graces, (session.grace, session.number, session))
        self.look_at = min(self.look_at, session.grace)

    def yield_places(self, now: float) -> None:
        """While unproven sites wait, let those give way whose grace is over."""
        room = self._core.budgets.unproven.room
        waiting = len(room) if room is not None else 0
        graces = self._graces
        self.look_at = FOREVER
        while graces and waiting > self._leaving:
            when, _, session = graces[0]
            if not _is_trial(session):
                heapq.heappop(graces)
            elif when <= now:
                heapq.heappop(graces)
                session.gave_way = True
                self._leaving += 1
                self._close(session, now)
            else:
                self.look_at = min(self.look_at, when)
                break

    def ended(self, session: "DeliverySession") -> None:
        """A session is gone."""
        if session.gave_way:
            self._leaving -= 1
            self.look_at = 0.0

    def next_time(self) -> float | None:
        room = self._core.budgets.unproven.room
        if not self._graces or room is None or len(room) <= self._leaving:
            return None
        return self._graces[0][0]

    def _want_one(self) -> None:
        self.look_at = 0.0

    def probe_dead_sites(self, sites: "Iterable[Site]", now: float) -> None:
        """Each dead site with mail gets its probe now: the first at once, the others within a minute."""
        doors = [door for site in sites for door in site.doors.values() if door.ready]
        budgets = [budget for door in doors if (budget := door.site_budget) and budget.pause_reason == DEAD_REASON]
        first, others = budgets[:PROBES_AT_ONCE], budgets[PROBES_AT_ONCE:]
        for budget in first:
            self._probe(budget, now)
        for number, budget in enumerate(others):
            self._core.timers.at(now + SPREAD_SECONDS * (number + 1) / (len(others) + 1), self._probe, budget)

    def _probe(self, budget: "Budget", now: float) -> None:
        if budget.pause_reason == DEAD_REASON:
            budget.lift()
            if budget.window is not None:
                budget.window.probe_now()
            self._core.admission.changed(budget, now)


def _is_trial(session: "DeliverySession") -> bool:
    return session.state == CONNECTING and session.is_trial


def _attempts(door: "Door") -> int:
    return door.attempts
