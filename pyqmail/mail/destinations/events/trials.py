"""Sessions to sites that have not greeted: they give way while others of their kind wait.

A session of this class that was not greeted after its grace (2 s, and 4, 8 ... 60 s at the site's next turns) gives its
place up as soon as another unproven site waits.  Nobody is blamed for it.
"""

import heapq

from pyqmail.mail.destinations.limits.rooms import LeastTriedRoom
from pyqmail.mail.destinations.sessions import CONNECTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.sessions import DeliverySession

GRACE_SECONDS, LONGEST_GRACE = 2.0, 60.0


class Trials:
    """close(session, now): the session is to give way."""

    def __init__(self, core: "Core", close: "Callable[[DeliverySession, float], None]") -> None:
        self._core, self._close = core, close
        self._graces: list[tuple[float, int, DeliverySession]] = []  # when it may be asked to give way
        self._leaving = 0
        self.is_wanted = False
        core.budgets.unproven.room = LeastTriedRoom(_attempts, self._want_one)  # type: ignore[arg-type]

    def started(self, session: "DeliverySession", now: float) -> None:
        """A session of the class has begun; its door's attempts count it already."""
        times = max(0, session.door.attempts - 1)
        session.grace = now + min(GRACE_SECONDS * 2.0 ** min(times, 10), LONGEST_GRACE)
        assert session.number is not None
        heapq.heappush(self._graces, (session.grace, session.number, session))

    def yield_places(self, now: float) -> None:
        """While unproven sites wait, let those give way whose grace is over."""
        room = self._core.budgets.unproven.room
        waiting = len(room) if room is not None else 0
        graces = self._graces
        while graces and (waiting > self._leaving or not _is_trial(graces[0][2])):
            when, _, session = graces[0]
            if not _is_trial(session):
                heapq.heappop(graces)
            elif when <= now:
                heapq.heappop(graces)
                session.gave_way = True
                self._leaving += 1
                self._close(session, now)
            else:
                break

    def ended(self, session: "DeliverySession") -> None:
        """A session is gone."""
        self._leaving -= session.gave_way

    def next_time(self) -> float | None:
        room = self._core.budgets.unproven.room
        if not self._graces or room is None or len(room) <= self._leaving:
            return None
        return self._graces[0][0]

    def _want_one(self) -> None:
        self.is_wanted = True


def _is_trial(session: "DeliverySession") -> bool:
    return session.state == CONNECTING and session.is_trial


def _attempts(door: "Door") -> int:
    return door.attempts
