"""`fall=`: a relay takes the mail of a destination whose hosts fail, or what has waited there for too long.

    lane --> door: the destination's hosts              session starts fail on every host: the door is failing
      ^  \\                                              its ready mail goes down, and comes back when one greets
      |   v
    fallback lane --> door: the relay                   deferred by the relay: due again, it begins above

What is kept true, and why it suffices:

- A parcel stands in one of the two lanes.  `fallback` of a lane and `home` of that one name each other; a fallback lane
  has no domain of its own, is found through its home, and is forgotten before it.
- The relay is a site with budgets, windows and deaths of its own, and rules look at it as nobody's domain: so a dead
  relay takes no unit of the destination's, and the destination none of the relay's.
- A door whose mail has fallen wants a session all the same (Door.fallen): the destination is tried as often as if its
  mail stood there.  If it greets, what is ready comes back.  So mail waits for both, and goes to whichever is there.
- Without an age mail falls when every host has failed once.  With one, mail that is as old falls if its destination
  fails, is paused or soft-blocked then, or once that defers it again.  The age is the message's, also after a restart.
- Nothing falls that is held, while our own network is in doubt, or where we are an exchanger of the domain ourselves:
  the relay would give it back.  A failure is final; so is a domain that does not exist or takes no mail.

What a relay is for: retry times, lifetime and class come from the lines of the destination.
"""

from pyqmail.mail.destinations.limits.budgets import NEVER
from pyqmail.mail.destinations.outcome import HERE
from pyqmail.mail.destinations.relays.routes import relay_text
from pyqmail.mail.destinations.rules import responses
from pyqmail.mail.destinations.scheduling.core import IN_FLIGHT, ON_WHEEL
from pyqmail.mail.destinations.waiting.expiries import Expiries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Door, Lane, Site
    from pyqmail.mail.destinations.faults.table import Facts
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.mail_store import MailStore
    from pyqmail.mail.destinations.scheduling.ways import Ways

    Fallback = tuple[bytes, int, float | None]  # host, port, age in seconds or None: once every host has failed

AGAIN_SECONDS = 300  # what is old enough and waits at a destination that works is looked at again
HARMLESS = (b"our network", b"hosts off", b"stopped")  # reasons of pauses that are none of the destination's


class Fallbacks:
    """place() says where a parcel goes that is ready; the events are those of the destination's doors."""

    def __init__(self, core: "Core", ways: "Ways", store: "MailStore", now: float) -> None:
        self._core, self._ways, self._store = core, ways, store
        self._falls = Expiries(core.clock.second(now))  # messages, by when they are old enough
        self._marked = 0  # messages that have an entry there, or had one: none is asked before the first
        self.ours: dict[Lane, None] = {}  # lanes of domains of which we are an exchanger
        self._told: dict[Lane, None] = {}  # lanes of which the log says that their mail falls

    # where a parcel goes

    def relay_of(self, home: "Lane", now: float) -> "Fallback | None":
        """Return what takes the mail of a lane if its hosts do not; None: nothing may, now."""
        core, door = self._core, home.door
        if not core.obeys_routes or home in self.ours or home.front is not None:
            return None
        if door is not None:
            return None if door.is_held else getattr(home.policy, "fallback", None)
        if not home.trouble:
            return None
        policy = core.rules.for_site(home.domain)
        return policy.fallback if policy.held_until <= core.clock.date(now) else None

    def place(self, parcel: int, lane: "Lane", now: float) -> "Lane":
        """Return the lane that a parcel, which is nowhere, is to be ready in; it is a parcel of that lane then."""
        home = lane.home or lane
        target = lane if self._core.is_us else self._target(parcel, home, now)
        if target is not lane:
            self.move(parcel, lane, target)
        return target

    def _target(self, parcel: int, home: "Lane", now: float) -> "Lane":
        relay = self.relay_of(home, now)
        if relay is None:
            return home
        message = self._core.rows.p_message[parcel]
        if not self._is_old(message, relay, now):
            self._mark(message, relay, now)
            return home
        if not self._is_failing(home, relay, now):
            if relay[2] is not None:
                self._mark(message, relay, now)
            return home
        lane = self.lane_for(home, relay, now)
        self._watch(home, now)
        return lane

    def _is_old(self, message: int, relay: "Fallback", now: float) -> bool:
        age = relay[2]
        return age is None or self._core.clock.date(now) >= self._core.rows.m_birth[message] + age

    def _is_failing(self, home: "Lane", relay: "Fallback", now: float) -> bool:
        door = home.door
        if door is None:
            return bool(home.trouble)
        if door.failed_at > NEVER:
            return True
        if relay[2] is None or door.up:
            return False
        block = door.site.soft_block
        paused = any(one.paused_until > now and one.pause_reason not in HARMLESS for one in door.budgets)
        return paused or block is not None and block.is_blocked

    def _fails(self, home: "Lane", now: float) -> bool:
        relay = self.relay_of(home, now)
        return relay is not None and self._is_failing(home, relay, now)

    def _mark(self, message: int, relay: "Fallback", now: float) -> None:
        """Look at a message when it is old enough; again later, if it is."""
        clock, age = self._core.clock, relay[2]
        assert age is not None
        second, current = clock.second_of_date(self._core.rows.m_birth[message] + age, now), clock.second(now)
        self._falls.set(message, second if second > current else current + AGAIN_SECONDS)
        self._marked = max(self._marked, message + 1)

    def fall_second(self, parcel: int, lane: "Lane", now: float) -> int | None:
        """Return when a parcel that its destination has deferred goes on: 0 now, to the relay; None: as ever."""
        relay = self.relay_of(lane, now) if lane.home is None else None
        if relay is None or relay[2] is None or _fails(lane.fallback):
            return None
        message = self._core.rows.p_message[parcel]
        if self._is_old(message, relay, now):
            return 0
        return self._core.clock.second_of_date(self._core.rows.m_birth[message] + relay[2], now)

    def hand_over(self, parcel: int, now: float) -> None:
        """A parcel that is nowhere, and that its destination has deferred for too long, goes to the relay."""
        lane = self._ways.lanes[self._core.rows.p_lane[parcel]]
        relay = self.relay_of(lane, now) if lane.home is None else None
        if relay is not None:
            self.move(parcel, lane, self.lane_for(lane, relay, now))
        self._store.make_ready(parcel, now, is_placed=True)

    def move(self, parcel: int, lane: "Lane", target: "Lane") -> None:
        """A parcel that is nowhere belongs to another lane."""
        count = self._core.rows.count(parcel)
        self._core.rows.p_lane[parcel] = target.number
        target.left += count
        lane.left -= count
        if not lane.left:
            self._ways.may_forget(lane)

    def lane_for(self, home: "Lane", relay: "Fallback", now: float) -> "Lane":
        """Return the fallback lane of a lane, through that relay."""
        lane = home.fallback
        if lane is None:
            lane = home.fallback = self._ways.new_lane(home.domain)
            lane.home = home
        if lane.relay != relay[:2]:
            lane.relay, lane.known_until = relay[:2], 0.0
            self._ways.detach(lane, now)
            self._ways.need(lane, now)
        if home not in self._told:
            self._told[home] = None
            why = home.trouble or (home.door.site.last_text if home.door is not None else b"")
            self._core.log.falls(home.domain, relay_text(relay[:2]), why)
        return lane

    def _watch(self, home: "Lane", now: float) -> None:
        """The destination goes on being tried, though its mail stands elsewhere."""
        door = home.door
        if door is not None and (door.fallen is None or home not in door.fallen):
            door.fallen = {} if door.fallen is None else door.fallen
            door.fallen[home] = None
            self._ways.seek(door, now)

    # what happens to the destination

    def note_ours(self, lane: "Lane", is_ours: bool) -> None:
        """Whether we are an exchanger of a lane's domain ourselves."""
        if is_ours:
            self.ours[lane] = None
        else:
            self.ours.pop(lane, None)

    def start_failed(self, door: "Door", facts: "Facts", now: float) -> None:
        """A session start has ended without a greeting: is it that every host has failed?"""
        door.site.last_text = facts.outcome.text
        is_ours = facts.is_us and not facts.has_answer or facts.outcome.stage == HERE
        if is_ours or facts.all_no_mail and facts.has_answer or facts.action == responses.RATE or facts.others_up:
            return
        for one in _doors(door):
            is_new, one.failed_at = one.failed_at == NEVER, now
            if is_new and getattr(one.policy, "fallback", None) is not None:
                for lane in list(one.lanes):
                    self._store.sort_again(lane, now)
            for lane in list(one.lanes) if is_new else ():
                if lane.home is not None and not self._fails(lane.home, now):
                    self._take_back(lane.home, now)

    def greeted(self, door: "Door", now: float) -> None:
        """A host of the destination has greeted: what is ready comes back; while it is not believed, one parcel."""
        if door.failed_at == NEVER and not door.fallen:
            return
        block = door.site.soft_block
        if door.hollow or block is not None and block.is_blocked:
            for home in list(door.fallen or ()):
                if self._take_one(home, now):
                    return
        for one in _doors(door):
            self.recovered(one, now)

    def recovered(self, door: "Door", now: float) -> None:
        """The hosts do not fail any more, or did not."""
        door.failed_at = NEVER
        fallen, door.fallen = door.fallen, None
        for home in fallen or ():
            self._take_back(home, now)

    def forgive(self, since: float, now: float) -> None:
        """What failed since then was our fault."""
        for organisation in self._ways.organisations():
            for door in organisation.doors:
                if door.failed_at >= since:
                    self.recovered(door, now)

    def names_failed(self, lane: "Lane", now: float) -> None:
        """The name servers of a domain of which no host is known do not answer, and others do."""
        if lane.home is None and self.relay_of(lane, now) is not None:
            self._store.sort_again(lane, now)

    def attached(self, lane: "Lane", now: float) -> None:
        """A lane leads to a door, under rules that may be new."""
        fallback, door = lane.fallback, lane.door
        if fallback is not None and lane.parts is not None:
            self._take_back(lane, now)
        if fallback is None or door is None:
            return
        relay = self.relay_of(lane, now)
        if relay is None or relay[:2] != fallback.relay or door.failed_at == NEVER and relay[2] is None:
            self._take_back(lane, now)
        elif self._is_failing(lane, relay, now):
            self._watch(lane, now)

    def forget(self, lane: "Lane", now: float) -> None:
        """A fallback lane has no mail any more."""
        home = lane.home
        if home is None or home.fallback is not lane:
            return
        home.fallback = None
        self._told.pop(home, None)
        if home.door is not None and home.door.fallen is not None:
            home.door.fallen.pop(home, None)
        self._ways.forget_number(lane)
        self._ways.may_forget(home)

    def note_new_door(self, door: "Door") -> None:
        """A door of a site that is known to fail fails, too."""
        window = door.site_budget.window if door.site_budget is not None else None
        is_dead = window is not None and window.dead_since is not None
        door.failed_at = max([0.0 if is_dead else NEVER, *(one.failed_at for one in _doors(door) if one is not door)])

    def _take_back(self, home: "Lane", now: float) -> None:
        """All that is ready in the fallback lane is ready at home."""
        self._told.pop(home, None)
        lane = home.fallback
        if lane is None:
            return
        parcels = self._ways.drain(lane)
        if parcels:
            self._core.log.comes_back(home.domain, len(parcels))
        for parcel in parcels:
            self.move(parcel, lane, home)
            self._store.make_ready(parcel, now, is_placed=True)
        if not lane.left:
            self._ways.may_forget(lane)

    def _take_one(self, home: "Lane", now: float) -> bool:
        lane = home.fallback
        parcel = lane.queue.take(1) if lane is not None else 0
        if lane is None or not parcel:
            return False
        if lane.door is not None:
            self._ways.recount(lane)
        self.move(parcel, lane, home)
        self._store.make_ready(parcel, now, is_placed=True)
        return True

    # time

    def advance(self, second: int, now: float) -> None:
        for message in self._falls.advance(second):
            self._came_of_age(message, now)

    def next_second(self) -> int | None:
        return self._falls.next_second()

    def message_gone(self, message: int) -> None:
        if message < self._marked:
            self._falls.clear(message)

    def _came_of_age(self, message: int, now: float) -> None:
        """What of a message is ready at its destination falls if that fails now."""
        rows = self._core.rows
        for parcel in rows.parcels(message):
            lane = self._ways.lanes[rows.p_lane[parcel]]
            if rows.p_flags[parcel] & (ON_WHEEL | IN_FLIGHT) or lane.home is not None or self._core.is_us:
                continue
            target = self._target(parcel, lane, now)
            if target is not lane:
                self._transplant(parcel, target, now)

    def _transplant(self, parcel: int, target: "Lane", now: float) -> None:
        """Take a parcel out of the middle of its queue: its recipients get a parcel of their own."""
        rows = self._core.rows
        message, offsets = rows.p_message[parcel], [rows.r_offset[row] for row in rows.recipients(parcel)]
        tries, since = rows.p_tries[parcel], self._store.grey_since.get(parcel)
        other = rows.add_parcel(message, target.number, offsets)
        rows.p_tries[other] = tries
        target.left += len(offsets)
        self._store.remove_parcel(parcel)
        if since is not None:
            self._store.grey_since[other] = since
        self._store.make_ready(other, now, is_placed=True)


def _fails(lane: "Lane | None") -> bool:
    """Return whether the relay of a fallback lane is known to fail."""
    return lane is not None and lane.door is not None and lane.door.failed_at > NEVER


def _doors(door: "Door") -> "list[Door]":
    """Return the doors of a site through the same source: what its hosts do, they do to all of them."""
    site: Site = door.site
    return [one for one in site.doors.values() if one.source is door.source] or [door]
