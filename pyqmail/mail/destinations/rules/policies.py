"""What a lookup returns: limits, and what else applies to a site, an address, a sender, a local recipient.

A policy is shared by all that it applies to and never changes.  What a policy leaves to the caller is None.

Scope says what a limit is counted for.  Of each scope, and of each group, one limit of a kind applies at most:

    DOMAIN         each recipient domain (for the local channel: each recipient)
    ADDRESS        each address of a host
    HOST           each MX host
    SITE           each site
    NET            each /24 or /64
    ORGANISATION   each organisation
    RULE           all that the line applies to, together: `name` is its group, or the address of its line

So the key of a budget is (scope, the thing or `name`, kind), and for the kinds c, r and k the source besides.
"""

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DOMAIN, ADDRESS, HOST, SITE, NET, ORGANISATION, RULE = "dom", "ip", "host", "site", "net", "org", "rule"
SCOPES = (DOMAIN, ADDRESS, HOST, SITE, NET, ORGANISATION, RULE)  # the most specific first: the order of limits
FILE, NOW_FILE, BUILT_IN_FILE = "destinations", "destinations.now", "built in"  # where a line stands
FOR_EVER = math.inf  # of held_until
NOT_HELD = 0.0


class Limit:
    """One limit, and which line sets it.

    kind     b"c" sessions at once from each source, b"C" over all sources; b"r" recipients in a time for each source,
             b"R" over all; b"k" connections in a time for each source
    value    the number; of a rate: that many in period_seconds, burst of them at once
    name     of scope RULE the group, `@yahoo`, or the line's address; otherwise empty
    line     the line's number in `where`: FILE, NOW_FILE, BUILT_IN_FILE
    owner    what to show: `@yahoo:c=100`
    is_default   nobody asked for it: it is of the empty address or built in.  Where several sites share the budget of
                 a default, the largest value holds
    """

    __slots__ = ("kind", "scope", "value", "period_seconds", "burst", "name", "line", "where", "owner", "is_default")

    def __init__(
        self,
        kind: bytes,
        scope: str,
        value: int,
        period_seconds: float = 0.0,
        burst: int = 1,
        *,
        name: bytes = b"",
        line: int = 0,
        where: str = "",
        owner: bytes = b"",
        is_default: bool = False,
    ) -> None:
        self.kind, self.scope, self.value = kind, scope, value
        self.period_seconds, self.burst = period_seconds, burst
        self.name, self.line, self.where, self.owner, self.is_default = name, line, where, owner, is_default

    @property
    def interval_seconds(self) -> float:
        """Of a rate: the time for one."""
        return self.period_seconds / self.value


class Retry:
    """A written `try=`.  delays: the first ones, in seconds; after the last each is factor times as long, up to most.

    A list has factor 1: its last delay stays.
    """

    __slots__ = ("delays", "factor", "most_seconds")

    def __init__(self, delays: tuple[float, ...], factor: float = 1.0, most_seconds: float = math.inf) -> None:
        self.delays, self.factor, self.most_seconds = delays, factor, most_seconds

    def delay(self, tries: int) -> float:
        """Return how long to wait, without spread, after so many tries (1: the first has just failed)."""
        if tries <= len(self.delays):
            return self.delays[max(tries, 1) - 1]
        last = self.delays[-1]
        # a power beyond 1,000 doublings would be no float any more, and the maximum is reached by then
        return min(
            last * self.factor ** min(tries - len(self.delays), 1000 // math.ceil(self.factor)), self.most_seconds
        )


class MatchedLine:
    """A line of the table as a lookup reads it.

    key, address   of the table, and as it is shown
    number, where  the line's number in that file, as of a Limit
    rank           what puts lines in order: which file, which form of address, how short; the lowest wins
    values         key -> value of all that is no limit
    limits         those it sets
    groups         those it attaches, in their order
    size           of a group: how many lines attach it
    """

    __slots__ = ("key", "address", "number", "where", "rank", "values", "limits", "groups", "size", "text")

    def __init__(
        self,
        key: bytes,
        address: bytes,
        number: int,
        where: str,
        rank: tuple[int, int, int],
        text: bytes,
        size: int = 0,
    ) -> None:
        self.key, self.address, self.number, self.where, self.rank = key, address, number, where, rank
        self.values: dict[bytes, Any] = {}
        self.limits: tuple[Limit, ...] = ()
        self.groups: tuple[bytes, ...] = ()
        self.text, self.size = text, size


class SitePolicy:
    """All that applies to one domain at one site, through one source.

    initial, floor             i=, f=: the window after the first greeting, and what learning leaves
    messages, recipients       n=, m=: of a session, of a transaction
    idle_seconds               idle=
    connect_seconds, greeting_seconds, reply_seconds     to=; None: as the control files say
    parcels                    p=: ready parcels for each session before another is opened
    pool, is_by_sender, spills src= (empty: every source), by=, spill
    retry                      try=; None: q, qmail's formula
    lifetime_seconds           die=; None: control/queuelifetime
    dead_after                 dead=; 0: never
    grey_seconds               grey=
    klass                      w=: b"urgent", b"normal", b"bulk"; empty: by the message
    route                      route=: (host, port) instead of the MX, an empty host: the MX at that port; None: none
    fallback                   fall=: (host, port, seconds or None: once every host has failed); None: none
    families                   v=: "4", "6", "46"
    held_until                 hold: NOT_HELD, FOR_EVER, or the date when it ends
    learns                     learn=
    limits                     those of DOMAIN, SITE, ORGANISATION and RULE, the most specific first; those of RULE by
                               size of their groups, the smallest first
    organisation_least         the built-in limit of the organisation is max(organisation_limit(addresses), this); None:
                               it does not apply, since a written limit takes its place
    groups                     the groups that the site is in, `@yahoo`, the nearest first: for response rules
    source                     the address of the source that it is for; empty: any
    matches                    all lines that apply, the one that wins first
    sources                    key (b"n") -> the line that sets it
    """

    __slots__ = (
        *("initial", "floor", "messages", "recipients", "idle_seconds", "connect_seconds", "greeting_seconds"),
        *("reply_seconds", "parcels", "pool", "is_by_sender", "spills", "retry", "lifetime_seconds", "dead_after"),
        *("grey_seconds", "klass", "route", "fallback", "families", "held_until", "learns", "limits"),
        *("organisation_least", "groups", "source", "matches", "sources"),
    )

    def __init__(
        self,
        values: "Mapping[bytes, Any]",
        *,
        limits: tuple[Limit, ...],
        organisation_least: int | None,
        groups: tuple[bytes, ...],
        source: bytes,
        matches: "tuple[MatchedLine, ...]",
        sources: "Mapping[bytes, MatchedLine]",
    ) -> None:
        self.initial, self.floor = values[b"i"], values[b"f"]
        self.messages, self.recipients, self.parcels = values[b"n"], values[b"m"], values[b"p"]
        self.idle_seconds, self.grey_seconds, self.dead_after = values[b"idle"], values[b"grey"], values[b"dead"]
        self.connect_seconds, self.greeting_seconds, self.reply_seconds = values.get(b"to", (None, None, None))
        self.pool, self.spills = values.get(b"src", b""), b"spill" in values
        self.is_by_sender, self.learns = values[b"by"] == b"sender", values[b"learn"] == b"yes"
        self.retry: Retry | None = values.get(b"try")
        self.lifetime_seconds: float | None = values.get(b"die")
        self.klass, self.families = values.get(b"w", b""), values[b"v"].decode()
        self.route: tuple[bytes, int] | None = values.get(b"route")
        self.fallback: tuple[bytes, int, float | None] | None = values.get(b"fall")
        self.held_until: float = values.get(b"hold", NOT_HELD)
        self.limits, self.organisation_least, self.groups = limits, organisation_least, groups
        self.source, self.matches, self.sources = source, matches, sources


class AddressPolicy:
    """What applies to one address of a host besides: known once a host is chosen.

    messages, recipients   n=, m=; None: as the site's policy says
    held_until             as of a SitePolicy
    limits                 those of ADDRESS, HOST and NET; those of groups that the address is in and the site is not
    sources                key (b"n") -> the line that sets it
    """

    __slots__ = ("messages", "recipients", "held_until", "limits", "sources")

    def __init__(
        self, values: "Mapping[bytes, Any]", limits: tuple[Limit, ...], sources: "Mapping[bytes, MatchedLine]"
    ) -> None:
        self.sources = sources
        self.messages: int | None = values.get(b"n")
        self.recipients: int | None = values.get(b"m")
        self.held_until: float = values.get(b"hold", NOT_HELD)
        self.limits = limits


class SenderPolicy:
    """What a line `from=` says of a sender's mail; what it sets wins over what the destination's lines say.

    retry, lifetime_seconds, pool, is_by_sender, spills: None if it says nothing of it.  klass: empty, likewise.
    """

    __slots__ = ("retry", "lifetime_seconds", "klass", "pool", "is_by_sender", "spills")

    def __init__(self, values: "Mapping[bytes, Any]") -> None:
        self.retry: Retry | None = values.get(b"try")
        self.lifetime_seconds: float | None = values.get(b"die")
        self.klass: bytes = values.get(b"w", b"")
        self.pool: bytes | None = values.get(b"src")
        self.is_by_sender: bool | None = values[b"by"] == b"sender" if b"by" in values else None
        self.spills: bool | None = values.get(b"spill")


class RecipientPolicy:
    """What applies to one local recipient; the limits have scope DOMAIN, each for one recipient."""

    __slots__ = ("retry", "lifetime_seconds", "klass", "held_until", "limits", "matches")

    def __init__(
        self, values: "Mapping[bytes, Any]", limits: tuple[Limit, ...], matches: tuple[MatchedLine, ...]
    ) -> None:
        self.retry: Retry | None = values.get(b"try")
        self.lifetime_seconds: float | None = values.get(b"die")
        self.klass: bytes = values.get(b"w", b"")
        self.held_until: float = values.get(b"hold", NOT_HELD)
        self.limits, self.matches = limits, matches


class PoolMember:
    """One source of a pool: address, the name to greet with (empty: control/helohost), weight, warm-up day or None.

    warm_from is the date, Unix seconds, of the first day of warm-up.
    """

    __slots__ = ("address", "helo", "weight", "warm_from")

    def __init__(self, address: bytes, helo: bytes = b"", weight: int = 1, warm_from: float | None = None) -> None:
        self.address, self.helo, self.weight, self.warm_from = address, helo, weight, warm_from
