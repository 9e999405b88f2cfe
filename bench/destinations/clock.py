"""A virtual clock: what is to happen, by its time.  The date runs beside it, and may be set."""

import heapq


class Clock:
    """now: monotonic seconds; date: Unix seconds, of which a scenario may set the clock forward or back."""

    def __init__(self, now: float = 1000.0, date: float = 1_800_000_000.0):
        self.now, self._offset = now, date - now
        self._events, self._count = [], 0

    @property
    def date(self) -> float:
        return self.now + self._offset

    def set_date(self, change: float):
        """Set the date forward, or back if change is negative; nothing else notices."""
        self._offset += change

    def at(self, when: float, action, *arguments):
        """Call action(*arguments) at a time; what is due at the same time comes in the order of these calls."""
        self._count += 1
        heapq.heappush(self._events, (max(when, self.now), self._count, action, arguments))

    def after(self, seconds: float, action, *arguments):
        self.at(self.now + seconds, action, *arguments)

    def next_time(self) -> float | None:
        return self._events[0][0] if self._events else None

    def run_next(self):
        """Go to the time of the next event and let it happen."""
        self.now, _, action, arguments = heapq.heappop(self._events)
        action(*arguments)

    def run(self, until: float | None = None):
        """Let everything happen, or what happens up to a time, at which the clock stands then."""
        while self._events and (until is None or self._events[0][0] <= until):
            self.run_next()
        if until is not None:
            self.now = max(self.now, until)
