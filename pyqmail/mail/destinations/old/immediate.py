"""The engine for channels without sessions: a delivery is a session of exactly one recipient.

Nothing is known here of greetings: as with the original, destinations that do not answer can fill the total.
"""

import collections

from pyqmail.mail.destinations.old.orders import DELIVER
from pyqmail.mail.destinations.old.parcels import by_domain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

    from pyqmail.mail.destinations.old.lanes import Message, Recipient
    from pyqmail.mail.destinations.old.parcels import Grouping
    from pyqmail.mail.destinations.outcome import Outcome


class Immediate:
    """`used` of `total` deliveries run; recipients of one parcel start one by one, lanes in turn.

    group says which recipients make a parcel, and in which lane (parcels.py).
    """

    connecting = 0

    def __init__(self, total: int, group: "Grouping" = by_domain) -> None:
        self.total, self.used, self._group = total, 0, group
        self._lanes: dict[Hashable, collections.deque[list[Recipient]]] = {}  # key -> parcels, none of them empty
        self._ring: collections.deque[Hashable] = collections.deque()  # the keys of lanes that have parcels
        self._orders: list[tuple[Any, ...]] = []
        self._stopped = False

    def arrived(self, message: "Message", recipients: "list[Recipient]", now: float) -> None:
        """Recipients of a message are due.  The list belongs to the engine from now on."""
        for lane, parcel in self._group(message, recipients):
            parcel.reverse()  # so that taking the first is cheap
            parcels = self._lanes.get(lane)
            if parcels is None:
                self._lanes[lane] = collections.deque((parcel,))
                self._ring.append(lane)
            else:
                parcels.append(parcel)

    def result(self, recipient: "Recipient", outcome: "Outcome | None", now: float) -> None:
        """A delivery has ended; outcome is None if it was not made after all."""
        self.used -= 1

    def advance(self, now: float) -> None:
        """Start what may start."""
        ring, lanes = self._ring, self._lanes
        while ring and self.used < self.total and not self._stopped:
            lane = ring.popleft()
            parcels = lanes[lane]
            parcel = parcels.popleft()
            self.used += 1
            self._orders.append((DELIVER, None, (parcel.pop(),)))
            if parcel:
                parcels.append(parcel)
            if parcels:
                ring.append(lane)
            else:
                del lanes[lane]

    def stop(self) -> None:
        """Start nothing more."""
        self._stopped = True

    def next_time(self) -> float | None:
        """Return when advance() must be called even if nothing happens."""
        return None

    def take_orders(self) -> "list[tuple[Any, ...]]":
        """Return the orders (orders.py) that were not taken before."""
        orders, self._orders = self._orders, []
        return orders

    def log_lines(self, now: float) -> list[bytes]:
        return []
