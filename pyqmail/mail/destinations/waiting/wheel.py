"""Wait for a time: a timing wheel of four levels with 256 slots each, over columns of rows.

The levels turn once in 256 s, 18.2 h, 194 d and 136 years.  A row stands in the lowest level whose next turn reaches
its time; when a slot of a higher level comes up, its rows go down.  So a row moves at most three times, whatever else
waits.  Rows link through a column; which slots are in use is a number of 256 bits for each level, so empty time costs
nothing.
Source: Varghese and Lauck, Hashed and hierarchical timing wheels, 1987
"""

from array import array

_SLOTS, _LEVELS, _BITS, _LAST = 256, 4, 8, 255
_ALL_SLOTS = (1 << _SLOTS) - 1


class Wheel:
    """Rows by the second at which they are due.  Entries cannot be taken out: the owner looks at each that comes up.

    Seconds are whole, at least 0 and below 2**32.
    """

    __slots__ = ("_next", "_time", "_heads", "_in_use", "_now", "_late", "_count", "_soonest")

    def __init__(self, next_column: "array[int]", time_column: "array[int]", start: int) -> None:
        """start: the second up to which everything has come up."""
        self._next, self._time, self._now = next_column, time_column, start
        self._heads = array("I", bytes(4 * _SLOTS * _LEVELS))
        self._in_use = [0] * _LEVELS
        self._late: list[int] = []  # their time has passed already
        self._count = 0
        self._soonest: int | None = None  # when the next slot in use comes up

    def __len__(self) -> int:
        return self._count

    def add(self, row: int, when_seconds: int) -> None:
        """Put in a row, which must not be in it; one whose time has passed comes up at the next advance."""
        self._time[row] = when_seconds
        self._count += 1
        if when_seconds <= self._now:
            self._late.append(row)
        else:
            self._place(row, when_seconds)

    def advance(self, now_seconds: int) -> list[int]:
        """Take out the rows that are due at this second or were before, earliest first, else in the order they came."""
        when = self._soonest
        if not self._late and (when is None or when > now_seconds):
            self._now = max(self._now, now_seconds)
            return []
        due, self._late = self._late, []
        while when is not None and when <= now_seconds:
            self._now = when
            for level in range(_LEVELS - 1, 0, -1):
                if not when & (1 << _BITS * level) - 1:
                    for row in self._empty(level, when >> _BITS * level & _LAST):
                        self._place(row, self._time[row])
            due += self._empty(0, when & _LAST)
            when = self._soonest = self._next_slot()
        self._now = max(self._now, now_seconds)
        self._count -= len(due)
        return due

    def drain(self) -> list[int]:
        """Take out all rows, whenever they are due, in no particular order."""
        rows, self._late = self._late, []
        for level in range(_LEVELS):
            for slot in range(_SLOTS):
                if self._in_use[level] >> slot & 1:
                    rows += self._empty(level, slot)
        self._count, self._soonest = 0, None
        return rows

    def next_time(self) -> int | None:
        """Return the second at which to advance again, None for an empty wheel.  Nothing may be due then."""
        return self._now if self._late else self._soonest

    def _place(self, row: int, when: int) -> None:
        level, far = 0, when - self._now
        while far >= _SLOTS:
            far >>= _BITS
            level += 1
        slot = when >> _BITS * level & _LAST
        head = level * _SLOTS + slot
        self._next[row], self._heads[head] = self._heads[head], row
        self._in_use[level] |= 1 << slot
        up = when >> _BITS * level << _BITS * level  # when the slot comes up
        if self._soonest is None or up < self._soonest:
            self._soonest = up

    def _empty(self, level: int, slot: int) -> list[int]:
        """Return the rows of a slot in the order in which they came, and leave it empty."""
        rows: list[int] = []
        head = level * _SLOTS + slot
        row, self._heads[head] = self._heads[head], 0
        while row:
            rows.append(row)
            row = self._next[row]
        self._in_use[level] &= ~(1 << slot)
        rows.reverse()
        return rows

    def _next_slot(self) -> int | None:
        """Return when the next slot in use comes up, of any level."""
        best = None
        for level, in_use in enumerate(self._in_use):
            if in_use:
                turn = (self._now >> _BITS * level) + 1
                start = turn & _LAST
                ahead = (in_use >> start | in_use << _SLOTS - start) & _ALL_SLOTS
                when = turn + (ahead & -ahead).bit_length() - 1 << _BITS * level
                if best is None or when < best:
                    best = when
        return best
