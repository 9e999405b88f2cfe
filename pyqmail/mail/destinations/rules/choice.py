"""Which line wins, and which limits apply.

Everything but limits: of the lines that set a key, the first in the order

    destinations.now before destinations before what is built in; in each of them:
    domain, suffix (the longest first), label.*, mx= host, mx= suffix (the longest first), ip= (the smallest network
    first), then groups in the order of the lines that attach them, then the empty address

Limits of one kind and one scope compete likewise; of different scopes all apply, and so do those of different groups.

Defaults are the limits of the empty address in destinations, those built in, and the one of the organisation.  Sessions
(c, C), recipients (r, R) and connections (k) are three families.  A default does not apply if a written limit of its
family has its scope, or a broader one; otherwise it is lifted to the largest number that a written one of a narrower
scope names.  Against what is built in, the empty address counts as narrower, too: `:c=20` lifts the organisation's.  So
a number that somebody wrote is never cut by one that nobody wrote.
"""

from pyqmail.mail.destinations.rules.policies import (
    ADDRESS,
    BUILT_IN_FILE,
    HOST,
    NET,
    ORGANISATION,
    SCOPES,
    AddressPolicy,
    Limit,
    MatchedLine,
    RecipientPolicy,
    SitePolicy,
)
from pyqmail.mail.destinations.rules.text import HOST_LINE, HOST_SUFFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    Key = tuple[bytes, str, bytes]

_FAMILIES = {b"c": 0, b"C": 0, b"r": 1, b"R": 1, b"k": 2}
_WIDTH = {scope: width for width, scope in enumerate(SCOPES)}
_OF_AN_ADDRESS = (ADDRESS, HOST, NET)
_OF_HOSTS = (HOST_LINE, HOST_SUFFIX)
_SESSIONS = 0


def values_of(lines: "Sequence[MatchedLine]") -> "dict[bytes, Any]":
    """Return key -> value of lines in their order."""
    values: dict[bytes, Any] = {}
    for line in reversed(lines):
        values |= line.values
    return values


def site_policy(lines: "Sequence[MatchedLine]", groups: tuple[bytes, ...], source: bytes = b"") -> SitePolicy:
    """Return the policy of lines in their order."""
    sources = {key: line for line in reversed(lines) for key in line.values}
    winning, applying = _limits(lines)
    limits = [limit for limit in applying if limit.scope not in _OF_AN_ADDRESS]
    return SitePolicy(
        values_of(lines),
        limits=tuple(limits),
        organisation_least=_least_of_organisation(winning),
        groups=groups,
        source=source,
        matches=tuple(lines),
        sources=sources,
    )


def address_policy(lines: "Sequence[MatchedLine]", site: SitePolicy, more_groups: "Iterable[bytes]") -> AddressPolicy:
    """Return what an address of a site has besides: lines are those of the site and of the address, in their order.

    more_groups: those that only the address is in.
    """
    _, applying = _limits(lines)
    names = frozenset(more_groups)
    limits = [limit for limit in applying if limit.scope in _OF_AN_ADDRESS or limit.name in names]
    known = frozenset(site.matches)
    values: dict[bytes, object] = {}
    sources: dict[bytes, MatchedLine] = {}
    for key in (b"n", b"m", b"hold"):
        setting = [line for line in lines if key in line.values and (line in known or line.key[:1] not in _OF_HOSTS)]
        if setting and setting[0] not in known:
            values[key], sources[key] = setting[0].values[key], setting[0]
    return AddressPolicy(values, tuple(limits), sources)


def recipient_policy(lines: "Sequence[MatchedLine]") -> RecipientPolicy:
    """Return the policy of the lines of a local recipient."""
    winning, _ = _limits(lines)
    return RecipientPolicy(values_of(lines), tuple(winning), tuple(lines))


def in_common(each: "Sequence[Sequence[MatchedLine]]") -> list[bytes]:
    """Return the groups that each of the lists attaches, in the order of the first."""
    first, *others = [dict.fromkeys(group for line in lines for group in line.groups) for lines in each]
    return [group for group in first if all(group in groups for groups in others)]


def _limits(lines: "Sequence[MatchedLine]") -> tuple[list[Limit], list[Limit]]:
    """Return (those that win, those that apply, the most specific first)."""
    winners: dict[Key, Limit] = {}
    for line in lines:
        for limit in line.limits:
            winners.setdefault((limit.kind, limit.scope, limit.name), limit)
    winning = list(winners.values())
    applying = [limit for limit in winning if not limit.is_default]
    for limit in winning:
        if limit.is_default:
            lifted = _lifted(limit, winning)
            applying += [lifted] if lifted is not None else []
    sizes = {line.key: line.size for line in lines}
    applying.sort(key=lambda limit: (_WIDTH[limit.scope], sizes.get(limit.name, 0)))
    return winning, applying


def _lifted(default: Limit, winning: list[Limit]) -> Limit | None:
    """Return a default as it applies beside the others that win; None if it does not."""
    family, is_built_in = _FAMILIES[default.kind], default.where == BUILT_IN_FILE
    rivals = [one for one in winning if _FAMILIES[one.kind] == family and _counts_against(one, is_built_in)]
    best = _best(_WIDTH[default.scope], default, rivals)
    if best is None or best is default:
        return best
    return Limit(
        *(default.kind, default.scope, best.value, best.period_seconds, max(best.burst, default.burst)),
        name=default.name,
        line=best.line,
        where=best.where,
        owner=best.owner,
        is_default=True,
    )


def _counts_against(limit: Limit, is_built_in: bool) -> bool:
    """Return whether somebody wrote it; the empty address counts against what is built in alone."""
    return not limit.is_default or is_built_in and limit.where != BUILT_IN_FILE


def _best(width: int, default: Limit, rivals: list[Limit]) -> Limit | None:
    """Return the default of that width, or the narrower rival that lifts it; None if a rival takes its place."""
    best = default
    for limit in rivals:
        theirs = _WIDTH[limit.scope]
        if theirs > width and not limit.is_default or theirs == width:
            return None
        if theirs < width and _amount(limit) > _amount(best):
            best = limit
    return best


def _amount(limit: Limit) -> float:
    return limit.value / (limit.period_seconds or 1)


def _least_of_organisation(winning: list[Limit]) -> int | None:
    """Return what the built-in limit of the organisation is lifted to, None if it does not apply."""
    rivals = [one for one in winning if _FAMILIES[one.kind] == _SESSIONS and _counts_against(one, True)]
    nothing = Limit(b"c", ORGANISATION, 0, is_default=True)
    best = _best(_WIDTH[ORGANISATION], nothing, rivals)
    return None if best is None else best.value
