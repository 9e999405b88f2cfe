"""What happened in the last minute, by organisation."""

ACCEPTED_DELIVERY, DEFERRED_DELIVERY, FAILED_DELIVERY, REFUSED_SESSION = 0, 1, 2, 3
_SLOTS, _SLOT_SECONDS = 12, 5


class RecentCounts:
    """A ring of 12 tables of 5 s: what is older than a minute costs nothing."""

    __slots__ = ("_tables", "_slot")

    def __init__(self) -> None:
        self._tables: list[dict[bytes, list[int]]] = [{} for _ in range(_SLOTS)]
        self._slot = 0

    def add(self, name: bytes, what: int, now: float) -> None:
        """Count one more for an organisation; what: one of the four above."""
        slot = int(now // _SLOT_SECONDS)
        if slot > self._slot:
            self._turn_to(slot)
        table = self._tables[slot % _SLOTS]
        counts = table.get(name)
        if counts is None:
            counts = table[name] = [0, 0, 0, 0]
        counts[what] += 1

    def totals(self, now: float) -> dict[bytes, list[int]]:
        """Return name -> [accepted, deferred, failed, refused] of the last minute."""
        self._turn_to(int(now // _SLOT_SECONDS))
        found: dict[bytes, list[int]] = {}
        for table in self._tables:
            for name, counts in table.items():
                sums = found.setdefault(name, [0, 0, 0, 0])
                for what, count in enumerate(counts):
                    sums[what] += count
        return found

    def _turn_to(self, slot: int) -> None:
        for old in range(max(slot - _SLOTS + 1, self._slot + 1), slot + 1):
            self._tables[old % _SLOTS] = {}
        self._slot = max(self._slot, slot)
