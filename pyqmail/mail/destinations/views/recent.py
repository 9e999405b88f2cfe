"""What happened in the last minute, by organisation."""

ACCEPTED_DELIVERY, DEFERRED_DELIVERY, FAILED_DELIVERY, REFUSED_SESSION = 0, 1, 2, 3
_SLOTS, _SLOT_SECONDS = 12, 5


class RecentCounts:
    """A ring of 12 tables of 5 s: what is older than a minute costs nothing."""

    __slots__ = ("_tables", "_slot", "_table", "_until")

    def __init__(self) -> None:
        self._tables: list[dict[bytes, list[int]]] = [{} for _ in range(_SLOTS)]
        self._slot, self._until = 0, 0.0  # of the present table, and when its time is over
        self._table = self._tables[0]

    def add(self, name: bytes, what: int, now: float) -> None:
        """Count one more for an organisation; what: one of the four above."""
        if now >= self._until:
            self._turn_to(int(now // _SLOT_SECONDS))
        table = self._table
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
        self._table, self._until = self._tables[self._slot % _SLOTS], (self._slot + 1) * float(_SLOT_SECONDS)
