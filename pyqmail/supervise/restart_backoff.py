"""When a service starts again: at most once a second, and ever slower while it keeps ending soon after its start."""

MIN_SECONDS = 1


class RestartBackoff:
    """Seconds from one start to the next: 1, 2, 4 ... up to the longest; 1 again after the service ran that long.

    seconds is what the last end led to; 0 before the first.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0

    def pause_seconds(self, ran_seconds: float, max_seconds: int) -> float:
        """Return how long to wait from now, after a run that took so long.  longest 0: always at most once a second."""
        if ran_seconds >= max_seconds:
            self.seconds = MIN_SECONDS
        else:
            self.seconds = max(MIN_SECONDS, min(self.seconds * 2, max_seconds))
        return max(0.0, self.seconds - ran_seconds)
