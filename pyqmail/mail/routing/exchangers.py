"""Which hosts to try for a domain: its route, what DNS must be asked, the check that we do not mail ourselves.

    plan = plan_for(domain, routes)                          # nothing waits
    if plan.question: ask plan.question (a kind of resolve_wire) about plan.name
    hosts = settle_found(plan, kind, found, own)             # or settle_literal(plan, own) without a question

Who keeps what was found asks HOSTS for EXCHANGERS and RELAY for ADDRESSES, and gets Hosts: hosts_of(plan, kind, body,
own), or hosts_of_literal(plan, own).

Pure: DNS is asked by whoever can wait.  Source: main() of qmail-remote, dns_mxip() of qmail; RFC 5321 section 5.1
"""

import _socket as socket  # without its enums and its selectors: they cost a cold start milliseconds

from pyqmail.base.addresses import printable
from pyqmail.base.literals import literal_address
from pyqmail.mail.routing.smtproutes import SMTP_PORT, route_for
from pyqmail.protocol.wires import resolve_wire

SOFT_DNS = b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n"
NO_EXCHANGER = b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n"
BEST_IS_ME = (
    b"DSorry. Although I'm listed as a best-preference MX or A for that host,\n"
    b"it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n"
)
ROUTE_SECONDS = 60  # for how long control/smtproutes is believed without another look
NULL_MX = b"DSorry, that domain takes no mail: it has a null MX. (#5.1.10)\n"
NO_CONNECTION = b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"


class Unroutable(Exception):
    """There is nowhere to send: `report` says why, as a spawner reports it (letter Z or D, then text)."""

    def __init__(self, report: bytes) -> None:
        super().__init__(report)
        self.report = report


class Plan:
    """How to find a domain's hosts.

    question   EXCHANGERS or ADDRESSES of resolve_wire, or None if the address is already known: `name` itself
    name       what the question is about: the domain, or the relay of a route
    port       where all of its hosts listen
    is_routed  True if smtproutes named a relay: then nothing is checked against our own addresses
    """

    __slots__ = ("question", "name", "port", "is_routed")

    def __init__(self, question, name, port, is_routed):
        self.question, self.name, self.port, self.is_routed = question, name, port, is_routed

    @property
    def route(self) -> bytes:
        """The relay that smtproutes names, in lower case; empty if there is none."""
        return self.name.lower() if self.is_routed else b""


class Hosts:
    """Where mail for a domain goes, and for how long that holds.

    hosts [(preference, host, [addresses])] in the order to try; our own are not among them.  port and route, the relay
    that smtproutes names, if it does.  is_stale: it holds no longer, but no name server answers.
    is_ours: we are one of the domain's exchangers ourselves, but not its best.
    """

    __slots__ = ("hosts", "seconds", "is_stale", "port", "route", "is_ours")

    def __init__(
        self, plan: Plan, found: "list[tuple[int, bytes, bytes]]", seconds: int, is_stale: bool, is_ours: bool = False
    ) -> None:
        self.is_ours = is_ours
        self.seconds, self.is_stale, self.port, self.route = seconds, is_stale, plan.port, plan.route
        self.hosts: list[tuple[int, bytes, list[bytes]]] = []
        for preference, host, address in found:
            if not self.hosts or self.hosts[-1][:2] != (preference, host.lower()):
                self.hosts.append((preference, host.lower(), []))
            self.hosts[-1][2].append(address)


def plan_for(domain: bytes, routes: dict[bytes, bytes], written: tuple[bytes, int] | None = None) -> Plan:
    """Return the Plan for a recipient's domain part; routes is control/smtproutes as a map.

    written: (relay, port) that counts in its place; without a relay the domain's own hosts do, at that port.
    """
    route = route_for(domain, routes) if written is None else written
    if route is None or written is not None and not written[0]:
        literal, port = literal_address(domain), SMTP_PORT if route is None else route[1]
        return Plan(resolve_wire.EXCHANGERS if literal is None else None, literal or domain, port, False)
    relay, port = route
    literal = literal_address(relay)
    return Plan(resolve_wire.ADDRESSES if literal is None else None, literal or relay, port, True)


def settle_literal(plan: Plan, own: set[bytes]) -> list[tuple[bytes, bytes, int]]:
    """Return the one host of a plan without question as [(host, address, port)].  Raises Unroutable."""
    return choose(plan, [(0, plan.name, plan.name)], own)


def settle_found(plan: Plan, kind: int, found: list[tuple[int, bytes, bytes]], own) -> list[tuple[bytes, bytes, int]]:
    """Return [(host, address, port)] in the order to try from the answer (resolve_wire) to a plan's question.

    found is [(preference, host, address)], what the answer holds if its kind is FOUND.  own are the addresses of this
    machine's interfaces that are up.  Raises Unroutable.
    """
    if kind != resolve_wire.FOUND:
        raise why_nowhere(plan, kind)
    return choose(plan, found, own)


def why_nowhere(plan: Plan, kind: int) -> Unroutable:
    """Return what an answer of another kind than FOUND means."""
    if kind == resolve_wire.NO_MAIL:
        return Unroutable(NULL_MX)
    if kind == resolve_wire.NO_HOST or (kind == resolve_wire.NO_RECORD and plan.question == resolve_wire.ADDRESSES):
        return Unroutable(no_host(plan.name))
    return Unroutable(NO_EXCHANGER if kind == resolve_wire.NO_RECORD else SOFT_DNS)


def hosts_of_literal(plan: Plan, own) -> Hosts:
    """Return the Hosts of a plan without question.  Raises Unroutable."""
    return Hosts(plan, usable(plan, [(0, plan.name, plan.name)], own), ROUTE_SECONDS, False)


def hosts_of(plan: Plan, kind: int, body: bytes, own) -> Hosts:
    """Return the Hosts that the answer (resolve_wire) to HOSTS or RELAY gives.  Raises Unroutable, MalformedFrame."""
    if kind != resolve_wire.HOSTS_FOUND:
        raise why_nowhere(plan, kind)
    seconds, is_stale, found = resolve_wire.split_hosts(body)
    if plan.is_routed:
        seconds = min(seconds, ROUTE_SECONDS)
    others = usable(plan, found, own)
    return Hosts(plan, others, seconds, is_stale, len(others) < len(found))


def choose(plan: Plan, found: list[tuple[int, bytes, bytes]], own: set[bytes]) -> list[tuple[bytes, bytes, int]]:
    """Return [(host, address, port)] of what is usable().  Raises Unroutable."""
    return [(host, address, plan.port) for _, host, address in usable(plan, found, own)]


def usable(plan: Plan, found: list[tuple[int, bytes, bytes]], own) -> list[tuple[int, bytes, bytes]]:
    """Return those of found, [(preference, host, address)], that may be tried.  Raises Unroutable.

    Unless routed, only what is preferred to the best that leads_to_us(): else mail would come back to us.
    """
    if not found:
        raise Unroutable(NO_EXCHANGER)
    if not plan.is_routed:
        ours = [preference for preference, _, address in found if leads_to_us(address, own)]
        if ours:
            found = [exchanger for exchanger in found if exchanger[0] < min(ours)]
        if not found:
            raise Unroutable(BEST_IS_ME)
    return found


def leads_to_us(address: bytes, own) -> bool:
    """Return whether mail for an address would come back to us: own are the texts of our interfaces' addresses.

    So are loopback and the unspecified address; what goes to a multicast or broadcast address is for nobody else.
    An IPv4 address counts in each of its IPv6 forms: mapped, compatible, translated.
    """
    if address in own:
        return True
    if b":" not in address:
        return _is_nowhere(address)
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.decode())
    except (OSError, ValueError):
        return False
    if packed[0] == 0xFF or socket.inet_ntop(socket.AF_INET6, packed).encode() in own:
        return True
    inner = socket.inet_ntoa(packed[12:]).encode()
    return packed.startswith(_IPV4_INSIDE) and (inner in own or _is_nowhere(inner))


# RFC 4291 section 2.5.5, RFC 2765 section 2.1, RFC 6052 section 2.1, RFC 8215
_IPV4_INSIDE = (
    *(bytes(12), bytes(10) + b"\xff\xff", bytes(8) + b"\xff\xff\0\0"),
    *(b"\0\x64\xff\x9b" + bytes(8), b"\0\x64\xff\x9b\0\1"),
)


def _is_nowhere(address):
    """Return whether an IPv4 address is of no other host: 127/8, 0/8, 224/4, 255.255.255.255."""
    first = address.partition(b".")[0]
    return first in (b"0", b"127") or address == b"255.255.255.255" or (first.isdigit() and 224 <= int(first) < 240)


def no_host(name: bytes) -> bytes:
    """Return the report for a name that DNS does not have."""
    return b"DSorry, I couldn't find any host named " + printable(name) + b". (#5.1.2)\n"
