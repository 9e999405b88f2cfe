"""How long the turns of a loop are: the longest one of the last minute."""

_SLOT_SECONDS = 5
_SLOTS = 12


class TurnMeter:
    """Keeps the longest turn of each five seconds, for a minute."""

    def __init__(self) -> None:
        self._longest = [0.0] * _SLOTS
        self._slot = 0  # counted since the clock's zero

    def note(self, start: float, end: float) -> None:
        """A turn has ended; both are time.monotonic()."""
        slot = int(end) // _SLOT_SECONDS
        if slot != self._slot:
            self._forget(slot)
        at = slot % _SLOTS
        self._longest[at] = max(self._longest[at], end - start)

    def longest(self, now: float) -> float:
        """Return how many seconds the longest turn took of those that ended in the last minute."""
        self._forget(int(now) // _SLOT_SECONDS)
        return max(self._longest)

    def _forget(self, slot: int) -> None:
        """Clear the slots that are used again from now on."""
        for number in range(max(self._slot + 1, slot - _SLOTS + 1), slot + 1):
            self._longest[number % _SLOTS] = 0.0
        self._slot = slot
