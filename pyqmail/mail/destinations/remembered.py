"""A bounded memory of when something happened to whom."""

import collections

MAX_REMEMBERED = 100_000  # destinations that greeted, and as many that were tried in vain


class Remembered:
    """Keys with a time each, the oldest first, of which the oldest go when there are more than MAX_REMEMBERED."""

    def __init__(self) -> None:
        self._times: collections.OrderedDict[bytes, float] = collections.OrderedDict()

    def note(self, key: bytes, now: float) -> None:
        self._times[key] = now
        self._times.move_to_end(key)
        if len(self._times) > MAX_REMEMBERED:
            self._times.popitem(last=False)

    def forget(self, key: bytes) -> None:
        self._times.pop(key, None)

    def time(self, key: bytes) -> float | None:
        return self._times.get(key)

    def __len__(self) -> int:
        return len(self._times)
