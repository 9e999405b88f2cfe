"""Pauses between the tries of something that failed for a reason that may pass: each twice the one before.

Whatever tries again by itself waits for next_seconds() first, and calls reset() once it has worked: a lack of memory or
of descriptors that lasts a second must not become a thousand tries.  A service that ends again and again has its
own pace, which counts how long it ran (supervise/timing.py).
"""


class Backoff:
    """Pauses of first_seconds, twice that, ... and at most max_seconds.

    tries: how many failures there were since the last reset().  0 before next_seconds() means that this failure is
    news, and worth a line in the log; those after it are not.
    """

    __slots__ = ("_first", "_max", "tries")

    def __init__(self, first_seconds: float = 0.05, max_seconds: float = 10.0) -> None:
        self._first, self._max, self.tries = first_seconds, max_seconds, 0

    def next_seconds(self) -> float:
        """Count a failure; return how long to wait before the next try."""
        pause = min(self._first * (1 << min(self.tries, 30)), self._max)
        self.tries += 1
        return pause

    def reset(self) -> None:
        """It worked: the next failure begins with the shortest pause again."""
        self.tries = 0
