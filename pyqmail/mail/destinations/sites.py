"""A site: the hosts that would be tried, by preference, with what makes sessions not interchangeable.

Its key is a hash of what decides.  Every set, name and number in the hashed text has its length before it, so two
different sites have different texts: no name can look like a separator.  The preferences themselves are not in it, only
their order.  Its organisation is whose hosts these are.  A name is for people alone: two sites may share one.

Hosts are [(preference, name, [addresses])] as resolved() has them: names in lower case without a final dot, in any
order.  Source of the order: RFC 5321 section 5.1
"""

import hashlib
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    Hosts = Sequence[tuple[int, bytes, Sequence[bytes]]]

MAX_NAMES, MAX_ADDRESSES = 5, 10  # that are tried, of however many a domain names
NO_TLS_POLICY = b"none"  # the policy class of every site until TLS is there
SMTP_PORT = 25
_V4_IN_V6 = bytes(10) + b"\xff\xff"


def site_key(hosts: "Hosts", route: bytes = b"", port: int = SMTP_PORT, policy: bytes = NO_TLS_POLICY) -> bytes:
    """Return the key, 16 bytes: for each preference in order its set of names; then route, port, policy class."""
    groups = [_counted([_netstring(name) for name in sorted(names)]) for _, names in _by_preference(hosts)]
    text = _counted(groups) + _netstring(route) + _netstring(b"%d" % port) + _netstring(policy)
    return hashlib.blake2b(text, digest_size=16).digest()


def organisation_of(hosts: "Hosts", registrable: "Callable[[bytes], bytes]") -> bytes:
    """Return the registrable domain of all hosts, or of the best preference if the others agree on one; or b""."""
    best, *others = [_owners(names, registrable) for _, names in _by_preference(hosts)] or [set()]
    rest = set().union(*others) - best
    return min(best) if len(best) == 1 and len(rest) <= 1 else b""


def site_name(hosts: "Hosts", organisation: bytes, route: bytes = b"", port: int = SMTP_PORT) -> bytes:
    """Return the name shown to people: `google.com#aspmx.l+4`; a route is its host, and its port unless that is 25.

    Without an organisation it is the first host: `mx.example.net+1`; so it is with a host that is one: `example.net`.
    """
    ending = b":%d" % port if port != SMTP_PORT else b""
    if route:
        return route + ending
    names = list(dict.fromkeys(name for _, group in _by_preference(hosts) for name in sorted(group)))
    first = names[0] if names else b""
    if organisation and first.endswith(b"." + organisation):
        first = organisation + b"#" + first[: -len(organisation) - 1]
    return first + (b"+%d" % (len(names) - 1) if len(names) > 1 else b"") + ending


def hosts_to_try(hosts: "Hosts", random: "Random") -> "Hosts":
    """Return the best of them, at most 5 names and 10 addresses, those of one preference in the order of chance.

    A name that stands twice is tried at its better preference; a second address of a host only if that leaves a place
    for the first of each other.  A host without an address is left out.
    """
    order: dict[bytes, tuple[int, bytes, list[bytes]]] = {}
    if len(hosts) == 1 and 0 < len(hosts[0][2]) <= MAX_ADDRESSES and len(set(hosts[0][2])) == len(hosts[0][2]):
        random.random()  # one for each host, however many: a run can be played again
        return hosts
    for preference, name, addresses in sorted(hosts, key=lambda host: (host[0], random.random())):
        if addresses and len(order) < MAX_NAMES:
            order.setdefault(name, (preference, name, list(dict.fromkeys(addresses))))
    left = MAX_ADDRESSES - len(order)
    for _, _, addresses in order.values():
        kept = 1 + min(len(addresses) - 1, left)
        left -= kept - 1
        del addresses[kept:]
    return list(order.values())


def of_families(hosts: "Hosts", families: str) -> "Hosts":
    """Return the hosts with their addresses of these families: `4`, `6`, or both."""
    if len(families) > 1:
        return hosts
    is_v6 = families == "6"
    return [(preference, name, [one for one in some if (b":" in one) == is_v6]) for preference, name, some in hosts]


def reached_by(candidates: "Hosts", source: bytes) -> "Hosts":
    """Return the candidates with their addresses of a source's family, those that have any."""
    found = ((at, name, [one for one in some if (b":" in one) == (b":" in source)]) for at, name, some in candidates)
    return [candidate for candidate in found if candidate[2]]


def network_of(address: bytes) -> bytes:
    """Return the /24 or /64 of an address, `192.0.2.0/24`; what is none is a network of its own."""
    text = address.decode("ascii", "replace")
    try:
        if b":" not in address:
            packed = inet_pton(AF_INET, text)
        else:
            packed = inet_pton(AF_INET6, text)
            if not packed.startswith(_V4_IN_V6):
                return inet_ntop(AF_INET6, packed[:8] + bytes(8)).encode() + b"/64"
            packed = packed[12:]
    except (OSError, ValueError):
        return address
    return b"%d.%d.%d.0/24" % tuple(packed[:3])


def last_two_labels(host: bytes) -> bytes:
    """Return what is registrable if no public suffix list is asked."""
    return b".".join(host.rsplit(b".", 2)[-2:])


def _by_preference(hosts: "Hosts") -> list[tuple[int, set[bytes]]]:
    """Return [(preference, names)], the best first."""
    groups: dict[int, set[bytes]] = {}
    for preference, name, _ in hosts:
        groups.setdefault(preference, set()).add(name)
    return sorted(groups.items())


def _owners(names: set[bytes], registrable: "Callable[[bytes], bytes]") -> set[bytes]:
    return {name if _is_address(name) else registrable(name) for name in names}


def _is_address(name: bytes) -> bool:
    """Return whether a host is named by its address: no part of that is registrable."""
    return b":" in name or name.startswith(b"[") or name.rpartition(b".")[2].isdigit()


def _netstring(text: bytes) -> bytes:
    return b"%d:%b," % (len(text), text)


def _counted(parts: list[bytes]) -> bytes:
    return b"%d;%b" % (len(parts), b"".join(parts))
