"""The one event that is due next for a service: the next start, or that something is overdue."""


class Alarm:
    """Calls ring(event) when the time set for it has come, unless it is cancelled before."""

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
