"""When the log needs a status line though nothing started or ended.  Pure: the time is given."""

QUIET_SECONDS = 1.0


class StatusLine:
    """What the last status line showed, and when that was."""

    def __init__(self) -> None:
        self._numbers, self._when = None, 0.0

    def shown(self, numbers: tuple[int, int], now: float) -> None:
        """A line with these numbers was written."""
        self._numbers, self._when = numbers, now

    def due(self, numbers: tuple[int, int]) -> float | None:
        """Return when a line is needed if none comes before: a second after the last; None if that still holds."""
        return None if numbers == self._numbers else self._when + QUIET_SECONDS
