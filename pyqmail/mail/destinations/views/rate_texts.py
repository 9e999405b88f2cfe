"""Rates in words for people: which of a budget's rates holds mail back, and which line or reply set it."""

from pyqmail.mail.destinations.limits.budgets import DOMAIN
from pyqmail.mail.destinations.rules.describe import limit_text, recipient_limit_text
from pyqmail.mail.destinations.rules.policies import SitePolicy
from pyqmail.mail.destinations.views.limit_texts import name_of, shown, time_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.limits.rates import Gcra, LearnedRate
    from pyqmail.mail.destinations.rules.lookup import RuleSet
    from pyqmail.mail.destinations.rules.policies import Limit, RecipientPolicy

RATES = b"rRk"


def rate_text(budget: "Budget", learned: "LearnedRate | None", limits: "Iterable[Limit]", now: float) -> str:
    """Return what rate of a budget is used up, who set it, and when the next may pass.

    learned: what was learned of the budget.  limits: those that may have set it.
    """
    rate = blocking_rate(budget)
    following = f"next in {time_left(budget.not_before - now)}"
    if learned is not None and rate is learned.gcra:
        said = f": {shown(budget.pause_text)}" if budget.pause_text else ""
        return f"rate of {name_of(budget)}: learned, {60 * learned.rate:.1f} recipients a minute{said}; {following}"
    limit = limit_of_rate(rate, limits)
    if limit is None:
        return f"rate of {name_of(budget)}: {following}"
    place = f"{limit.where} line {limit.line}" if limit.line and limit.where != "built in" else "built in"
    is_local = budget.kind == DOMAIN and b"@" in budget.name
    text = recipient_limit_text(limit) if is_local else limit_text(limit)
    return f"rate of {name_of(budget)}: {text} ({shown(limit.owner)}, {place}); {following}"


def blocking_rate(budget: "Budget") -> "Gcra | None":
    """Return the rate of a budget whose next time is the latest, None without any."""
    rates = (*budget.connect_rates, *budget.recipient_rates)
    return max(rates, key=lambda rate: rate.next_time(), default=None)  # type: ignore[return-value]


def limit_of_rate(rate: "Gcra | None", limits: "Iterable[Limit]") -> "Limit | None":
    """Return the limit that set a rate: the one with its numbers."""
    if rate is None:
        return None
    return next((one for one in limits if _numbers(one) == (rate.interval, rate.burst)), None)


def limits_of_door(rules: "RuleSet", door: "Door", policy: "SitePolicy | RecipientPolicy | None") -> "list[Limit]":
    """Return all limits that a lane or its door is under, those of the addresses of its hosts included."""
    found = list(policy.limits) if policy is not None else []
    found += [one for one in door.policy.limits if one not in found]
    if isinstance(door.policy, SitePolicy):
        for _, host, addresses in door.site.candidates:
            for address in addresses:
                found += rules.for_address(host, address, door.policy).limits
    return found


def _numbers(limit: "Limit") -> "tuple[float, int] | None":
    return (limit.interval_seconds, limit.burst) if limit.kind in RATES else None
