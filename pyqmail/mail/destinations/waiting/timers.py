"""What is to be done at a time, and the clock that turns dates into times and back."""

import heapq
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SLACK_SECONDS = 0.05  # the date is read a moment after the time
LAST_SECOND = 0xFFFF0000  # of the wheels, whose entries have 32 bits: 136 years
JUMP_SECONDS = 300.0  # a date that differs by more from what was expected was set


class Timers:
    """Actions by time.  None is ever taken out: an action looks whether what it was for is still so."""

    __slots__ = ("_heap", "_serial", "_now")

    def __init__(self, now: float) -> None:
        self._now = now
        self._heap: list[tuple[float, int, Callable[[Any, float], None], Any]] = []
        self._serial = 0

    @property
    def now(self) -> float:
        """When run() was last called; the start before that."""
        return self._now

    def at(self, when: float, action: "Callable[[Any, float], None]", subject: "Any") -> None:
        """Call action(subject, now) at the first run() from `when` on."""
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, action, subject))

    def after(self, seconds: float, action: "Callable[[Any, float], None]", subject: "Any") -> None:
        """So, so long after the last run()."""
        self.at(self._now + seconds, action, subject)

    def run(self, now: float) -> None:
        """Do what is due; what is put in meanwhile waits for the next run."""
        self._now = now
        heap, last = self._heap, self._serial
        if not heap or heap[0][0] > now:
            return
        later = []
        while heap and heap[0][0] <= now:
            entry = heapq.heappop(heap)
            if entry[1] > last:
                later.append(entry)
            else:
                entry[2](entry[3], now)
        for entry in later:
            heapq.heappush(heap, entry)

    def next_time(self) -> float | None:
        return self._heap[0][0] if self._heap else None


class Clock:
    """Dates and monotonic time.  The wheels turn by `second(now)`: whole seconds of monotonic time, never set back.

    A second of the wheels begins with a second of the date, so a retry time is kept to the second.
    """

    __slots__ = ("_start", "_offset")

    def __init__(self, now: float, date: float) -> None:
        self._start, self._offset = now - date % 1.0, date - now

    def set_date(self, date: float, now: float) -> float:
        """Take the date of this moment; return by how many seconds it was set, 0.0 if time has just passed."""
        jump = date - now - self._offset
        self._offset = date - now
        return jump if abs(jump) > JUMP_SECONDS else 0.0

    def date(self, now: float) -> float:
        return now + self._offset

    def second(self, now: float) -> int:
        """Return the second of the wheels that has begun."""
        return int(now - self._start)

    def time_of_second(self, second: int) -> float:
        """Return when a second of the wheels begins."""
        return self._start + second

    def second_of_date(self, date: float, now: float) -> int:
        """Return the first second of the wheels that begins at a date or later; 0 for what is past long ago.

        What lies further ahead than LAST_SECOND, by a wrong date or a lifetime without end, is due then.
        """
        return max(0, math.ceil(min(date - self._offset - self._start - SLACK_SECONDS, LAST_SECOND)))

    def date_of_second(self, second: int) -> int:
        """Return the date at which a second of the wheels begins."""
        return round(self._start + second + self._offset)
