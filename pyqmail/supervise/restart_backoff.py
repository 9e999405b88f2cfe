"""The pace of restarts: at most once a second, or ever slower while a service keeps ending shortly after its start."""

SHORTEST_SECONDS = 1


class RestartBackoff:
    """Seconds from one start to the next: 1, 2, 4 ... up to the longest; 1 again after the service ran that long.

    seconds is what the last end led to; 0 before the first.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0

    def ended(self, ran_seconds: float, longest_seconds: int) -> float:
        """Return how long to wait from now, after a run that took so long.  longest 0: always at most once a second."""
        if ran_seconds >= longest_seconds:
            self.seconds = SHORTEST_SECONDS
        else:
            self.seconds = max(SHORTEST_SECONDS, min(self.seconds * 2, longest_seconds))
        return max(0.0, self.seconds - ran_seconds)
