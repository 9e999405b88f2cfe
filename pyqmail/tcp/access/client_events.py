"""What the listener knows of its clients over time: the events of all workers, and who was above a limit.

Where events are counted: an IPv4 address, an IPv6 network of 64 bits, the uid of a UNIX client.
"""

import socket
import time

from pyqmail.base.bounded_table import BoundedTable
from pyqmail.tcp.access.client_windows import ClientWindows
from pyqmail.tcp.access.connection_counts import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.tcp.access.connection import Connection

MAX_SHOWN = 1000
SHOWN_SECONDS = 60


class ClientEvents:
    """Admits events of clients, and remembers for SHOWN_SECONDS who was refused.  clock_ns: see time.monotonic_ns().

    The last MAX_SHOWN of those are kept; that bounds only what is shown.
    """

    def __init__(self, clock_ns: "Callable[[], int]" = time.monotonic_ns) -> None:
        self._windows, self._clock = ClientWindows(), clock_ns
        self._refused = BoundedTable(MAX_SHOWN)  # (place, name) -> [how many times, when last]

    def admit(self, client: "Connection", name: str, limit: int, period_seconds: int) -> bool:
        """Return whether one more event of the client is within limit, and count it if it is."""
        is_admitted = self._windows.admit(name, place_of(client), limit, period_seconds, self._clock())
        if not is_admitted:
            self.note_refusal(client, name)
        return is_admitted

    def note_refusal(self, client: "Connection", name: str) -> None:
        """The client has just been refused by the limit of this name."""
        key = place_of(client), name
        now = self._clock()
        times, when = self._refused.get(key, (0, now))
        self._refused.put(key, (times + 1 if now - when < SHOWN_SECONDS * 10**9 else 1, now))

    def forget_old(self) -> None:
        """Forget events that no period reaches any more; to be called now and then."""
        self._windows.forget_old(self._clock())

    def limited(self) -> list[tuple[str, str, int, int]]:
        """Return (client, limit, times, nanoseconds since the last) of those refused lately, the last refused first."""
        now = self._clock()
        rows = [(shown_place(place), name, times, now - when) for (place, name), (times, when) in self._refused.items()]
        return [row for row in reversed(rows) if row[3] < SHOWN_SECONDS * 10**9]


def shown_place(place: bytes) -> str:
    """Return the text of what place_of() returns."""
    if place.startswith(b":"):
        return socket.inet_ntop(socket.AF_INET6, place[1:] + bytes(8)) + "/64"
    return place.decode("ascii") if b"." in place else f"uid {place.decode('ascii')}"
