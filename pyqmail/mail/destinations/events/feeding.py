"""Sessions that are up: the next parcel, or idling, or the end.

A session ends when it has carried what the server takes (n), is 300 s old, or has idled; while somebody else waits for
one of its units, after 10 messages, and at once if it idles.
"""

from itertools import islice

from pyqmail.mail.destinations.doors import NONE
from pyqmail.mail.destinations.events.guards import OUR_NETWORK
from pyqmail.mail.destinations.events.openings import HOSTS_OFF
from pyqmail.mail.destinations.events.site_faults import SOFT_BLOCKED, SPREAD_SECONDS
from pyqmail.mail.destinations.faults.flow_faults import BLOCK_SECONDS
from pyqmail.mail.destinations.rules.policies import SitePolicy
from pyqmail.mail.destinations.scheduling.binding import has_waiters
from pyqmail.mail.destinations.sessions import IDLE, OPENED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.binding import Binding
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.deliveries import Deliveries
    from pyqmail.mail.destinations.scheduling.ways import Ways
    from pyqmail.mail.destinations.sessions import DeliverySession

MAX_SECONDS = 300.0
SHARED_MESSAGES = 10
HARMLESS = (HOSTS_OFF, OUR_NETWORK)  # reasons for pauses that are none for a session that is up
LOOKED_AT = 64  # idle sessions at a time, the longest first


class Feeding:
    """close(session, now) orders the end of a session."""

    def __init__(
        self,
        core: "Core",
        ways: "Ways",
        binding: "Binding",
        deliveries: "Deliveries",
        close: "Callable[[DeliverySession, float], None]",
    ) -> None:
        self._core, self._ways, self._binding, self._deliveries = core, ways, binding, deliveries
        self._close = close
        self._idle: dict[DeliverySession, None] = {}  # longest first

    def feed(self, session: "DeliverySession", now: float) -> None:
        """A session that is up and has nothing in flight gets the next parcel, idles, or ends."""
        if session.state == IDLE:
            self._wake(session)
        door = session.door
        if self._must_end(session, now):
            self._end(session, now)
            return
        parcel = self._binding.next_parcel(session, now) if door.ready else 0
        if parcel:
            self._deliveries.start(session, parcel, now)
        elif door.returned or has_waiters(session, door):
            self._end(session, now)
        else:
            session.state, session.idle_since = IDLE, now
            if not door.idle:
                door.idle = {}
            door.idle[session] = self._idle[session] = None
            self._watch(session, now)

    def feed_idle(self, door: "Door", now: float) -> None:
        """A door has mail and idle sessions: the last that idled first."""
        while door.idle and door.ready > 0:
            before = door.ready
            self.feed(next(reversed(door.idle)), now)
            if door.ready == before:
                break

    def give_way(self, now: float) -> None:
        """End idle sessions whose units others wait for."""
        if not self._idle:
            return
        places: dict[Budget, int] = {}
        for session in list(islice(self._idle, LOOKED_AT)):
            units, door = session.units, session.door
            wanted = [unit for unit in units if unit.room is not None and self._places(unit, door, places) > 0]
            if wanted:
                for unit in wanted:
                    places[unit] -= 1
                self._end(session, now)

    def gone(self, session: "DeliverySession") -> None:
        self._wake(session)

    def _places(self, unit: "Budget", door: "Door", places: "dict[Budget, int]") -> int:
        """Return how many more units of a budget its room could use than are being given back."""
        if unit not in places:
            assert unit.room is not None
            places[unit] = unit.room.size - (door.place is unit) - self._core.closing
        return places[unit]

    def _must_end(self, session: "DeliverySession", now: float) -> bool:
        door = session.door
        if self._core.is_stopped or session.is_leaving or door.is_held or now - session.opened_at >= MAX_SECONDS:
            return True
        if session.messages >= self._most_messages(session):
            return True
        for unit in session.units:
            if unit.used > unit.cap and unit.used > unit.limit:
                return True  # the rules have lowered it
            if unit.paused_until > now and self._ends_sessions(unit, session):
                return True
        return session.messages >= SHARED_MESSAGES and has_waiters(session, door)

    def _ends_sessions(self, unit: "Budget", session: "DeliverySession") -> bool:
        """Return whether the pause of a unit ends a session that is up.

        In a soft block the session that was opened for this minute carries one message.
        """
        if unit.pause_reason == SOFT_BLOCKED and not session.messages:
            return session.opened_at + BLOCK_SECONDS + SPREAD_SECONDS < unit.paused_until
        return unit.pause_reason not in HARMLESS and not session.is_test

    def _most_messages(self, session: "DeliverySession") -> int:
        """Return n: as written; less if the server announced it, or else showed it."""
        policy = session.door.policy
        written = policy.messages if isinstance(policy, SitePolicy) else 1
        if self._core.rules.has_network_lines and isinstance(policy, SitePolicy):
            written = self._core.rules.for_address(session.host, session.address, policy).messages or written
        shown = session.most_messages or session.door.site.messages.value
        return min(written, shown) if shown else written

    def _idle_until(self, session: "DeliverySession") -> float:
        policy = session.door.policy
        return session.idle_since + (policy.idle_seconds if isinstance(policy, SitePolicy) else 0.0)

    def _watch(self, session: "DeliverySession", now: float) -> None:
        """Look at an idle session again when its time is over, or when a rate that holds it back lets it go on."""
        until = self._idle_until(session)
        if session.door.ready:
            until = min([until, *(unit.not_before for unit in session.all_units if unit.not_before > now)])
        self._core.timers.at(max(until, now), self._look_at, (session, session.idle_since))

    def _look_at(self, idling: "tuple[DeliverySession, float]", now: float) -> None:
        session, since = idling
        if session.state != IDLE or session.idle_since != since:
            return
        if session.door.ready and self._binding.may_send(session, now):
            self.feed(session, now)
        elif now >= self._idle_until(session):
            self._end(session, now)
        else:
            self._watch(session, now)

    def _end(self, session: "DeliverySession", now: float) -> None:
        self._wake(session)
        self._close(session, now)

    def _wake(self, session: "DeliverySession") -> None:
        if session.state == IDLE:
            session.state = OPENED
            door = session.door
            door.idle.pop(session, None)
            door.idle = door.idle or NONE
            del self._idle[session]
