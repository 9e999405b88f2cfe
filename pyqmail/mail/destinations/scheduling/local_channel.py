"""The local channel: one queue for all of it, in which senders and messages take turns, and a bound for each recipient.

All mail that is ready stands in the queue of the channel, whatever its recipient: so a message to 10,000 recipients
holds up no other.  A parcel whose turn it is, and whose recipient has as many deliveries as it may, is set aside in the
queue of its own lane (IS_PARKED); one comes back, to the head, when a delivery to that recipient has ended.

Where the spawner takes batches, what waits for a recipient goes together, as one: what was set aside for it, then what
is next in the queue of the channel, as long as that is for it.  Nobody is passed over for a batch.  There is one only
where the last delivery to that recipient went to Maildirs alone: a program may take long, and what waits behind it in
a batch could be delivered by nobody else.  What was deferred before goes alone: it may be what others suffer from.
"""

from pyqmail.mail.destinations.doors import Door, Lane, Organisation, Site
from pyqmail.mail.destinations.limits.budgets import FOREVER
from pyqmail.mail.destinations.rules.policies import DOMAIN
from pyqmail.mail.destinations.scheduling.core import IS_PARKED
from pyqmail.mail.destinations.sessions import OPENED, DeliverySession
from pyqmail.mail.destinations.waiting.rows import CLASS_MASK, CLASS_SHIFT, IS_SPLIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.scheduling.core import Core

MAX_TOGETHER = 20  # deliveries of a batch
MAX_BATCH_NUMBER = 0x7FFFFFFF


class LocalBatch:
    """Deliveries to one recipient that count as one.  first: the session that has the units; running: how many."""

    __slots__ = ("number", "first", "running")

    def __init__(self, number: int, first: DeliverySession) -> None:
        self.number, self.first, self.running = number, first, 1


class LocalChannel:
    """lanes: those of Ways; the first stands for the whole channel."""

    def __init__(self, core: "Core", lanes: list[Lane]) -> None:
        self._core, self._lanes = core, lanes
        site = Site(b"local", b"local", Organisation(b""))
        self.door = Door(site, None, core.rules.for_recipient(b""))
        self.door.chain = (core.budgets.total,)
        lanes[0].door = self.door
        self._timed: dict[Lane, None] = {}  # those for which a timer runs
        self._last_batch = 0

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
                if self._core.max_together > 1:
                    self._last_batch = self._last_batch % MAX_BATCH_NUMBER + 1
                    session.batch = LocalBatch(self._last_batch, session)
                return parcel
            self._set_aside(lane, parcel, now)
        return 0

    def companions(self, first: DeliverySession, parcel: int, now: float) -> "list[tuple[DeliverySession, int]]":
        """Take what goes together with a parcel that has just been taken: (session, parcel) each, in their order."""
        lane, batch, tries = first.lane, first.batch, self._core.rows.p_tries
        assert lane is not None and batch is not None
        if not lane.has_maildirs or tries[parcel] or any(one.has_rates for one in lane.budgets):
            return []
        found: list[tuple[DeliverySession, int]] = []
        while batch.running < self._core.max_together and (parcel := self._next_of(lane)):
            session = DeliverySession(None, first.door, (), now)
            session.state, session.lane, session.batch = OPENED, lane, batch
            batch.running += 1
            found.append((session, parcel))
        return found

    def _next_of(self, lane: Lane) -> int:
        """Take the next parcel of a lane that was not deferred before; 0: it is another's turn."""
        rows, channel = self._core.rows, self._lanes[0]
        queue = lane.queue if lane.queue.parcels else channel.queue
        head = queue.head()
        if not head or rows.p_lane[head] != lane.number or rows.p_tries[head]:
            return 0
        parcel = queue.take(1)
        rows.p_flags[parcel] &= ~IS_PARKED
        if queue is channel.queue:
            self.door.count(channel, 1)
        return parcel

    def ended(self, lane: Lane, now: float) -> None:
        """A delivery to a recipient has ended, or time may have freed it: let one go that was set aside."""
        if lane.queue.parcels:
            if self._may_go(lane, now):
                self._bring_back(lane)
            else:
                self._arm(lane, now)

    def _bring_back(self, lane: Lane) -> None:
        parcel, rows = lane.queue.take(1), self._core.rows
        rows.p_flags[parcel] &= ~IS_PARKED
        self.add(parcel, _class_of(rows.p_flags[parcel]), rows.m_sender[rows.p_message[parcel]], True)

    def release(self, lane: Lane) -> None:
        """The limits of a recipient are others: all that was set aside has its turn again."""
        rows = self._core.rows
        for parcel in lane.queue.drain():
            rows.p_flags[parcel] &= ~IS_PARKED
            self.add(parcel, _class_of(rows.p_flags[parcel]), rows.m_sender[rows.p_message[parcel]], False)

    def take_out(self, parcel: int) -> None:
        """Leave out a parcel that waits."""
        rows = self._core.rows
        lane = self._lanes[rows.p_lane[parcel]]
        if rows.p_flags[parcel] & IS_PARKED:
            lane.queue.strike(parcel)
            return
        self._lanes[0].queue.strike(parcel)
        self.door.count(self._lanes[0], 1)
        if lane.queue.parcels:
            self._bring_back(lane)  # it may have been the one that had come back, and there may be nothing in flight

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
        self._arm(lane, now)

    def _arm(self, lane: Lane, now: float) -> None:
        """See that one of those set aside has its turn when time alone allows it: a rate, the end of a hold."""
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
