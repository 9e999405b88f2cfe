"""How mail ends that is too old and cannot be tried: the bounce says who held it back, and what was said last."""

from pyqmail.base.tables import duration
from pyqmail.mail.destinations.outcome import CONNECT, HERE, LOOKUP, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Door, Lane
    from pyqmail.mail.destinations.rules.policies import RecipientPolicy, SitePolicy
    from pyqmail.mail.destinations.scheduling.core import Core

NOT_REACHED = b"Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
NOT_RESOLVED = b"Sorry, I had no answer of name servers about this domain. (#4.4.3)\n"
HELD_HERE = b"Sorry, this system held the mail for this address back until it was too old. (#4.4.7)\n"


def last_outcome(core: "Core", lane: "Lane", now: float) -> Outcome:
    """Return how a parcel of a lane ends that is too old, and cannot be tried now."""
    door = lane.door
    if is_held(core, lane, now):
        return Outcome(b"D" + HELD_HERE, HERE, host=lane.domain)
    if door is None and lane.site is not None:
        return Outcome(b"D" + (lane.site.last_text or NOT_REACHED), CONNECT, host=lane.domain)
    if door is None:
        return Outcome(b"D" + NOT_RESOLVED, LOOKUP, host=lane.domain)
    return Outcome(b"D" + _said(door, now) + _since(door, now), CONNECT, host=lane.domain)


def is_held(core: "Core", lane: "Lane", now: float) -> bool:
    """Return whether a rule of ours holds the mail of a lane back."""
    if not core.is_local and lane.door is not None and lane.door.is_held:
        return True  # all its hosts stand in networks that are held
    policy = policy_of(core, lane)
    return policy is not None and policy.held_until > core.clock.date(now)


def policy_of(core: "Core", lane: "Lane") -> "SitePolicy | RecipientPolicy | None":
    """Return what applies to a lane, also to one of which no site is known yet."""
    if core.is_local:
        return lane.policy
    return lane.door.policy if lane.door is not None else core.rules.for_site(lane.domain)


def _said(door: "Door", now: float) -> bytes:
    """Return the reply for which a door is paused, else what its site last said."""
    paused = max(door.chain, key=lambda budget: budget.paused_until)
    text = paused.pause_text if paused.paused_until > now else b""
    return text or door.site.last_text or NOT_REACHED


def _since(door: "Door", now: float) -> bytes:
    window = door.site_budget.window if door.site_budget is not None else None
    if window is None or window.dead_since is None:
        return b""
    return b"Nothing there has answered for %b.\n" % duration(now - window.dead_since).encode()
