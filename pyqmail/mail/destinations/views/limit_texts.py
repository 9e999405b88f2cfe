"""Limits in words for people: what is counted, how much of it is used, who set the number; times; strangers' bytes."""

import math

from pyqmail.base.printable import printable
from pyqmail.base.tables import duration
from pyqmail.mail.destinations.limits.budgets import (
    DOMAIN,
    GROUP,
    ORGANISATION,
    SHARED,
    SOURCE,
    TOTAL,
    UNLIMITED,
    UNPROVEN,
)
from pyqmail.mail.destinations.rules.defaults import FEWEST_OF_ORGANISATION, FOR_EACH_ADDRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.limits.budgets import Budget

MAX_TEXT = 200
BUILT_IN = {
    ORGANISATION: f"built in: {FOR_EACH_ADDRESS} for each address of its hosts, {FEWEST_OF_ORGANISATION} or more",
    SHARED: "control/concurrencyremote; a tenth of it is kept for destinations without a session",
    UNPROVEN: "built in: half of the total",
}
_NAMES = {SHARED: "total but its reserve", TOTAL: "total", UNPROVEN: "sites that have not greeted"}


def name_of(budget: "Budget") -> str:
    """Return the kind and name of a budget: `@yahoo`, `total`, `site mx.example by 192.0.2.1` of one for a source."""
    if budget.kind in _NAMES:
        return _NAMES[budget.kind]
    name = shown(budget.name)
    source = shown(budget.key[2] or b"") if budget.key is not None and budget.kind != SOURCE else ""
    by = f" by {source}" if source else ""
    if budget.kind == GROUP and name.startswith("@"):
        return name + by
    return f"{'recipient' if budget.kind == DOMAIN and '@' in name else budget.kind} {name}{by}"


def owner_text(budget: "Budget") -> str:
    """Return who set the limit of a budget: a line with its place, or what is built in; empty without a limit."""
    if budget.limit >= UNLIMITED:
        return ""
    return shown(budget.owner) or BUILT_IN.get(budget.kind, "")


def owner_of(budget: "Budget") -> str:
    text = owner_text(budget)
    return f" ({text})" if text else ""


def limit_of(budget: "Budget") -> int | None:
    """Return the limit, None for none."""
    return budget.limit if budget.limit < UNLIMITED else None


def full_text(budget: "Budget", now: float) -> str:
    """Return which number of a budget is used up, and who set it."""
    text = f"full: {name_of(budget)} {budget.used}/{budget.cap}"
    if budget.is_cautious and budget.cap == 1:
        return f"{text} (one session until mail is accepted, since it was paused{_said(budget.pause_text)})"
    if budget.learned is None or budget.learned >= budget.limit:
        return text + owner_of(budget)
    if budget.window is not None:
        return f"{text} ({_window_text(budget, now)})"
    if budget.kind == TOTAL:
        return f"{text} (less for a minute: this machine had too little of something)"
    return f"{text} (learned{_said(budget.learned_owner)})"


def _window_text(budget: "Budget", now: float) -> str:
    """Return why no more than what the window allows may be up."""
    window = budget.window
    assert window is not None
    if window.dead_since is not None or window.is_unproven(now):
        return "one session until it has greeted"
    if not window.ceiling:
        most = limit_of(budget) or "any number"
        return f"a window that grows with each mail accepted, up to {most}{owner_of(budget)}"
    wait = window.closed_until - now
    probe = f", one more is tried in {time_left(wait)}" if wait > 0 else ""
    return f"ceiling {window.ceiling}{probe}{_said(budget.learned_owner)}"


def shown(text: bytes) -> str:
    """Return what a stranger may have written, on one line."""
    return printable(b" ".join(text[:MAX_TEXT].split()))


def time_left(seconds: float) -> str:
    """Return a time that is yet to pass, rounded up: 7s, 3m05s, 2h00m, 4d11h."""
    return duration(math.ceil(max(0.0, seconds)))


def _said(text: bytes) -> str:
    return f": {shown(text)}" if text else ""
