"""The dates that stand on disk: of each message, when the first of what is deferred of it is due."""

from array import array

from pyqmail.mail.destinations.orders import DUE
from pyqmail.mail.destinations.scheduling.core import IS_PARKED, ON_WHEEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.scheduling.core import Core

FEW_PARCELS = 64  # a message with more is looked through at most every LATER_SECONDS
LATER_SECONDS = 30.0


class DueDates:
    """Orders DUE when the earliest date of a message has changed; flush() looks at those of which it may have.

    A date on disk matters after a restart only: what it says is too early does no harm but a try too soon.
    """

    __slots__ = ("_core", "_told", "_changed", "_large")

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._told = array("I", [0])  # of a row: the second that was ordered, 0: none
        self._changed: dict[int, None] = {}
        self._large: dict[int, None] = {}  # those of many parcels that have changed

    def changed(self, message: int) -> None:
        """A parcel of a message was put on the wheel."""
        self._changed[message] = None

    def is_told(self, message: int, second: int) -> None:
        """The message came with this date."""
        self._grow(message)
        self._told[message] = second

    def clear(self, message: int) -> None:
        """The message is gone."""
        if self._changed:
            self._changed.pop(message, None)
        if self._large:
            self._large.pop(message, None)
        if message < len(self._told):
            self._told[message] = 0

    def flush(self) -> None:
        """Order what has changed."""
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        for message in changed:
            if message in self._large:
                continue
            if self._has_many(message):
                self._large[message] = None
                self._core.timers.after(LATER_SECONDS, self._tell_large, message)
            else:
                self._tell(message)

    def _has_many(self, message: int) -> bool:
        parcels = self._core.rows.parcels(message)
        return sum(1 for _, _ in zip(range(FEW_PARCELS + 1), parcels, strict=False)) > FEW_PARCELS

    def _tell_large(self, message: int, now: float) -> None:
        if self._large.pop(message, 0) is None:
            self._tell(message)

    def _tell(self, message: int) -> None:
        rows = self._core.rows
        waiting = [
            rows.p_due[parcel]
            for parcel in rows.parcels(message)
            if rows.p_flags[parcel] & (ON_WHEEL | IS_PARKED) == ON_WHEEL
        ]
        if not waiting:
            return
        self._grow(message)
        first = min(waiting)
        if self._told[message] != first:
            self._told[message] = first
            self._core.orders.append((DUE, rows.m_number[message], self._core.clock.date_of_second(first)))

    def _grow(self, message: int) -> None:
        while len(self._told) <= message:
            self._told.append(0)
