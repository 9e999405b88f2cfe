"""A site: the hosts that would be tried, by preference, with what makes sessions not interchangeable.

Its key is a hash of what decides: two different sets have no text in common, by separators and lengths.  Its
organisation is whose hosts these are.  Hosts are [(preference, name, [addresses])] as resolved() has them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    Hosts = Sequence[tuple[int, bytes, Sequence[bytes]]]

MAX_NAMES, MAX_ADDRESSES = 5, 10
NO_TLS_POLICY = b"none"  # the policy class of every site until TLS is there


def site_key(hosts: "Hosts", route: bytes = b"", port: int = 25, policy: bytes = NO_TLS_POLICY) -> bytes:
    """Return the key, 16 bytes: for each preference in order its set of names; then route, port, policy class."""
    raise NotImplementedError


def organisation_of(hosts: "Hosts", registrable: "Callable[[bytes], bytes]") -> bytes:
    """Return the registrable domain of all hosts, or of the best preference if the others agree on one; or b""."""
    raise NotImplementedError


def site_name(hosts: "Hosts", organisation: bytes, route: bytes = b"", port: int = 25) -> bytes:
    """Return the name shown to people: `google.com#aspmx.l+4`; a route is its host, and its port unless that is 25."""
    raise NotImplementedError


def hosts_to_try(hosts: "Hosts", random: "Random") -> "list[tuple[int, bytes, list[bytes]]]":
    """Return the best of them, at most 5 names and 10 addresses; those of one preference by chance."""
    raise NotImplementedError


def network_of(address: bytes) -> bytes:
    """Return the /24 or /64 of an address, `192.0.2.0/24`; the address itself if it is none."""
    raise NotImplementedError


def last_two_labels(host: bytes) -> bytes:
    """Return what is registrable if no public suffix list is asked."""
    raise NotImplementedError
