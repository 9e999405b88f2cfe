"""Lanes whose mail goes through sources: one part for each source, and which of them a parcel belongs to.

    the lane of a domain (front) ── parts ──> Parts ── lanes ──> part, by source ──> door of that source
    is asked about, has no door                                  has mail, a queue and a door

A parcel gets its source when it first becomes ready and its hosts are known; then p_lane is the part, wherever it waits
later, so it keeps the source for all its tries.  It is moved when the source is in its pool no more (withdrawn), and
with `spill` while the source is shut there: paused by a reply, not usable here, or cut off.  What moves does not move
back.  left of the front counts the mail of all; that of a part only its own.

Mail that no line gives a pool goes through the part of no source, and so does all of a domain if no line of a sender
names a pool: then the lane has no parts, and costs nothing.
"""

from collections import deque

from pyqmail.mail.destinations.doors import Lane
from pyqmail.mail.destinations.limits.budgets import ORGANISATION, SOURCE, Pause
from pyqmail.mail.destinations.rules.policies import SITE, SitePolicy
from pyqmail.mail.destinations.scheduling.core import WAS_TRIED
from pyqmail.mail.destinations.sites import reached_by
from pyqmail.mail.destinations.sources import rendezvous
from pyqmail.mail.destinations.sources.shut import NO_FAMILY, ShutSources
from pyqmail.mail.destinations.sources.warm_up import WarmUps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyqmail.mail.destinations.doors import Door, Site
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.rules.lookup import RuleSet
    from pyqmail.mail.destinations.rules.policies import PoolMember
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.ways import Ways

MOVED_AT_ONCE = 500  # parcels, in one turn
UNREACHED_SECONDS = 60.0  # until it is looked again at hosts without an address that may be tried
WHOLE = 1 << 30  # no parcel has as many recipients


class Parts:
    """lanes: by source, b"" for none; members: likewise.  site, policy: where they lead, and what holds for any source.

    rules: those of which all this is.  is_led: False while the lane leads nowhere.
    """

    __slots__ = ("lanes", "members", "site", "policy", "rules", "is_led")

    def __init__(self, site: "Site", policy: SitePolicy, rules: "RuleSet") -> None:
        self.lanes: dict[bytes, Lane] = {}
        self.members: dict[bytes, PoolMember] = {}
        self.site, self.policy, self.rules, self.is_led = site, policy, rules, True

    @property
    def left(self) -> int:
        """How many recipients have a source."""
        return sum(part.left for part in self.lanes.values())


class Choice:
    """What the rules say of the source of a parcel: the members of its pool (none: no source), by=sender, spill."""

    __slots__ = ("members", "is_by_sender", "spills")

    def __init__(self, members: "tuple[PoolMember, ...]", is_by_sender: bool, spills: bool) -> None:
        self.members, self.is_by_sender, self.spills = members, is_by_sender, spills


class SourceLanes:
    """make_ready(parcel, now): that of MailStore, which asks lane_for()."""

    def __init__(self, core: "Core", ways: "Ways") -> None:
        self._core, self._ways = core, ways
        self.has_sender_pools, self._has_told = core.rules.has_sender_pools, False
        self.warm_ups, self.shut = WarmUps(), ShutSources(core)
        self.make_ready: Callable[[int, float], None] = _nowhere
        self._spilling: deque[tuple[Lane, int]] = deque()  # and how many of its parcels are to be looked at

    def note_rules(self) -> None:
        """The rules are new."""
        core = self._core
        self.has_sender_pools, self._has_told = core.rules.has_sender_pools, False
        if core.rules.has_pools and not core.has_sessions and not core.is_local:
            core.log.add(b"rules: src= is not obeyed here: agents choose the address that they send with")

    # lanes

    def attach(self, front: Lane, site: "Site", policy: SitePolicy, now: float) -> bool:
        """A lane leads to a site.  False: no rule gives it a source, and the lane has no parts."""
        if front.home is not None or not (policy.pool or self.has_sender_pools):
            if front.parts is not None:
                self._join(front, now)
            return False
        ways, parts, rules = self._ways, front.parts, self._core.rules
        waiting: list[int] = []
        if parts is None:
            waiting = ways.drain(front)
            if front.door is not None:
                ways.leave(front)
            parts = front.parts = Parts(site, policy, rules)
            front.front = front
        else:
            if parts.rules is not rules:
                waiting = self._withdraw(front, parts, policy)
            parts.site, parts.policy, parts.rules, parts.is_led = site, policy, rules, True
        front.policy = policy
        if policy.fallback is not None and not self._has_told:
            self._has_told = True
            self._core.log.add(b"rules: fall= is not obeyed where src= says which source mail has")
        parts.members.update((member.address, member) for member in rules.pool(policy.pool))
        for part in parts.lanes.values():
            self._lead(part, parts, now)
        for parcel in waiting:
            self.make_ready(parcel, now)
        return True

    def detach(self, front: Lane) -> None:
        """A lane that has parts leads nowhere any more."""
        assert front.parts is not None
        front.parts.is_led = False
        for part in front.parts.lanes.values():
            if part.door is not None:
                self._ways.leave(part)

    def forget(self, front: Lane) -> None:
        """A lane that has parts, and no mail, goes."""
        assert front.parts is not None
        self.detach(front)
        for part in front.parts.lanes.values():
            self._ways.forget_number(part)

    def lane_for(self, parcel: int, lane: Lane, now: float) -> Lane:
        """Return the lane of a parcel that becomes ready; lane, where it was, is a front or a part."""
        is_current = _is_current(lane)
        front = lane.front if is_current else self._ways.lane_of(lane.domain, now)
        assert front is not None
        target = front if front.parts is None else self._part_for(parcel, lane, front, front.parts, now)
        if target is not lane:
            count = self._core.rows.count(parcel)
            self._core.rows.p_lane[parcel] = target.number
            if target is not front:
                target.left += count
            if lane is not front:
                lane.left -= count
            if not is_current:
                front.left += count
                self._may_free(lane)
        return target

    def count_out(self, part: Lane, count: int) -> None:
        """So many recipients of a part are gone, and counted there: they count for its lane, too."""
        front = part.front
        assert front is not None
        if not _is_current(part):
            self._may_free(part)
            return
        front.left -= count
        if not front.left:
            self._ways.may_forget(front)

    def is_open(self, lane: Lane, now: float) -> bool:
        """Return whether mail of a lane without a door can be tried about now, through any source."""
        front = lane if lane.parts is not None else self._ways.find(lane.domain)
        if front is None or front.parts is None:
            return front is not None and front.door is not None and self._ways.is_open(front, now)
        doors = [part for part in front.parts.lanes.values() if part.door is not None]
        return front.parts.is_led and (not doors or any(self._ways.is_open(part, now) for part in doors))

    def _may_free(self, part: Lane) -> None:
        """A part that was withdrawn is gone once it has no mail any more."""
        if not part.left and self._ways.lanes[part.number] is part:
            self._ways.forget_number(part)

    def _join(self, front: Lane, now: float) -> None:
        """No source is named for a lane any more: its mail goes without, as it becomes ready."""
        assert front.parts is not None
        parts, front.parts, front.front = front.parts, None, None
        waiting = [parcel for part in parts.lanes.values() for parcel in self._empty(part, front)]
        for parcel in waiting:
            self.make_ready(parcel, now)

    def _withdraw(self, front: Lane, parts: Parts, policy: SitePolicy) -> list[int]:
        """The rules are others: take out the parts whose source is in no pool any more, and return what waited there.

        Where senders have pools of their own, each parcel is looked at.
        """
        sources = {member.address for member in self._core.rules.pool(policy.pool)}
        waiting = []
        for source, part in list(parts.lanes.items()):
            if source not in sources and not self.has_sender_pools:
                del parts.lanes[source]
                waiting += self._empty(part, front)
            elif self.has_sender_pools:
                waiting += self._ways.drain(part)
        return waiting

    def _empty(self, part: Lane, front: Lane) -> list[int]:
        """Return what waits in a part that is withdrawn, and leave its door: it keeps what it has on the wheel."""
        waiting = self._ways.drain(part)
        front.left -= part.left
        if part.door is not None:
            self._ways.leave(part)
        self._may_free(part)
        return waiting

    def _lead(self, part: Lane, parts: Parts, now: float) -> None:
        """Lead a part to the site, by what applies through its source."""
        site, policy, member = parts.site, parts.policy, parts.members.get(part.source)
        if member is not None:
            hosts = site.hosts
            addresses = [address for _, _, some in hosts for address in some]
            names = [name for _, name, _ in hosts]
            policy = parts.rules.for_site(part.domain, names, addresses, member.address, site.route)
        self._ways.lead(part, site, policy, member, now)

    # the choice

    def choice_of(self, policy: SitePolicy, sender_key: int) -> Choice:
        """Return what the rules say of a sender's mail where a policy holds; a line of the sender wins."""
        pool, is_by_sender, spills = policy.pool, policy.is_by_sender, policy.spills
        sender = self._ways.sender_policy(sender_key) if self.has_sender_pools else None
        if sender is not None:
            pool = sender.pool if sender.pool is not None else pool
            is_by_sender = sender.is_by_sender if sender.is_by_sender is not None else is_by_sender
            spills = spills or bool(sender.spills)
        return Choice(self._core.rules.pool(pool), is_by_sender, spills)

    def _part_for(self, parcel: int, lane: Lane, front: Lane, parts: Parts, now: float) -> Lane:
        rows = self._core.rows
        choice = self.choice_of(parts.policy, rows.m_sender[rows.p_message[parcel]])
        if not choice.members:
            return self._part(front, parts, None, now)
        current = lane if parts.lanes.get(lane.source) is lane else None
        if current is not None and any(member.address == current.source for member in choice.members):
            if not (choice.spills and self.shut.is_shut(current.source, parts.site, now)):
                return current
            choice.members = tuple(self._open(choice.members, parts.site, now))
            if not choice.members:
                return current
        member = self._choose(parcel, front, parts.site, choice, now)
        return self._part(front, parts, member, now)

    def _choose(self, parcel: int, front: Lane, site: "Site", choice: Choice, now: float) -> "PoolMember":
        """Return the source of a parcel: the first in its order that reaches the site and may carry it."""
        rows = self._core.rows
        message = rows.p_message[parcel]
        if choice.is_by_sender:
            key = rendezvous.key_of_sender(self._core.senders.name(rows.m_sender[message]), front.domain)
        else:
            key = rendezvous.key_of_message(rows.m_number[message], rows.m_birth[message], front.domain)
        order = rendezvous.in_order(key, choice.members)
        usable = [member for member in order if reached_by(site.candidates, member.address)] or order
        if choice.spills:
            usable = list(self._open(usable, site, now)) or usable
        for member in usable:
            if member.warm_from is None or self._may_carry(member, site, parcel, message, now):
                return member
        return next((member for member in order if member.warm_from is None), order[0])

    def _may_carry(self, member: "PoolMember", site: "Site", parcel: int, message: int, now: float) -> bool:
        """Return whether a source in warm-up may carry a parcel; it is counted then."""
        rows, date = self._core.rows, self._core.clock.date(now)
        organisation, count = site.organisation.name, rows.count(parcel)
        if rows.m_flags[message] & WAS_TRIED:
            return self.warm_ups.claim(member, organisation, count, rows.m_birth[message], date)
        return self.warm_ups.take(member, organisation, count, date)

    def _open(self, members: "Iterable[PoolMember]", site: "Site", now: float) -> "Iterable[PoolMember]":
        return (member for member in members if not self.shut.is_shut(member.address, site, now))

    def _part(self, front: Lane, parts: Parts, member: "PoolMember | None", now: float) -> Lane:
        """Return the part of a source, a new one if there is none."""
        source = member.address if member is not None else b""
        part = parts.lanes.get(source)
        if part is None:
            part = parts.lanes[source] = self._ways.new_lane(front.domain)
            part.front, part.source = front, source
            if member is not None:
                parts.members.setdefault(source, member)
            if parts.is_led:
                self._lead(part, parts, now)
        return part

    def not_reached(self, door: "Door", now: float) -> Pause:
        """No host of a door has an address that may be tried: its lanes are asked about; return its pause."""
        for lane in list(door.lanes):
            self._ways.refresh(lane, now)
        return Pause(now + UNREACHED_SECONDS, NO_FAMILY)

    # spill

    def end_turn(self, now: float) -> None:
        """Sources were shut: what waits for them, and may, goes through others, some of it at a time."""
        budgets, self._core.shut_budgets = self._core.shut_budgets, []
        for budget in budgets:
            for door in self._doors_of(budget):
                policy = door.policy
                if door.ready and isinstance(policy, SitePolicy) and (policy.spills or self.has_sender_pools):
                    self._spill_returned(door, now)
                    self._spilling += [(lane, lane.queue.transactions(WHOLE)) for lane in door.lanes]
        if self._spilling:
            self._spill(None, now)

    def _doors_of(self, budget: "Budget") -> "list[Door]":
        """Return the doors of a source that a budget of it bears on."""
        if budget.key is None or not budget.key[2] or budget.key[0] not in (SITE, ORGANISATION, SOURCE):
            return []
        scope, thing, source = budget.key
        doors = [door for one in self._ways.organisations() for door in one.doors if door.address == source]
        if scope == ORGANISATION:
            return [door for door in doors if door.site.organisation.name == thing]
        return [door for door in doors if scope == SOURCE or door.site.key == thing]

    def _spill_returned(self, door: "Door", now: float) -> None:
        returned = list(door.returned)
        for parcel in returned:
            door.returned.remove(parcel)
        door.ready -= len(returned)
        for parcel in returned:
            self.make_ready(parcel, now)

    def _spill(self, _: None, now: float) -> None:
        left = MOVED_AT_ONCE
        while self._spilling:
            lane, count = self._spilling.popleft()
            some = min(count, left)
            self._spill_lane(lane, some, now)
            left -= some
            if count > some:
                self._spilling.appendleft((lane, count - some))
            if left <= 0:
                self._core.timers.at(now, self._spill, None)
                return

    def _spill_lane(self, lane: Lane, count: int, now: float) -> None:
        """Let so many parcels of a part choose again; what has no other source stays, behind the rest."""
        stayed = []
        for _ in range(count):
            parcel = lane.queue.take(WHOLE)
            if not parcel:
                break
            if self.lane_for(parcel, lane, now) is lane:
                stayed.append(parcel)
            else:
                self.make_ready(parcel, now)
        if lane.door is not None:
            self._ways.recount(lane)
        for parcel in stayed:
            self.make_ready(parcel, now)


def _is_current(lane: Lane) -> bool:
    """Return whether a lane is a front, or a part that was not withdrawn."""
    front = lane.front
    return front is lane or front is not None and front.parts is not None and front.parts.lanes.get(lane.source) is lane


def _nowhere(parcel: int, now: float) -> None:
    """Until there is a store of mail."""
