"""The ways of mail: lanes, the doors they lead to, and what is ready there.

A lane without a door waits for the answer of the resolver.  Where nothing is asked (the local channel, agents that
connect by themselves) each lane has a site of its own.
"""

from pyqmail.mail.destinations.doors import Door, Lane, Organisation, Site
from pyqmail.mail.destinations.outcome import CONNECT, Outcome
from pyqmail.mail.destinations.rules.policies import RecipientPolicy, SitePolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.rules.policies import SenderPolicy
    from pyqmail.mail.destinations.scheduling.core import Core

NOT_REACHED = b"Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
UNBOUNDED = 1 << 30  # recipients of a transaction, where nothing bounds it


class Ways:
    """lanes: by number, the first is none.  resolve(lane, now) is called for a lane that does not know where to."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self.lanes: list[Lane] = [Lane(b"", 0, core.flows)]
        self._free: list[int] = []
        self._by_domain: dict[bytes, Lane] = {}
        self._organisations: dict[bytes, Organisation] = {}
        self._sites: dict[bytes, Site] = {}
        self._doomed: list[Lane] = []
        self.has_sender_rules = False

    # lanes

    def lane_of(self, domain: bytes, now: float) -> Lane:
        """Return the lane of a domain, a new one if there is none."""
        lane = self._by_domain.get(domain)
        if lane is None:
            lane = self._by_domain[domain] = self._new_lane(domain)
            if not self._core.has_sessions:
                self._attach_alone(lane, now)
        return lane

    def find(self, domain: bytes) -> Lane | None:
        return self._by_domain.get(domain)

    def add(self, lane: Lane, parcel: int, klass: int, sender: int, at_head: bool, now: float) -> None:
        """A parcel is ready in a lane."""
        lane.queue.add(parcel, klass, sender, at_head=at_head)
        if lane.door is not None:
            self.recount(lane)
            self.seek(lane.door, now)

    def recount(self, lane: Lane) -> None:
        """What is ready in a lane has changed."""
        assert lane.door is not None
        lane.door.count(lane, self.most_recipients(lane))

    def recount_door(self, door: Door) -> None:
        for lane in list(door.lanes):
            self.recount(lane)

    def seek(self, door: Door, now: float) -> None:
        """A door may want a session."""
        if door.place is None and door.wants and not self._core.is_stopped:
            self._core.admission.seek(door, now)

    def most_recipients(self, lane: Lane) -> int:
        """Return how many recipients a transaction may have."""
        if not self._core.has_sessions:
            return 1
        policy, door = lane.policy, lane.door
        most = policy.recipients if isinstance(policy, SitePolicy) else UNBOUNDED
        learned = door.site.recipients.value if door is not None else 0
        return min(most, learned) if learned else most

    def take_out(self, parcel: int) -> None:
        """Leave out a parcel that is ready."""
        rows = self._core.rows
        lane = self.lanes[rows.p_lane[parcel]]
        door = lane.door
        if door is not None and parcel in door.returned:
            door.returned.remove(parcel)
            door.ready -= 1
            rows.remove_parcel(parcel)
            return
        lane.queue.strike(parcel)
        if door is not None:
            self.recount(lane)

    def is_open(self, lane: Lane, now: float) -> bool:
        """Return whether mail of a lane can be tried about now."""
        door = lane.door
        if door is None or door.is_held:
            return False
        return all(budget.paused_until <= now for budget in door.chain)

    def last_outcome(self, lane: Lane, now: float) -> Outcome:
        """Return how a parcel ends that is too old, and could not be tried."""
        door = lane.door
        text = door.site.last_text if door is not None else b""
        return Outcome(b"D" + (text or NOT_REACHED), CONNECT, host=lane.domain)

    def sender_policy(self, key: int) -> "SenderPolicy | None":
        return self._core.rules.for_sender(self._core.senders.name(key))

    # doors

    def may_forget(self, lane: Lane) -> None:
        """A lane has no mail any more: see at the end of the turn whether it can be forgotten."""
        if not lane.is_doomed:
            lane.is_doomed = True
            self._doomed.append(lane)

    def forget_unused(self, now: float) -> None:
        """Forget the lanes that have no mail, unless what is known of them is still new."""
        doomed, self._doomed = self._doomed, []
        for lane in doomed:
            lane.is_doomed = False
            if lane.left or lane.is_asked:
                continue
            if lane.known_until > now:
                self._core.timers.at(lane.known_until, self._forget_later, lane)
            else:
                self._forget(lane)

    def _forget_later(self, lane: Lane, now: float) -> None:
        if self._by_domain.get(lane.domain) is lane and not lane.left:
            self.may_forget(lane)
            self.forget_unused(now)

    def _forget(self, lane: Lane) -> None:
        if self._by_domain.get(lane.domain) is not lane:
            return
        door = lane.door
        if door is not None and lane.is_listed:
            lane.is_listed = False
            door.lanes.remove(lane)
        del self._by_domain[lane.domain]
        self.lanes[lane.number] = self.lanes[0]
        self._free.append(lane.number)

    def _attach_alone(self, lane: Lane, now: float) -> None:
        """Give a lane a door of its own: nothing is asked."""
        rules = self._core.rules
        policy: SitePolicy | RecipientPolicy
        policy = rules.for_recipient(lane.domain) if self._core.is_local else rules.for_site(lane.domain)
        organisation = Organisation(b"")
        site = Site(lane.domain, lane.domain, organisation)
        door = Door(site, None, policy)
        lane.policy, lane.door = policy, door
        door.budgets = self._core.budgets.chain_of(door, lane.domain)
        door.chain = self.chain(door, now)

    def chain(self, door: Door, now: float) -> "tuple[Budget, ...]":
        """Return the chain of a door as it is now."""
        budgets, table = door.budgets, self._core.budgets
        if self._core.is_local:
            return (*budgets, table.total)
        window = door.site_budget.window if door.site_budget is not None else None
        if window is not None and window.is_unproven(now):
            budgets = (*budgets, table.unproven)
        return (*budgets, table.shared, table.total) if door.sessions else (*budgets, table.total)

    def _new_lane(self, domain: bytes) -> Lane:
        if self._free:
            number = self._free.pop()
            lane = self.lanes[number] = Lane(domain, number, self._core.flows)
            return lane
        lane = Lane(domain, len(self.lanes), self._core.flows)
        self.lanes.append(lane)
        return lane
