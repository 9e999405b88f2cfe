"""What the recipients of a message that is being sent may take of the memory all clients of a process have together.

FLOOR_BYTES of each transaction are never refused, whatever others do: that is more than a thousand usual addresses.
What goes beyond is taken from the common memory, where messages give way first, by moving to their files; and all
transactions of one client address together may have a part of it only.
"""

import _socket as socket  # without its enums: each cold start would pay for them

from pyqmail.mail.queue.client import MEMORY_BYTES, MessageMemory

FLOOR_BYTES = 64 << 10
ADDRESS_BYTES = MEMORY_BYTES // 8
MAX_BYTES = 16 << 20  # of one transaction: the original takes what memory holds, but has it for itself


class Shares:
    """memory is what all have; of_address: client -> what its transactions have of it."""

    def __init__(self, memory: MessageMemory) -> None:
        self.memory = memory
        self.of_address: dict[bytes, int] = {}


class Share:
    """What one transaction holds.  client: see client_of()."""

    __slots__ = ("_shares", "_client", "_held")

    def __init__(self, shares: Shares, client: bytes) -> None:
        self._shares, self._client, self._held = shares, client, 0

    def take(self, size: int) -> bool:
        """Return whether there is room for so many bytes more."""
        held = self._held + size
        extra = max(0, held - FLOOR_BYTES) - self._extra
        if extra and (held > MAX_BYTES or not self._take_extra(extra)):
            return False
        self._held = held
        return True

    def clear(self) -> None:
        """Give all of it back."""
        extra, self._held = self._extra, 0
        if extra:
            self._shares.memory.release(extra)
            left = self._shares.of_address[self._client] - extra
            if left:
                self._shares.of_address[self._client] = left
            else:
                del self._shares.of_address[self._client]

    @property
    def _extra(self):
        return max(0, self._held - FLOOR_BYTES)

    def _take_extra(self, extra):
        shares = self._shares
        had = shares.of_address.get(self._client, 0)
        if had + extra > ADDRESS_BYTES or not shares.memory.reserve_before_messages(extra):
            return False
        shares.of_address[self._client] = had + extra
        return True


def client_of(environ) -> bytes:
    """Return who counts as one client: an IPv4 address, an IPv6 network of 64 bits, or the uid of a UNIX client."""
    ip = environ.get(b"TCPREMOTEIP")
    if ip is None:
        return b"uid " + environ.get(b"UNIXREMOTEEUID", b"")
    if b":" in ip:
        try:
            return socket.inet_pton(socket.AF_INET6, ip.decode().partition("%")[0])[:8]
        except (OSError, ValueError):
            pass  # whatever a rule made of it
    return ip
