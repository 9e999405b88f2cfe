"""Which parcel a session takes next."""

from pyqmail.mail.destinations.limits.budgets import UNLIMITED
from pyqmail.mail.destinations.rules.policies import SitePolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Door, Lane
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.ways import Ways
    from pyqmail.mail.destinations.sessions import DeliverySession


class Binding:
    """Lanes of a door take turns, one parcel each."""

    def __init__(self, core: "Core", ways: "Ways") -> None:
        self._core, self._ways = core, ways

    def next_parcel(self, session: "DeliverySession", now: float) -> int:
        """Take the parcel that a session is to carry now out of its queue; 0: nothing may go.

        What came back from a connection that had carried mail goes first, over one that has carried none.
        """
        door = session.door
        most = self._most(session, now)
        if not most:
            return 0
        if door.returned and not session.messages:
            door.ready -= 1
            session.is_retry = True
            first: int = door.returned.popleft()
            return first
        while door.lanes:
            lane: Lane = door.lanes.popleft()
            lane.is_listed = False
            if lane.known_until <= now:
                self._ways.refresh(lane, now)
            queue = lane.queue
            parcel = queue.take(self._most_of(session, lane, most) if queue.recipients > queue.parcels else 1)
            self._ways.recount(lane)
            if parcel:
                return parcel
        return 0

    def may_send(self, session: "DeliverySession", now: float) -> bool:
        """Return whether its rates let a session send something now."""
        return self._most(session, now) > 0

    def _written(self, session: "DeliverySession") -> int:
        """Return m= of a line of the network that a session's host is in, 0 if there is none."""
        rules, policy = self._core.rules, session.door.policy
        if not rules.has_network_lines or not isinstance(policy, SitePolicy):
            return 0
        return rules.for_address(session.host, session.address, policy).recipients or 0

    def _most(self, session: "DeliverySession", now: float) -> int:
        """Return how many recipients a transaction may have now, by its server and its rates."""
        most = session.most_recipients or UNLIMITED
        for budget in session.all_units:
            if budget.recipient_rates:
                most = min(most, budget.recipients_allowed(now))
        return most

    def _most_of(self, session: "DeliverySession", lane: "Lane", most: int) -> int:
        """Return how many of them may be of a lane; each but the first takes one more of the total."""
        total = self._core.budgets.total
        return min(most, 1 + max(0, total.cap - total.used), self._ways.most_recipients(lane, self._written(session)))


def has_waiters(session: "DeliverySession", door: "Door") -> bool:
    """Return whether somebody else waits for a unit that the session holds."""
    for budget in session.units:
        room = budget.room
        if room is not None and room.size > (door.place is budget):
            return True
    return False
