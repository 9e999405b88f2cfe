"""What applies to a destination: the lines that match it, in the order in which they win (choice.py).

A lookup asks the table for each form of address: the domain, each end of it, the label before a public suffix; for each
host its name and each end of it; for an address a network for each length of prefix that is in use.  Forms of which the
table has no line are not asked for.  A line of hosts matches a site if all hosts of the site match it; a group that
every host of the site is in, by whatever line, is a group of the site.  Likewise for networks, where addresses are
given.

Equal sets of lines give one policy.  What was looked up is kept, up to a bound; then all is looked up again.
"""

import socket

from pyqmail.base.literals import literal_address
from pyqmail.mail.destinations.rules import choice
from pyqmail.mail.destinations.rules.defaults import BUILT_IN, SHIPPED_RESPONSES
from pyqmail.mail.destinations.rules.items import LIMITS
from pyqmail.mail.destinations.rules.policies import (
    ADDRESS,
    BUILT_IN_FILE,
    DOMAIN,
    FILE,
    NOW_FILE,
    RULE,
    SITE,
    AddressPolicy,
    Limit,
    MatchedLine,
    PoolMember,
    RecipientPolicy,
    SenderPolicy,
    SitePolicy,
)
from pyqmail.mail.destinations.rules.responses import Automaton
from pyqmail.mail.destinations.rules.tables import (
    KINDS,
    RESPONSES,
    address_of,
    compile_rules,
    read_lines,
    responses_of,
    table_of,
)
from pyqmail.mail.destinations.rules.text import (
    DOMAIN_LINE,
    EVERYTHING,
    GROUP,
    HOST_LINE,
    HOST_SUFFIX,
    IP4,
    IP6,
    POOL,
    RECIPIENT,
    SENDER,
    STAR,
    SUFFIX,
    network_key,
    read_items,
    read_members,
)
from pyqmail.mail.destinations.sites import last_two_labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol, TypeVar

    _K = TypeVar("_K")
    _V = TypeVar("_V")

    class Table(Protocol):
        """Compiled rules: a cdb, a dict."""

        def get(self, key: bytes, /) -> bytes | None: ...


_KEPT = 8192  # of each: lines, lines of a host, policies
# what a limit is counted for where no scope is written
_SCOPES = {
    **dict.fromkeys((DOMAIN_LINE, SUFFIX, STAR, RECIPIENT), DOMAIN),
    **dict.fromkeys((HOST_LINE, HOST_SUFFIX, EVERYTHING), SITE),
    **dict.fromkeys((IP4, IP6), ADDRESS),
    GROUP: RULE,
}
_RANKS = {
    kind: rank
    for rank, kind in enumerate((DOMAIN_LINE, SUFFIX, STAR, HOST_LINE, HOST_SUFFIX, IP4, IP6, GROUP, EVERYTHING))
}


class _Layer:
    """One file of rules: its table, which kinds of lines are there, and the lines read so far."""

    __slots__ = ("table", "where", "rank", "kinds", "lengths", "lines", "has_sender_pools")

    def __init__(self, table: "Table", where: str, rank: int) -> None:
        self.table, self.where, self.rank = table, where, rank
        kinds = (table.get(KINDS) or b"").split(b" ")
        self.has_sender_pools = SENDER + POOL in kinds
        self.kinds = frozenset(kind[:1] for kind in kinds if kind)
        networks = [(kind[:1], int(kind[1:])) for kind in kinds if len(kind) > 2]
        self.lengths = tuple(sorted(networks, key=lambda one: -one[1]))
        self.lines: dict[bytes, MatchedLine] = {}

    def line(self, key: bytes) -> MatchedLine | None:
        """Return the line of a key, None without one."""
        line = self.lines.get(key)
        if line is None:
            value = self.table.get(key)
            if value is None:
                return None
            line = _matched_line(key, value, self.where, self.rank)
            _keep(self.lines, key, line)
        return line

    def relay_line(self, relay: bytes) -> MatchedLine | None:
        """Return the line of a domain as one of an MX host: what it limits is the site, whatever domains it serves."""
        line = self.lines.get(b"\0" + relay)
        if line is None:
            value = self.table.get(DOMAIN_LINE + relay)
            if value is None:
                return None
            line = _matched_line(HOST_LINE + relay, value, self.where, self.rank, relay)
            _keep(self.lines, b"\0" + relay, line)
        return line


def _matched_line(key: bytes, value: bytes, where: str, rank: int, written: bytes = b"") -> MatchedLine:
    """written: the address as it stands in the file, if it is another one."""
    number, text, *size = value.split(b"\0")
    kind, address = key[:1], written or address_of(key)
    length = int(key[1:3]) if kind == IP4 else int(key[1:4]) if kind == IP6 else len(key)
    line = MatchedLine(
        *(key, address, int(number.lstrip(b"!")), where),
        *((rank, _RANKS.get(kind, 0), -length), text, int(size[0]) if size else 0),
    )
    if kind == POOL:
        line.values = {b"%": [item[1] for item in read_members(text, 0)]}
        return line
    items = read_items(text, 0)
    line.groups = tuple(item[2] for item in items if item[0] == b"@")
    line.values = {item[0]: item[1] for item in items if item[0] != b"@" and item[0] not in LIMITS}
    line.limits = tuple(_limit(line, *item[:3]) for item in items if item[0] in LIMITS)
    return line


def _limit(line: MatchedLine, key: bytes, value: object, text: bytes) -> Limit:
    assert isinstance(value, tuple)
    *numbers, written = value
    scope = written or _SCOPES[line.key[:1]]
    name = b""
    if scope == RULE:
        name = line.address.partition(b"/")[0] if line.key[:1] == GROUP else line.address
    is_default = line.key == EVERYTHING and line.where != NOW_FILE or line.where == BUILT_IN_FILE
    owner = b"%b:%b" % (line.address, text)
    return Limit(
        key, scope, *numbers, name=name, line=line.number, where=line.where, owner=owner, is_default=is_default
    )


class RuleSet:
    """The compiled rules of a table, those of an overlay before them, and the built-in ones behind them.

    registrable(domain) returns the registrable domain by the public suffix list.  Every method may raise what the
    table's get() raises.
    """

    __slots__ = (
        *("_layers", "_registrable", "_responses", "_hosts", "_sites", "_addresses", "_has", "_has_hosts"),
        "_has_networks",
    )

    def __init__(
        self,
        table: "Table",
        overlay: "Table | None" = None,
        *,
        registrable: "Callable[[bytes], bytes]" = last_two_labels,
    ) -> None:
        files = [(overlay, NOW_FILE), (table, FILE), (table_of(read_lines(BUILT_IN)), BUILT_IN_FILE)]
        self._layers = tuple(_Layer(one, where, rank) for rank, (one, where) in enumerate(files) if one is not None)
        self._registrable = registrable
        self._responses: Automaton | None = None
        self._has = frozenset(kind for layer in self._layers for kind in layer.kinds)
        self._has_hosts = HOST_LINE in self._has or HOST_SUFFIX in self._has
        self._has_networks = any(layer.lengths for layer in self._layers)
        self._hosts: dict[bytes, tuple[MatchedLine, ...]] = {}
        self._sites: dict[object, SitePolicy] = {}
        self._addresses: dict[object, AddressPolicy] = {}

    @classmethod
    def of_text(
        cls,
        destinations: bytes,
        responses: bytes | None = None,
        *,
        registrable: "Callable[[bytes], bytes]" = last_two_labels,
    ) -> "RuleSet":
        """Return the rules of a text; responses None: those that are shipped.  Raises BadRules."""
        compiled = compile_rules(destinations, responses, shipped_responses=SHIPPED_RESPONSES)
        return cls(dict(compiled.records), registrable=registrable)

    @property
    def has_sender_lines(self) -> bool:
        """Whether any line speaks of a sender: otherwise for_sender() is None for all."""
        return SENDER in self._has

    @property
    def has_network_lines(self) -> bool:
        """Whether any line speaks of a network: otherwise for_address() sets no n, m or hold."""
        return self._has_networks

    @property
    def has_pools(self) -> bool:
        """Whether there is any pool of sources."""
        return POOL in self._has

    @property
    def has_sender_pools(self) -> bool:
        """Whether a line of a sender names a pool: for_sender() may then say another than for_site()."""
        return any(layer.has_sender_pools for layer in self._layers)

    @property
    def responses(self) -> Automaton:
        """The response rules; where none were compiled, the shipped ones."""
        if self._responses is None:
            base = self._layers[-2].table
            record = base.get(RESPONSES)
            if record is None:
                record = compile_rules(b"", None, shipped_responses=SHIPPED_RESPONSES).records[-2][1]
            self._responses = Automaton(responses_of(record))
        return self._responses

    def for_site(
        self,
        domain: bytes,
        hosts: "Sequence[bytes]" = (),
        addresses: "Sequence[bytes]" = (),
        source: bytes = b"",
        relay: bytes = b"",
    ) -> SitePolicy:
        """Return what applies to a domain whose MX hosts have these names and addresses.

        relay: the name of the host that a route sends it to; a line of that name speaks of it as one of a host would.

        domain may be empty: what its lines say is left out then.  Without hosts, before a domain is resolved, no line
        of a host counts.  addresses may be empty if they are not known.  Equal policies are one object, mostly.
        """
        direct = self._of_domain(domain)
        if relay and DOMAIN_LINE in self._has:
            direct += [line for layer in self._layers if (line := layer.relay_line(relay)) is not None]
        named = [group for line in direct for group in line.groups]
        for each in (
            [self._of_host(host) for host in hosts if self._has_hosts],
            [self._of_address(address) for address in addresses if self._has_networks],
        ):
            if each:
                direct += [line for line in each[0] if all(line in others for others in each[1:])]
                named += choice.in_common(each)
        groups = self._with_parents(named)
        key = (*direct, *groups, source)
        policy = self._sites.get(key)
        if policy is None:
            policy = choice.site_policy(self._in_order(direct, groups, source), groups, source)
            _keep(self._sites, key, policy)
        return policy

    def for_address(self, host: bytes, address: bytes, policy: SitePolicy) -> AddressPolicy:
        """Return what applies besides policy, that of the site, to a session with that address of that host.

        host may be empty, address too.
        """
        of_host = self._of_host(host) if host and self._has_hosts else ()
        of_address = self._of_address(address) if address and self._has_networks else ()
        key = (policy, of_host, of_address)
        known = self._addresses.get(key)
        if known is None:
            direct = [line for line in policy.matches if line.key[:1] not in (GROUP, EVERYTHING)]
            direct += [line for line in (*of_host, *of_address) if line not in direct]
            more = self._with_parents([group for line in of_address for group in line.groups])
            more = tuple(group for group in more if group not in policy.groups)
            lines = self._in_order(direct, (*policy.groups, *more), policy.source)
            known = choice.address_policy(lines, policy, more)
            _keep(self._addresses, key, known)
        return known

    def for_recipient(self, recipient: bytes) -> RecipientPolicy:
        """Return what applies to a local recipient, the whole address in lower case."""
        keys = (RECIPIENT + recipient, RECIPIENT)
        lines = [line for layer in self._layers for key in keys if (line := layer.line(key)) is not None]
        return choice.recipient_policy(lines)

    def for_sender(self, sender: bytes) -> SenderPolicy | None:
        """Return what a line says of a sender's domain, empty for the null sender; None if there is no such line."""
        if SENDER not in self._has:
            return None
        lines = self._lines([SENDER + sender])
        return SenderPolicy(choice.values_of(lines)) if lines else None

    def sender_line(self, sender: bytes) -> MatchedLine | None:
        """Return the first line of a sender's domain: for explanations."""
        return next(iter(self._lines([SENDER + sender])), None)

    def pool(self, name: bytes) -> tuple[PoolMember, ...]:
        """Return the sources of a pool, `%bulk`; empty if there is none, and of no name."""
        lines = self._lines([name]) if name else ()
        return tuple(lines[0].values[POOL]) if lines else ()

    def _of_domain(self, domain: bytes) -> list[MatchedLine]:
        """Return the lines of a domain, those of the overlay first."""
        if not domain:
            return []
        literal = literal_address(domain) if domain[:1] == b"[" else None
        domain = literal or domain
        keys = [DOMAIN_LINE + domain]
        if literal is None and SUFFIX in self._has:
            keys += [SUFFIX + end for end in _ends(domain)]
        if STAR in self._has and self._registrable(domain) == domain:
            keys.append(STAR + domain.partition(b".")[0])
        return self._lines(keys)

    def _of_host(self, host: bytes) -> tuple[MatchedLine, ...]:
        """Return the lines of an MX host."""
        lines = self._hosts.get(host)
        if lines is None:
            lines = tuple(self._lines([HOST_LINE + host, *(HOST_SUFFIX + end for end in _ends(host))]))
            _keep(self._hosts, host, lines)
        return lines

    def _of_address(self, address: bytes) -> tuple[MatchedLine, ...]:
        """Return the lines of an address, the smallest network first; none for what is no address."""
        family = socket.AF_INET6 if b":" in address else socket.AF_INET
        try:
            packed = socket.inet_pton(family, address.decode("ascii"))
        except (OSError, ValueError):
            return ()
        kind, bits = (IP4, 32) if family == socket.AF_INET else (IP6, 128)
        number = int.from_bytes(packed, "big")
        keys = []
        for length in sorted({length for layer in self._layers for one, length in layer.lengths if one == kind}):
            network = number >> bits - length << bits - length
            keys.append(network_key(network.to_bytes(bits // 8, "big"), length))
        return tuple(self._lines(keys[::-1]))

    def _lines(self, keys: list[bytes]) -> list[MatchedLine]:
        found = []
        for layer in self._layers:
            kinds = layer.kinds
            for key in keys:
                if key[:1] in kinds:
                    line = layer.line(key)
                    if line is not None:
                        found.append(line)
        return found

    def _with_parents(self, groups: list[bytes]) -> tuple[bytes, ...]:
        """Return groups, then those that these are in, each once."""
        found = dict.fromkeys(groups)
        queue = list(found)
        for group in queue:
            for layer in self._layers:
                line = layer.line(group)
                news = [] if line is None else [one for one in line.groups if one not in found]
                found.update(dict.fromkeys(news))
                queue += news
        return tuple(queue)

    def _in_order(self, direct: list[MatchedLine], groups: "Iterable[bytes]", source: bytes) -> list[MatchedLine]:
        """Return all lines that apply, the one that wins first."""
        names = list(groups)
        if source:
            names = [name for group in names for name in (b"%b/%b" % (group, source), group)]
        lines: list[MatchedLine] = []
        for layer in self._layers:
            lines += sorted((line for line in direct if line.where == layer.where), key=_rank)
            lines += [line for name in (*names, EVERYTHING) if (line := layer.line(name)) is not None]
        return lines


def _rank(line: MatchedLine) -> tuple[int, int, int]:
    return line.rank


def _ends(name: bytes) -> list[bytes]:
    """Return what follows each dot of a name, the longest first."""
    ends = []
    at = name.find(b".")
    while at >= 0:
        ends.append(name[at + 1 :])
        at = name.find(b".", at + 1)
    return ends


def _keep(known: "dict[_K, _V]", key: "_K", value: "_V") -> None:
    if len(known) >= _KEPT:
        known.clear()
    known[key] = value
