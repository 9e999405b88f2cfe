"""A bounded memory of when something happened to whom."""

from pyqmail.base.bounded_table import BoundedTable

MAX_REMEMBERED = 100_000  # destinations that greeted, and as many that were tried in vain


class Remembered:
    """Keys with a time each, the oldest first, of which the oldest go when there are more than MAX_REMEMBERED."""

    def __init__(self) -> None:
        self._times = BoundedTable(MAX_REMEMBERED)

    def note(self, key: bytes, now: float) -> None:
        self._times.put(key, now)

    def forget(self, key: bytes) -> None:
        self._times.drop(key)

    def time(self, key: bytes) -> float | None:
        when: float | None = self._times.get(key)
        return when

    def __len__(self) -> int:
        return len(self._times)
