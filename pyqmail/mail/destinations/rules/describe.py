"""What applies, in words for people: which lines match, the limits that result, and which line each comes from."""

from pyqmail.mail.destinations.rules import defaults
from pyqmail.mail.destinations.rules.items import LIMITS
from pyqmail.mail.destinations.rules.policies import (
    ADDRESS,
    BUILT_IN_FILE,
    DOMAIN,
    HOST,
    NET,
    ORGANISATION,
    RULE,
    SITE,
    AddressPolicy,
    Limit,
    MatchedLine,
    RecipientPolicy,
    SitePolicy,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_COUNTED = {b"c": "session", b"C": "session", b"r": "recipient", b"R": "recipient", b"k": "connection"}
_FOR = {
    DOMAIN: "each domain",
    ADDRESS: "each address",
    HOST: "each host",
    SITE: "each site",
    NET: "each network",
    ORGANISATION: "each organisation",
}


def place_of(line: "MatchedLine | Limit") -> str:
    """Return where a line stands: `destinations line 14`, `built in`."""
    if line.where == BUILT_IN_FILE:
        return line.where
    return f"{line.where} line {line.number if isinstance(line, MatchedLine) else line.line}"


def limit_text(limit: Limit) -> str:
    """Return a limit in words: `5 sessions at once from each source, for @google together`."""
    sources = "over all sources" if limit.kind in (b"C", b"R") else "from each source"
    whom = f"{limit.name.decode('latin-1')} together" if limit.scope == RULE else _FOR[limit.scope]
    return f"{numbers_text(limit)} {sources}, for {whom}"


def numbers_text(limit: Limit) -> str:
    """Return the numbers of a limit: `5 sessions at once`, `6 connections in 60 s, 2 at once`."""
    rate = f" in {limit.period_seconds:g} s, {limit.burst} at once" if limit.period_seconds else " at once"
    return _count(limit.value, _COUNTED[limit.kind]) + rate


def site_lines(policy: SitePolicy) -> list[str]:
    """Return lines of text: what matches a site, and what results, with the line that each comes from."""
    shown = [*_matches(policy.matches), "limits:"]
    shown += [_limit_row(limit) for limit in policy.limits]
    if policy.organisation_least is not None:
        least = max(defaults.FEWEST_OF_ORGANISATION, policy.organisation_least)
        most = max(defaults.MOST_OF_ORGANISATION, policy.organisation_least)
        text = f"{least} to {most} sessions at once from each source, for {_FOR[ORGANISATION]}"
        shown.append(f"  {text}: {defaults.FOR_EACH_ADDRESS} for each address of its hosts: built in")
    return [*shown, "otherwise:", *_values(policy.matches)]


def address_lines(policy: AddressPolicy) -> list[str]:
    """Return lines of text: what results for one address of a host besides."""
    shown = [_limit_row(limit) for limit in policy.limits]
    for key, line in policy.sources.items():
        written = next(item for item in line.text.split(b",") if item.partition(b"=")[0] == key)
        shown.append(f"  {written.decode('latin-1')}: {place_of(line)}")
    return shown


def recipient_lines(policy: RecipientPolicy) -> list[str]:
    """Return lines of text for a local recipient."""
    limits = [f"  {recipient_limit_text(limit)}: {place_of(limit)}" for limit in policy.limits]
    values = _values(policy.matches)
    return [*_matches(policy.matches), "limits:", *limits, *(["otherwise:", *values] if values else [])]


def recipient_limit_text(limit: Limit) -> str:
    """Return a limit of a local recipient in words: `2 deliveries at once to each recipient`."""
    rate = f" in {limit.period_seconds:g} s, {limit.burst} at once," if limit.period_seconds else " at once"
    return f"{_count(limit.value, 'delivery')}{rate} to each recipient"


def _count(number: int, what: str) -> str:
    many = what[:-1] + "ies" if what.endswith("y") else what + "s"
    return f"{number} {what if number == 1 else many}"


def _matches(lines: tuple[MatchedLine, ...]) -> list[str]:
    return ["lines that match, the one that wins first:", *line_rows(lines)]


def line_rows(lines: "Iterable[MatchedLine]") -> list[str]:
    """Return each line as it was written, with its place."""
    return [f"  {place_of(line)}: {(line.address + b':' + line.text).decode('latin-1')}" for line in lines]


def _limit_row(limit: Limit) -> str:
    return f"  {limit_text(limit)}: {place_of(limit)}"


def _values(lines: tuple[MatchedLine, ...]) -> list[str]:
    """Return each key that is no limit, as it was written in the line that wins."""
    shown: dict[bytes, str] = {}
    for line in lines:
        for item in line.text.split(b","):
            key = item.partition(b"=")[0]
            if key in line.values and key not in LIMITS and key not in shown:
                shown[key] = f"  {item.decode('latin-1')}: {place_of(line)}"
    return list(shown.values())
