"""When a service starts again, and the one timer of its supervisor.

A start comes at most once a second, and ever later while the service keeps ending soon after its start.
"""

MIN_SECONDS = 1


class RestartBackoff:
    """Seconds from one start to the next: 1, 2, 4 ... up to the maximum; 1 again after the service ran that long.

    seconds: after the last end; 0 before the first.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0

    def pause_seconds(self, ran_seconds: float, max_seconds: int) -> float:
        """Return how long to wait after a run that took ran_seconds.  max_seconds 0: one start a second, always."""
        if ran_seconds >= max_seconds:
            self.seconds = MIN_SECONDS
        else:
            self.seconds = max(MIN_SECONDS, min(self.seconds * 2, max_seconds))
        return max(0.0, self.seconds - ran_seconds)


class Alarm:
    """Calls ring(event) when the time set for the event has come: the next start, or that something is overdue.

    One event at a time: set() replaces the one before.
    """

    __slots__ = ("_loop", "_ring", "_timer")

    def __init__(self, loop, ring) -> None:
        self._loop, self._ring, self._timer = loop, ring, None

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self, seconds: float, event: str) -> None:
        self.cancel()
        self._timer = self._loop.after(seconds, lambda: self._fire(event))

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self, event):
        self._timer = None
        self._ring(event)
