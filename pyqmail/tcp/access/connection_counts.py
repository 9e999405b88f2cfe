"""Connection counts by address and network, and new connections within a period."""

import collections
import socket
import time

PERIOD_SECONDS = 60


class ConnectionCounts:
    """Counts clients by address and by network, /24 or /64; and the new ones from an address within a period.

    A period begins with the first connection of an address after its last period, as in Postfix's anvil.  For periods
    an IPv6 network is one address: a client that has one of its 2^64 addresses has them all.  Clients of a UNIX socket
    are counted by uid.

    counts_new: whether new ones are counted; otherwise they are 0.
    """

    def __init__(self, period_seconds: float = PERIOD_SECONDS, clock=time.monotonic, counts_new: bool = True):
        self._period, self._clock, self._counts_new = period_seconds, clock, counts_new
        self._addresses: dict[bytes, int] = {}
        self._networks: dict[bytes, int] = {}
        self._recent: dict[bytes, int] = {}  # address: new connections in its period
        self._ends: collections.deque[tuple[float, bytes]] = collections.deque()  # (end of a period, its address)

    def count_in(self, client) -> None:
        """Count a client in and set its counts."""
        address, network = _places(client)
        same_address = self._addresses[address] = self._addresses.get(address, 0) + 1
        same_network = self._networks[network] = self._networks.get(network, 0) + 1
        recent = self._count_recent(network if b":" in client.ip else address) if self._counts_new else 0
        client.counts = (same_address, same_network, recent)

    def count_out(self, client) -> None:
        """Count out a client that was counted in."""
        address, network = _places(client)
        _count_down(self._addresses, address)
        _count_down(self._networks, network)

    def _count_recent(self, place):
        now, recent, ends = self._clock(), self._recent, self._ends
        while ends and ends[0][0] <= now:
            del recent[ends.popleft()[1]]
        if place not in recent:
            recent[place] = 0
            ends.append((now + self._period, place))
        recent[place] += 1
        return recent[place]


def place_of(client) -> bytes:
    """Return where events of a client are counted: an address, an IPv6 network, or the uid of a UNIX client."""
    address, network = _places(client)
    return network if b":" in client.ip else address


def _places(client):
    if client.credentials:
        return client.uid, client.uid
    ip = client.ip
    if b":" in ip:
        return ip, b":" + socket.inet_pton(socket.AF_INET6, ip.decode())[:8]  # like no uid and no IPv4 address
    return ip, ip.rpartition(b".")[0]


def _count_down(counts, key):
    if counts[key] > 1:
        counts[key] -= 1
    else:
        del counts[key]
