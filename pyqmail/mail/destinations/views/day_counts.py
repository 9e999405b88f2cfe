"""What became of the mail of this day, by organisation: for the state file, and for those who ask.

A day is one of UTC.  There are MAX_NAMES names at most; of those that come later, the sum stands under the empty name.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.waiting.timers import Clock

DAY_SECONDS = 86400
MAX_NAMES = 10_000
NAMES = "accepted", "deferred", "failed", "refused"


class DayCounts:
    """Counts in the order of NAMES: deliveries accepted, deferred and failed, sessions refused.

    began: the date at which the day did.
    """

    __slots__ = ("began", "_clock", "_end", "_counts")

    def __init__(self, clock: "Clock", now: float) -> None:
        self._clock, self._counts = clock, dict[bytes, list[int]]()
        self.began = self._end = 0.0
        self.turn(now)

    def add(self, name: bytes, what: int, now: float) -> None:
        """Count one more of an organisation; what: the number of one of NAMES."""
        if now >= self._end:
            self.turn(now)
        counts = self._counts.get(name)
        if counts is None:
            counts = self._new(name)
        counts[what] += 1

    def restore(self, name: bytes, began: float, counts: list[int], now: float) -> None:
        """Take over what was counted before, if it was today."""
        self.turn(now)
        if began == self.began:
            sums = self._counts.get(name) or self._new(name)
            sums[:] = [one + other for one, other in zip(sums, counts, strict=True)]

    def items(self, now: float) -> list[tuple[bytes, list[int]]]:
        """Return (name, counts) of all that have any today."""
        self.turn(now)
        return list(self._counts.items())

    def of(self, name: bytes, now: float) -> list[int]:
        """Return the counts of an organisation today."""
        self.turn(now)
        return list(self._counts.get(name, (0,) * len(NAMES)))

    def turn(self, now: float) -> None:
        """Begin a new day if it is another one."""
        date = self._clock.date(now)
        began = date - date % DAY_SECONDS
        self._end = now + began + DAY_SECONDS - date
        if began != self.began:
            self.began, self._counts = began, {}

    def _new(self, name: bytes) -> list[int]:
        if len(self._counts) >= MAX_NAMES:
            name = b""
        return self._counts.setdefault(name, [0] * len(NAMES))
