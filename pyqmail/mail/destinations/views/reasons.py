"""What holds up the mail of a lane: the one thing, who set it, and when it should end.

What is broader comes first where it makes the rest idle (a hold, our own network), then what the lane waits for (name
servers, a pause, a limit).  Nothing here changes anything.
"""

import math

from pyqmail.mail.destinations.limits.budgets import FOREVER
from pyqmail.mail.destinations.limits.states import DEAD, FROZEN, HELD, PAUSED, SOFT_BLOCKED, state_of
from pyqmail.mail.destinations.rules.policies import NOT_HELD
from pyqmail.mail.destinations.views.limit_texts import full_text, name_of, shown, time_left
from pyqmail.mail.destinations.views.rate_texts import limits_of_door, rate_text
from pyqmail.mail.destinations.waiting.untried import policy_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyqmail.mail.destinations.doors import Door, Lane
    from pyqmail.mail.destinations.faults.hosts import Host
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.rules.policies import MatchedLine
    from pyqmail.mail.destinations.scheduling.core import Core

RESOLVING, FULL, RATE, STOPPED = "resolving", "full", "rate", "stopped"
RETRY, FLYING, READY = "retry", "flying", "ready"
# reason of a pause -> what people are told
_PAUSES = {
    "refused": "it refused a session while none was up",
    "blocked": "it answers that we are blocked",
    "rate": "it answers that the rate is too high",
}


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
    held = held_of(core, lane, now)
    if held is not None or door is None:
        return held or _resolving(lane, now)
    if lane.budgets:
        return _at_recipient(core, lane, now) or _standing(core, lane, door, now) or _open(core, lane, door, now)
    found = paused_of(door, now) or _soft_blocked(door, now) or _probed(door, now)
    return found or _standing(core, lane, door, now) or _open(core, lane, door, now)


def _at_recipient(core: "Core", lane: "Lane", now: float) -> Obstacle | None:
    """A local recipient that has as many deliveries as it may."""
    for budget in lane.budgets:
        if budget.used >= budget.cap:
            return Obstacle(FULL, full_text(budget, now), budget)
        if budget.not_before > now:
            return _at_rate(core, lane, budget, now)
    return None


def _at_rate(core: "Core", lane: "Lane", budget: "Budget", now: float) -> Obstacle:
    limits = limits_of_door(core.rules, lane.door, lane.policy) if lane.door is not None else ()
    text = rate_text(budget, core.learned_rates.get(budget), limits, now)
    return Obstacle(RATE, text, budget, budget.not_before - now)


def _resolving(lane: "Lane", now: float) -> Obstacle:
    if not lane.trouble:
        return Obstacle(RESOLVING, "the name servers are being asked")
    seconds = max(0.0, lane.known_until - now)
    text = f"no answer of name servers ({shown(lane.trouble)}); asked again in {time_left(seconds)}"
    return Obstacle(RESOLVING, text, seconds=seconds)


def held_of(core: "Core", lane: "Lane", now: float) -> Obstacle | None:
    """A hold: of a local recipient, of the site, or of a domain of which no site is known yet."""
    policy = policy_of(core, lane)
    until = policy.held_until if policy is not None else NOT_HELD
    line = line_that_sets(policy.matches, b"hold") if policy is not None else None
    if lane.door is not None and lane.door.open_hosts == [] and until <= core.clock.date(now):
        until, line = _held_network(core, lane.door, now)
    seconds = until - core.clock.date(now)
    if policy is None or seconds <= 0:
        return None
    where = f", {line.where} line {line.number}" if line is not None else ""
    if math.isinf(until):
        return Obstacle(HELD, f"held{where}")
    return Obstacle(HELD, f"held for {time_left(seconds)} more{where}", seconds=seconds)


def _held_network(core: "Core", door: "Door", now: float) -> "tuple[float, MatchedLine | None]":
    """Return (date, line) of the hold that ends first of those of a site's addresses; all of them are held."""
    policy: Any = door.policy  # a site's: no local recipient has hosts
    held = [core.rules.for_address(name, one, policy) for _, name, some in door.site.candidates for one in some]
    first = min(held, key=lambda one: one.held_until, default=None)
    return (first.held_until, first.sources.get(b"hold")) if first is not None else (NOT_HELD, None)


def line_that_sets(lines: "tuple[MatchedLine, ...]", key: bytes) -> "MatchedLine | None":
    """Return the line, of those that match, that sets a key which is no limit."""
    return next((line for line in lines if key in line.values), None)


def paused_of(door: "Door", now: float) -> Obstacle | None:
    """A pause of the site, or of anything broader; a dead site is one.  That of a soft block is told as such."""
    paused = [one for one in door.chain if one.paused_until > now and one.pause_reason != SOFT_BLOCKED.encode()]
    if not paused:
        return None
    budget = max(paused, key=lambda one: one.paused_until)
    if budget.paused_until == FOREVER:
        return Obstacle(FROZEN, f"the network of {name_of(budget)} is suspected, or down", budget)
    seconds = budget.paused_until - now
    window = budget.window
    if window is not None and window.dead_since is not None:
        text = f"dead for {time_left(now - window.dead_since)}, next probe in {time_left(seconds)}{_last_said(door)}"
        return Obstacle(DEAD, text, budget, seconds)
    text = f"{name_of(budget)} paused for {time_left(seconds)} more, {_why_paused(budget)}"
    if budget.pause_text:
        text += f": {shown(budget.pause_text)}"
    return Obstacle(PAUSED, text, budget, seconds)


def _why_paused(budget: "Budget") -> str:
    reason = shown(budget.pause_reason)
    word, _, number = reason.partition(" ")
    return f"responses line {number}" if word == "rule" and number.isdigit() else _PAUSES.get(reason, reason)


def _probed(door: "Door", now: float) -> Obstacle | None:
    """A dead site whose probe is on its way, or about to be."""
    budget = door.site_budget
    if budget is None or budget.window is None or budget.window.dead_since is None:
        return None
    since = time_left(now - budget.window.dead_since)
    return Obstacle(DEAD, f"dead for {since}, a probe is on its way{_last_said(door)}", budget)


def _last_said(door: "Door") -> str:
    return f": {shown(door.site.last_text)}" if door.site.last_text else ""


def _soft_blocked(door: "Door", now: float) -> Obstacle | None:
    block = door.site.soft_block
    if block is None or not block.is_blocked:
        return None
    next_time = block.next_time()
    seconds = max(0.0, next_time - now) if next_time is not None else None
    return Obstacle(SOFT_BLOCKED, f"all are deferred with {block.code}: one message a minute", seconds=seconds)


def _standing(core: "Core", lane: "Lane", door: "Door", now: float) -> Obstacle | None:
    """A door that stands in a room: the limit that it waits for."""
    place = door.place
    if place is None:
        return None
    budget = place[0] if isinstance(place, tuple) else place
    if budget.used >= budget.cap:
        return Obstacle(FULL, full_text(budget, now), budget)
    if budget.not_before > now:
        return _at_rate(core, lane, budget, now)
    return Obstacle(FULL, f"waits for its turn at {name_of(budget)}", budget, 0.0)


def _open(core: "Core", lane: "Lane", door: "Door", now: float) -> Obstacle:
    for budget in door.chain:
        if door.ready and budget.not_before > now:
            return _at_rate(core, lane, budget, now)
    site = door.site_budget
    if not door.ready:
        return Obstacle(READY if not door.sessions else state_of(()))
    window = site.window if site is not None else None
    return Obstacle(state_of(window.facts(now)) if window is not None else state_of(()))


def host_state(host: "Host | None", now: float) -> str:
    """Return what is remembered of a host that changes how it is used; empty for nothing."""
    if host is None:
        return ""
    found = [
        (f"off for {time_left(host.off_until - now)} more", host.off_until > now),
        (f"ceiling {host.ceiling}", bool(host.ceiling)),
        ("no EHLO", host.helo_until > now),
        ("no PIPELINING", host.single_until > now),
    ]
    return ", ".join(text for text, holds in found if holds)
