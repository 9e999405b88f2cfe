"""Pools in words for people: their sources, what each carries, and which one a message would draw."""

from pyqmail.mail.destinations.sources import rendezvous
from pyqmail.mail.destinations.sources.warm_up import budget_of_day, day_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.rules.lookup import RuleSet
    from pyqmail.mail.destinations.rules.policies import PoolMember, SenderPolicy, SitePolicy


def source_lines(rules: "RuleSet", policy: "SitePolicy", domain: bytes, date: float, sender: bytes | None) -> list[str]:
    """Return lines of text: the sources of a domain's mail; empty: no rule names any.

    sender: the domain of a sender, None for any.  With by=sender its source is shown, too; what sources in warm-up have
    carried is not known here.
    """
    of_sender = rules.for_sender(sender) if sender is not None else None
    name = of_sender.pool if of_sender is not None and of_sender.pool is not None else policy.pool
    members = rules.pool(name)
    if not members:
        return []
    weights = sum(member.weight for member in members)
    shown = [f"sources, {name.decode('latin-1')}:", *(f"  {_member(one, weights, date)}" for one in members)]
    if sender is not None and _is_by_sender(policy, of_sender):
        order = rendezvous.in_order(rendezvous.key_of_sender(sender, domain), members)
        used = [one.address.decode() for one in order if _is_used(one, date)]
        shown.append("  mail of this sender goes through, the best first: " + ", ".join(used))
    return shown


def _is_by_sender(policy: "SitePolicy", of_sender: "SenderPolicy | None") -> bool:
    if of_sender is not None and of_sender.is_by_sender is not None:
        return of_sender.is_by_sender
    return bool(policy.is_by_sender)


def _member(member: "PoolMember", weights: int, date: float) -> str:
    name = f" as {member.helo.decode('latin-1')}" if member.helo else ""
    text = f"{member.address.decode()}{name}: {member.weight} of {weights} parts"
    day = day_of(member, date)
    if day is None:
        return text
    if day < 0:
        return f"{text}, its warm-up has not begun: nothing yet"
    return f"{text}, day {day + 1} of its warm-up: {budget_of_day(day)} recipients to each organisation"


def _is_used(member: "PoolMember", date: float) -> bool:
    day = day_of(member, date)
    return day is None or day >= 0
