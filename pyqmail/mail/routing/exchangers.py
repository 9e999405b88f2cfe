"""Which hosts to try for a domain: its route, what DNS must be asked, the check that we do not mail ourselves.

    plan = plan_for(domain, routes)                          # nothing waits
    if plan.question: ask plan.question (a kind of resolve_wire) about plan.name
    hosts = settle(plan, kind, body, own)                    # or settle_literal(plan, own) without a question

Pure: DNS is asked by whoever can wait.  Source: main() of qmail-remote, dns_mxip() of qmail; RFC 5321 section 5.1
"""

import _socket as socket  # without its enums and its selectors: they cost a cold start milliseconds

from pyqmail.base.addresses import printable
from pyqmail.base.literals import literal_address
from pyqmail.mail.routing.smtproutes import SMTP_PORT, route_for
from pyqmail.protocol.wires import resolve_wire
from pyqmail.protocol.wires.frames import split_strings

SOFT_DNS = b"ZSorry, I couldn't find any host by that name. (#4.1.2)\n"
NO_EXCHANGER = b"DSorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n"
BEST_IS_ME = (
    b"DSorry. Although I'm listed as a best-preference MX or A for that host,\n"
    b"it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n"
)
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


def plan_for(domain: bytes, routes: dict[bytes, bytes]) -> Plan:
    """Return the Plan for a recipient's domain part; routes is control/smtproutes as a map."""
    route = route_for(domain, routes)
    if route is None:
        literal = literal_address(domain)
        return Plan(resolve_wire.EXCHANGERS if literal is None else None, literal or domain, SMTP_PORT, False)
    relay, port = route
    literal = literal_address(relay)
    return Plan(resolve_wire.ADDRESSES if literal is None else None, literal or relay, port, True)


def settle_literal(plan: Plan, own: set[bytes]) -> list[tuple[bytes, bytes, int]]:
    """Return the one host of a plan without question as [(host, address, port)].  Raises Unroutable."""
    return choose(plan, [(0, plan.name, plan.name)], own)


def settle(plan: Plan, kind: int, body: bytes, own: set[bytes]) -> list[tuple[bytes, bytes, int]]:
    """Return [(host, address, port)] in the order to try from the answer (resolve_wire) to a plan's question.

    own are the addresses of this machine's interfaces that are up.  Raises Unroutable, MalformedFrame.
    """
    if kind != resolve_wire.FOUND:
        return settle_found(plan, kind, [], own)
    if plan.question == resolve_wire.EXCHANGERS:
        return settle_found(plan, kind, resolve_wire.split_exchangers(body), own)
    return settle_found(plan, kind, [(0, plan.name, address) for address in split_strings(body)], own)


def settle_found(plan: Plan, kind: int, found: list[tuple[int, bytes, bytes]], own) -> list[tuple[bytes, bytes, int]]:
    """Do what settle() does, with an answer that is taken apart: kind, and for FOUND [(preference, host, address)]."""
    if kind == resolve_wire.NO_HOST or (kind == resolve_wire.NO_RECORD and plan.question == resolve_wire.ADDRESSES):
        raise Unroutable(no_host(plan.name))
    if kind == resolve_wire.NO_RECORD:
        raise Unroutable(NO_EXCHANGER)
    if kind != resolve_wire.FOUND:
        raise Unroutable(SOFT_DNS)
    return choose(plan, found, own)


def choose(plan: Plan, found: list[tuple[int, bytes, bytes]], own: set[bytes]) -> list[tuple[bytes, bytes, int]]:
    """Return [(host, address, port)] of found, [(preference, host, address)], that may be tried.  Raises Unroutable.

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
    return [(host, address, plan.port) for _, host, address in found]


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
