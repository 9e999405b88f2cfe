"""The local channel: one queue for all of it, in which senders and messages take turns, and a bound for each recipient.

All mail that is ready stands in the queue of the channel, whatever its recipient: so a message to 10,000 recipients
holds up no other.  A parcel whose turn it is, and whose recipient has as many deliveries as it may, is set aside in the
queue of its own lane (IS_PARKED); one comes back, to the head, when a delivery to that recipient has ended.
"""

from pyqmail.mail.destinations.doors import Door, Lane, Organisation, Site
from pyqmail.mail.destinations.limits.budgets import FOREVER
from pyqmail.mail.destinations.rules.policies import DOMAIN
from pyqmail.mail.destinations.scheduling.core import IS_PARKED
from pyqmail.mail.destinations.waiting.rows import CLASS_MASK, CLASS_SHIFT, IS_SPLIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.sessions import DeliverySession


class LocalChannel:
    """lanes: those of Ways; the first stands for the whole channel."""

    def __init__(self, core: "Core", lanes: list[Lane]) -> None:
        self._core, self._lanes = core, lanes
        site = Site(b"local", b"local", Organisation(b""))
        self.door = Door(site, None, core.rules.for_recipient(b""))
        self.door.chain = (core.budgets.total,)
        lanes[0].door = self.door
        self._timed: dict[Lane, None] = {}  # those for which a timer runs

    def policy_of(self, lane: Lane) -> None:
        """Look up what applies to a lane: it is new, or the rules are."""
        rules = self._core.rules.for_recipient(lane.domain)
        source, table = b"", self._core.budgets
        lane.policy, lane.door = rules, self.door
        limits = [limit for limit in rules.limits if limit.scope == DOMAIN]
        lane.budgets = tuple(dict.fromkeys(table.of_limit(one, lane.domain, source, lane.domain) for one in limits))

    def forget(self, lane: Lane, now: float) -> None:
        """A lane is forgotten, and with it the budgets that nobody uses."""
        for budget in lane.budgets:
            self._core.budgets.drop_unused(budget, now)

    def add(self, parcel: int, klass: int, sender: int, at_head: bool) -> None:
        """A parcel is ready."""
        rows = self._core.rows
        if rows.m_left[rows.p_message[parcel]] > 1:
            rows.p_flags[parcel] |= IS_SPLIT  # all of a message stand in one queue: it has its turn once, not for each
        self._lanes[0].queue.add(parcel, klass, sender, at_head=at_head)
        self.door.count(self._lanes[0], 1)

    def next_parcel(self, session: "DeliverySession", now: float) -> int:
        """Take the parcel whose turn it is, and the units of its recipient; 0: there is none that may go."""
        channel = self._lanes[0]
        while channel.queue.parcels:
            parcel = channel.queue.take(1)
            self.door.count(channel, 1)
            lane = self._lanes[self._core.rows.p_lane[parcel]]
            budgets = lane.budgets
            if self._may_go(lane, now):
                for budget in budgets:
                    budget.take(now)
                session.units = (*budgets, *session.units)
                session.lane = lane
                return parcel
            self._set_aside(lane, parcel, now)
        return 0

    def ended(self, lane: Lane, now: float) -> None:
        """A delivery to a recipient has ended, or time may have freed it: let one go that was set aside."""
        if lane.queue.parcels and self._may_go(lane, now):
            parcel = lane.queue.take(1)
            flags = self._core.rows.p_flags
            flags[parcel] &= ~IS_PARKED
            rows = self._core.rows
            self.add(parcel, _class_of(flags[parcel]), rows.m_sender[rows.p_message[parcel]], True)

    def release(self, lane: Lane) -> None:
        """The limits of a recipient are others: all that was set aside has its turn again."""
        rows = self._core.rows
        for parcel in lane.queue.drain():
            rows.p_flags[parcel] &= ~IS_PARKED
            self.add(parcel, _class_of(rows.p_flags[parcel]), rows.m_sender[rows.p_message[parcel]], False)

    def take_out(self, parcel: int) -> None:
        """Leave out a parcel that waits."""
        rows = self._core.rows
        if rows.p_flags[parcel] & IS_PARKED:
            self._lanes[rows.p_lane[parcel]].queue.strike(parcel)
        else:
            self._lanes[0].queue.strike(parcel)
            self.door.count(self._lanes[0], 1)

    def _may_go(self, lane: Lane, now: float) -> bool:
        if lane.policy is not None and lane.policy.held_until > self._core.clock.date(now):
            return False
        return all(budget.is_free(now) for budget in lane.budgets)

    def _set_aside(self, lane: Lane, parcel: int, now: float) -> None:
        rows = self._core.rows
        flags = rows.p_flags[parcel]
        rows.p_flags[parcel] = flags | IS_PARKED
        lane.queue.add(parcel, _class_of(flags), rows.m_sender[rows.p_message[parcel]])
        for budget in lane.budgets:
            self._core.note_full(budget, self.door, lane)
        when = max((budget.not_before for budget in lane.budgets), default=now)
        if lane.policy is not None and lane.policy.held_until > self._core.clock.date(now):
            when = max(when, now + lane.policy.held_until - self._core.clock.date(now))
        if now < when < FOREVER and lane not in self._timed:
            self._timed[lane] = None
            self._core.timers.at(when, self._time_is_over, lane)

    def _time_is_over(self, lane: Lane, now: float) -> None:
        del self._timed[lane]
        if lane.left:
            self.ended(lane, now)
            self._core.admission.seek(self.door, now)


def _class_of(flags: int) -> int:
    return (flags & CLASS_MASK) >> CLASS_SHIFT
