"""What holds up the mail of a lane: the one thing, who set it, and when it should end.

What is broader comes first where it makes the rest idle (a hold, our own network), then what the lane waits for (name
servers, a pause, a limit).  Nothing here changes anything.
"""

import math

from pyqmail.base.printable import printable
from pyqmail.mail.destinations.limits.budgets import FOREVER, GROUP, UNLIMITED, UNPROVEN
from pyqmail.mail.destinations.limits.states import DEAD, FROZEN, HELD, PAUSED, SOFT_BLOCKED, state_of
from pyqmail.mail.destinations.rules.policies import NOT_HELD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyqmail.mail.destinations.doors import Door, Lane
    from pyqmail.mail.destinations.faults.hosts import Host
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.rules.policies import MatchedLine, RecipientPolicy, SitePolicy
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.sessions import DeliverySession

RESOLVING, FULL, RATE, STOPPED = "resolving", "full", "rate", "stopped"
RETRY, FLYING, READY = "retry", "flying", "ready"
MAX_TEXT = 200


class Obstacle:
    """state: one word, of states.py or above.  text: what it is, short; empty if nothing holds mail up.

    budget   the one whose room the door stands in, or that is paused; None: it is no budget
    seconds  after how long it should end, None: unknown
    """

    __slots__ = ("state", "text", "budget", "seconds")

    def __init__(
        self, state: str, text: str = "", budget: "Budget | None" = None, seconds: float | None = None
    ) -> None:
        self.state, self.text, self.budget, self.seconds = state, text, budget, seconds


def obstacle_of(core: "Core", lane: "Lane", now: float) -> Obstacle:
    """Return what holds up what is ready in a lane."""
    door = lane.door
    if core.is_stopped:
        return Obstacle(STOPPED, "stopped: no session is opened any more")
    if core.is_us:
        return Obstacle(FROZEN, "our own network is suspected, or down")
    held = _held(core, lane, now)
    if held is not None or door is None:
        return held or _resolving(lane, now)
    if lane.budgets:
        return _at_recipient(lane, now) or _standing(door, now) or _open(door, now)
    found = _paused(door, now) or _soft_blocked(door, now)
    return found or _standing(door, now) or _open(door, now)


def _at_recipient(lane: "Lane", now: float) -> Obstacle | None:
    """A local recipient that has as many deliveries as it may."""
    for budget in lane.budgets:
        if budget.used >= budget.cap:
            return Obstacle(FULL, full_text(budget), budget)
        if budget.not_before > now:
            seconds = budget.not_before - now
            return Obstacle(RATE, f"rate of {name_of(budget)}: next in {duration(seconds)}", budget, seconds)
    return None


def _resolving(lane: "Lane", now: float) -> Obstacle:
    if not lane.trouble:
        return Obstacle(RESOLVING, "the name servers are being asked")
    seconds = max(0.0, lane.known_until - now)
    return Obstacle(RESOLVING, f"no answer of name servers ({shown(lane.trouble)})", seconds=seconds)


def _held(core: "Core", lane: "Lane", now: float) -> Obstacle | None:
    """A hold: of a local recipient, of the site, or of a domain of which no site is known yet."""
    policy: SitePolicy | RecipientPolicy | None = lane.policy
    if not core.is_local:
        policy = lane.door.policy if lane.door is not None else core.rules.for_site(lane.domain)
    until = policy.held_until if policy is not None else NOT_HELD
    line = next((line for line in policy.matches if b"hold" in line.values), None) if policy is not None else None
    if lane.door is not None and lane.door.open_hosts == [] and until <= core.clock.date(now):
        until, line = _held_network(core, lane.door, now)
    seconds = until - core.clock.date(now)
    if policy is None or seconds <= 0:
        return None
    where = f", {line.where} line {line.number}" if line is not None else ""
    if math.isinf(until):
        return Obstacle(HELD, f"held{where}")
    return Obstacle(HELD, f"held for {duration(seconds)} more{where}", seconds=seconds)


def _held_network(core: "Core", door: "Door", now: float) -> "tuple[float, MatchedLine | None]":
    """Return (date, line) of the hold that ends first of those of a site's addresses; all of them are held."""
    policy: Any = door.policy  # a site's: no local recipient has hosts
    held = [core.rules.for_address(name, one, policy) for _, name, some in door.site.candidates for one in some]
    first = min(held, key=lambda one: one.held_until, default=None)
    return (first.held_until, first.sources.get(b"hold")) if first is not None else (NOT_HELD, None)


def _paused(door: "Door", now: float) -> Obstacle | None:
    paused = [budget for budget in door.chain if budget.paused_until > now]
    if not paused:
        return None
    budget = max(paused, key=lambda one: one.paused_until)
    seconds = budget.paused_until - now
    window = budget.window
    if window is not None and window.dead_since is not None:
        said = f": {shown(door.site.last_text)}" if door.site.last_text else ""
        text = f"dead for {duration(now - window.dead_since)}, next probe in {duration(seconds)}{said}"
        return Obstacle(DEAD, text, budget, seconds)
    text = f"{name_of(budget)} paused for {duration(seconds)} more, {shown(budget.pause_reason)}"
    if budget.pause_text:
        text += f": {shown(budget.pause_text)}"
    return Obstacle(PAUSED, text, budget, seconds)


def _soft_blocked(door: "Door", now: float) -> Obstacle | None:
    block = door.site.soft_block
    if block is None or not block.is_blocked:
        return None
    next_time = block.next_time()
    seconds = max(0.0, next_time - now) if next_time is not None else None
    return Obstacle(SOFT_BLOCKED, f"all are deferred with {block.code}: one message a minute", seconds=seconds)


def _standing(door: "Door", now: float) -> Obstacle | None:
    """A door that stands in a room: the limit that it waits for."""
    place = door.place
    if place is None:
        return None
    budget = place[0] if isinstance(place, tuple) else place
    if budget.used >= budget.cap:
        seconds = budget.free_time(now) - now
        return Obstacle(FULL, full_text(budget), budget, seconds if 0 < seconds < FOREVER else None)
    if budget.not_before > now:
        seconds = budget.not_before - now
        text = f"rate of {name_of(budget)}: next in {duration(seconds)}{owner_of(budget)}"
        return Obstacle(RATE, text, budget, seconds)
    return Obstacle(FULL, f"waits for its turn at {name_of(budget)}", budget, 0.0)


def full_text(budget: "Budget") -> str:
    """Return which number of a budget is used up, and who set it."""
    text = f"full: {name_of(budget)} {budget.used}/{budget.cap}"
    window = budget.window
    if budget.learned is None or budget.learned >= budget.limit:
        return text + owner_of(budget)
    if window is not None and window.ceiling:
        return f"{text} (ceiling {window.ceiling}{_said(budget.learned_owner)})"
    if window is not None:
        return f"{text} (window, of {budget.limit})"
    return f"{text} (learned{_said(budget.learned_owner)})"


def _open(door: "Door", now: float) -> Obstacle:
    site = door.site_budget
    if not door.ready:
        return Obstacle(READY if not door.sessions else state_of(()))
    window = site.window if site is not None else None
    return Obstacle(state_of(window.facts(now)) if window is not None else state_of(()))


def place_seconds(budget: "Budget", place: int, sessions: "Iterable[DeliverySession]", now: float) -> float | None:
    """Return after how long the waiter at a place (0 the first) of a full budget should have its unit; None: unknown.

    A session that holds a unit now is half over on average, so twice its age is how long one takes.
    """
    ages = [now - session.opened_at for session in sessions if budget in session.units]
    if not ages or budget.cap <= 0:
        return None
    return (place + 1) / min(budget.cap, len(ages)) * 2 * sum(ages) / len(ages)


def host_state(host: "Host | None", now: float) -> str:
    """Return what is remembered against a host; empty for nothing."""
    if host is None:
        return ""
    if host.off_until > now:
        return f"off for {duration(host.off_until - now)} more"
    return f"ceiling {host.ceiling}" if host.ceiling else ""


def name_of(budget: "Budget") -> str:
    """Return the kind and name of a budget: `group @yahoo`, `total`."""
    name = shown(budget.name)
    if budget.kind in (name, UNPROVEN):
        return budget.kind if budget.kind != UNPROVEN else "sites that have not greeted"
    return name if budget.kind == GROUP and name.startswith("@") else f"{budget.kind} {name}"


def owner_of(budget: "Budget") -> str:
    return f" ({shown(budget.owner)})" if budget.owner else ""


def limit_of(budget: "Budget") -> int | None:
    """Return the limit, None for none."""
    return budget.limit if budget.limit < UNLIMITED else None


def shown(text: bytes) -> str:
    """Return what a stranger may have written, on one line."""
    return printable(b" ".join(text[:MAX_TEXT].split()))


def duration(seconds: float) -> str:
    """Return a time for people: `42 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = math.ceil(max(0.0, seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def _said(text: bytes) -> str:
    return f": {shown(text)}" if text else ""
