"""The ways of mail: lanes, the doors they lead to, and what is ready there.

A lane without a door waits for the answer of the resolver.  Where nothing is asked (the local channel, agents that
connect by themselves) each lane has a site of its own.
"""

from pyqmail.mail.destinations.doors import Door, Lane, Organisation, Site
from pyqmail.mail.destinations.rules.policies import DOMAIN, SitePolicy
from pyqmail.mail.destinations.scheduling.host_units import Holds
from pyqmail.mail.destinations.scheduling.local_channel import LocalChannel
from pyqmail.mail.destinations.site_table import SiteTable
from pyqmail.mail.destinations.sites import SMTP_PORT
from pyqmail.mail.destinations.sources.parts import SourceLanes
from pyqmail.mail.destinations.waiting.untried import is_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyqmail.mail.destinations.faults.table import Facts
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.relays.fallbacks import Fallbacks
    from pyqmail.mail.destinations.rules.policies import PoolMember, SenderPolicy
    from pyqmail.mail.destinations.scheduling.core import Core

    Hosts = Sequence[tuple[int, bytes, Sequence[bytes]]]

UNBOUNDED = 1 << 30  # recipients of a transaction, where nothing bounds it


class Ways:
    """lanes: by number, the first is none.  doomed: those that may be forgotten at the end of the turn.

    Called are: need(lane, now) for a lane that has mail and does not know where to; feed_idle(door, now) for a door
    that has mail and idle sessions; sort_again(lane, now) if what is ready in a lane has another class or lifetime.
    """

    def __init__(self, core: "Core", registrable: "Callable[[bytes], bytes]") -> None:
        self._core = core
        self.lanes: list[Lane] = [Lane(b"", 0, core.flows)]
        self._free: list[int] = []
        self._by_domain: dict[bytes, Lane] = {}
        self.table = SiteTable(registrable, core.random)
        self.doomed: list[Lane] = []
        self._holds = Holds(core, self.seek)
        self.local = LocalChannel(core, self.lanes) if core.is_local else None
        self.has_sender_rules = False
        self.sources = SourceLanes(core, self)
        self.need: Callable[[Lane, float], None] = _nothing
        self.feed_idle: Callable[[Door, float], None] = _nothing
        self.sort_again: Callable[[Lane, float], None] = _nothing
        self.fallbacks: Fallbacks | None = None

    def note_rules(self) -> None:
        """The rules are new."""
        self.has_sender_rules = self._core.rules.has_sender_lines
        self.sources.note_rules()

    # lanes

    def lane_of(self, domain: bytes, now: float) -> Lane:
        """Return the lane of a domain, a new one if there is none."""
        lane = self._by_domain.get(domain)
        if lane is None:
            lane = self._by_domain[domain] = self.new_lane(domain)
            if self.local is not None:
                self.local.policy_of(lane)
            elif not self._core.has_sessions:
                self._attach_alone(lane, now)
        return lane

    def all_lanes(self) -> list[Lane]:
        """Return the lanes by domain, those through one source among the parts of theirs."""
        return list(self._by_domain.values())

    def sites(self) -> list[Site]:
        return self.table.sites()

    def renew(self, lane: Lane, now: float) -> None:
        """Look up again what applies to a lane."""
        if self.local is not None:
            self.local.policy_of(lane)
            self.local.release(lane)
            self.seek(self.local.door, now)
        elif not self._core.has_sessions:
            self._attach_alone(lane, now)
        elif (site := lane.site) is not None:
            self.attach(lane, site.key, site.hosts, site.port, site.route, now)
            if getattr(lane.policy, "route", None) is not None or site.route or site.port != SMTP_PORT:
                self.need(lane, now)  # it may be another relay
        elif lane.left or lane.fallback is not None:
            self.need(lane, now)  # it may have been held
        if lane.fallback is not None:
            self.renew(lane.fallback, now)

    def organisations(self) -> list[Organisation]:
        """Return all organisations; a lane that has a site of its own has none of them."""
        return self.table.organisations()

    def find(self, domain: bytes) -> Lane | None:
        return self._by_domain.get(domain)

    def add(self, lane: Lane, parcel: int, klass: int, sender: int, at_head: bool, now: float) -> None:
        """A parcel is ready in a lane."""
        if self.local is not None:
            self.local.add(parcel, klass, sender, at_head)
            self.seek(self.local.door, now)
            return
        lane.queue.add(parcel, klass, sender, at_head=at_head)
        door = lane.door
        if door is not None:
            self.recount(lane)
            if door.idle:
                self.feed_idle(door, now)
            self.seek(door, now)
        if lane.known_until <= now:
            self.refresh(lane, now)

    def refresh(self, lane: Lane, now: float) -> None:
        """A lane with mail is used: ask for its hosts again if what is known of them is old."""
        lane = lane.front or lane
        if lane.known_until <= now and self._core.has_sessions:
            self.need(lane, now)

    def add_first(self, door: Door, parcel: int, now: float) -> None:
        """A parcel goes before all others of its door, over a fresh connection."""
        door.returned.append(parcel)
        door.ready += 1
        self.seek(door, now)

    def recount(self, lane: Lane) -> None:
        """What is ready in a lane has changed."""
        assert lane.door is not None
        queue = lane.queue
        lane.door.count(lane, 1 if queue.recipients == queue.parcels else self.most_recipients(lane))

    def recount_door(self, door: Door, now: float) -> None:
        """What is ready makes another number of transactions: a door may want more sessions for it."""
        for lane in list(door.lanes):
            self.recount(lane)
        self.seek(door, now)

    def seek(self, door: Door, now: float) -> None:
        """A door may want a session."""
        if door.place is None and door.wants and not self._core.is_stopped:
            self._core.admission.seek(door, now)

    def most_recipients(self, lane: Lane, written: int = 0) -> int:
        """Return how many recipients a transaction may have.  written: what a line of the host's network allows."""
        if not self._core.has_sessions:
            return 1
        policy, door = lane.policy, lane.door
        most = written or (policy.recipients if isinstance(policy, SitePolicy) else UNBOUNDED)
        learned = door.site.recipients.value if door is not None else 0
        return min(most, learned) if learned else most

    def take_out(self, parcel: int) -> None:
        """Leave out a parcel that is ready."""
        if self.local is not None:
            self.local.take_out(parcel)
            return
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
        """Return whether mail of a lane can be tried about now; what has no source yet, through any of them."""
        door = lane.door
        if door is None and lane.front is not None:
            return self.sources.is_open(lane, now)
        if door is None or is_held(self._core, lane, now):
            return False
        return all(budget.paused_until <= now for budget in door.chain)

    def sender_policy(self, key: int) -> "SenderPolicy | None":
        return self._core.rules.for_sender(self._core.senders.name(key))

    # doors

    def drain(self, lane: Lane) -> list[int]:
        """Take out all that is ready in a lane, and in its parts."""
        if lane.parts is not None:
            return [parcel for part in lane.parts.lanes.values() for parcel in self.drain(part)]
        parcels = lane.queue.drain()
        door = lane.door
        if door is not None:
            self.recount(lane)
            rows = self._core.rows
            returned = [parcel for parcel in door.returned if rows.p_lane[parcel] == lane.number]
            for parcel in returned:
                door.returned.remove(parcel)
            door.ready -= len(returned)
            parcels += returned
        return parcels

    def attach(self, lane: Lane, key: bytes, hosts: "Hosts", port: int, route: bytes, now: float) -> None:
        """A lane leads to these hosts from now on.  What a relay has of others is for nobody's domain."""
        site = self.table.site_of(key, hosts, port, route)
        addresses = [address for _, _, some in hosts for address in some]
        site.organisation.note_addresses(addresses)
        policy = self._core.rules.for_site(lane.rule_domain, [name for _, name, _ in hosts], addresses, relay=route)
        self.table.use_hosts(site, hosts, policy.families)
        if not self.sources.attach(lane, site, policy, now):
            self.lead(lane, site, policy, None, now)
        elif lane.fallback is not None and self.fallbacks is not None:
            self.fallbacks.attached(lane, now)

    def lead(self, lane: Lane, site: Site, policy: SitePolicy, source: "PoolMember | None", now: float) -> None:
        """All mail of a lane goes to a site, through a source."""
        door = self._door_of(site, policy, source, lane, now)
        if lane.door is not door:
            self._move(lane, door, policy, now)
            if policy.lifetime_seconds is not None or policy.klass or policy.fallback is not None:
                self.sort_again(lane, now)
        if lane.fallback is not None and self.fallbacks is not None:
            self.fallbacks.attached(lane, now)
        self.seek(door, now)

    def start_failed(self, door: Door, facts: "Facts", now: float) -> None:
        """A session start has ended without a greeting: a relay may take what waits there."""
        if self.fallbacks is not None:
            self.fallbacks.start_failed(door, facts, now)

    def greeted(self, door: Door, now: float) -> None:
        """A host has greeted: a relay takes no more of what is for it."""
        if self.fallbacks is not None:
            self.fallbacks.greeted(door, now)

    def detach(self, lane: Lane, now: float) -> None:
        """A lane leads nowhere any more."""
        if lane.parts is not None:
            self.sources.detach(lane)
        elif lane.door is not None:
            self.leave(lane)
        if lane.has_ready:
            self.need(lane, now)

    def _move(self, lane: Lane, door: Door, policy: SitePolicy, now: float) -> None:
        """Hand what is ready in a lane to another door; sessions stay where they are."""
        rows, old = self._core.rows, lane.door
        returned = []
        if old is not None:
            returned = [parcel for parcel in old.returned if rows.p_lane[parcel] == lane.number]
            for parcel in returned:
                old.returned.remove(parcel)
            old.ready -= len(returned)
            self.leave(lane)
        lane.door, lane.policy = door, policy
        door.lane_count += 1
        door.returned.extend(returned)
        door.ready += len(returned)
        self.recount(lane)

    def leave(self, lane: Lane) -> None:
        """A lane leads to its door no more."""
        door = lane.door
        assert door is not None
        if lane.is_listed:
            lane.is_listed = False
            door.lanes.remove(lane)
        door.ready -= lane.ready
        lane.ready, lane.door = 0, None
        if door.fallen is not None:
            door.fallen.pop(lane, None)
        door.lane_count -= 1
        if not door.lane_count:
            self.drop_door(door)

    def _door_of(self, site: Site, policy: SitePolicy, source: "PoolMember | None", lane: Lane, now: float) -> Door:
        """Return the door of a site for a policy; lanes with limits of their own have one of their own."""
        own = lane.limited_name if any(limit.scope == DOMAIN for limit in policy.limits) else b""
        known: Door | None = site.doors.get((own, id(policy)))
        door = known or Door(site, source, policy)
        if known is None:
            site.doors[own, id(policy)] = door
            site.organisation.doors[door] = None
            door.own_domain = own
        door.source = source
        self._find_budgets(door, lane, now)
        if known is None and self.fallbacks is not None:
            self.fallbacks.note_new_door(door)
        return door

    def _find_budgets(self, door: Door, lane: Lane, now: float) -> None:
        """Give a door the budgets that its lines name, with what these say."""
        table = self._core.budgets
        before = {budget: budget.cap for budget in door.budgets}
        door.budgets = table.chain_of(door, lane.limited_name)
        table.announce(now)
        self.update_chain(door, now)
        self._holds.obey(door, now)
        for budget in door.budgets:
            if budget.room is not None and before.get(budget, budget.cap) < budget.cap:
                self._core.admission.changed(budget, now)

    def drop_door(self, door: Door) -> None:
        """Forget a door that no lane leads to and that has no session."""
        if door.lane_count or door.sessions or door.site.doors.get((door.own_domain, id(door.policy))) is not door:
            return
        door.site.doors.remove((door.own_domain, id(door.policy)))
        door.site.organisation.doors.remove(door)

    def may_forget(self, lane: Lane) -> None:
        """A lane has no mail any more: see at the end of the turn whether it can be forgotten."""
        if not lane.is_doomed:
            lane.is_doomed = True
            self.doomed.append(lane)

    def forget_unused(self, now: float) -> None:
        """Forget the lanes that have no mail, unless what is known of them is still new."""
        doomed, self.doomed = self.doomed, []
        for lane in doomed:
            lane.is_doomed = False
            if lane.left or lane.is_asked or lane.fallback is not None:
                continue
            if self.local is not None:
                self._forget(lane)
                self.local.forget(lane, now)
            elif lane.known_until > now:
                self._core.timers.at(lane.known_until, self._forget_later, lane)
            elif lane.home is not None and self.fallbacks is not None:
                self.fallbacks.forget(lane, now)
            else:
                self._forget(lane)

    def _forget_later(self, lane: Lane, now: float) -> None:
        if (lane.home is not None or self._by_domain.get(lane.domain) is lane) and not lane.left:
            self.may_forget(lane)
            self.forget_unused(now)

    def _forget(self, lane: Lane) -> None:
        if self._by_domain.get(lane.domain) is not lane:
            return
        door = lane.door
        if door is not None and lane.is_listed:
            lane.is_listed = False
            door.lanes.remove(lane)
        if lane.parts is not None:
            self.sources.forget(lane)
        del self._by_domain[lane.domain]
        self.forget_number(lane)

    def forget_number(self, lane: Lane) -> None:
        """Nothing knows a lane any more."""
        if lane.home is not None and lane.door is not None:
            self.leave(lane)
        if self.fallbacks is not None:
            self.fallbacks.ours.pop(lane, None)
        self.lanes[lane.number] = self.lanes[0]
        self._free.append(lane.number)

    def _attach_alone(self, lane: Lane, now: float) -> None:
        """Give a lane a door of its own: nothing is asked."""
        rules = self._core.rules
        policy = rules.for_site(lane.domain)
        self._core.log.cannot_route(policy)
        door = lane.door
        if door is None:
            site = Site(lane.domain, lane.domain, Organisation(b""))
            door = lane.door = Door(site, None, policy)
        lane.policy = door.policy = policy
        self._find_budgets(door, lane, now)

    def chain(self, door: Door, now: float) -> "tuple[Budget, ...]":
        """Return the chain of a door as it is now."""
        budgets, table = door.budgets, self._core.budgets
        window = door.site_budget.window if door.site_budget is not None else None
        if window is not None and window.is_unproven(now):
            budgets = (*budgets, table.unproven)
        return (*budgets, table.shared, table.total) if door.sessions else (*budgets, table.total)

    def update_chain(self, door: Door, now: float) -> None:
        """See whether the chain of a door is another one by now."""
        chain = self.chain(door, now)
        if chain == door.chain:
            return
        if door.place is self._core.budgets.total:
            door.chain = chain  # nothing is broader than the total: it stands there under either chain
        else:
            self._core.admission.change_chain(door, chain, now)

    def new_lane(self, domain: bytes) -> Lane:
        """Return a lane that is found under no domain yet."""
        number = self._free.pop() if self._free else len(self.lanes)
        lane = Lane(domain, number, self._core.flows)
        self.lanes[number : number + 1] = [lane]
        return lane


def _nothing(_: "Any", now: float) -> None:
    """Where nothing is asked and nothing idles."""
