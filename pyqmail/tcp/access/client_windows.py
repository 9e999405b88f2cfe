"""How many events of each client fell into the last so many seconds: at most N of them are admitted.

The time is cut into buckets of a sixtieth of the period.  An event is admitted if the bucket of now and the 60 before
it hold fewer than N admitted ones.  Two things follow, and are what the tests ask of it:

    no period, wherever it begins, ever holds more than N admitted events: 61 buckets cover it
    an event is refused only because of events of the last 61/60 of a period

What is kept of a client is a tuple, (bucket, count, bucket, count...), the newest last, of buckets that hold something.
A refused event leaves nothing.

Clients stand in two tables: those with an event in this generation of 61 buckets, and those with one in the generation
before.  When a generation ends, what had no event in it is forgotten as a whole: nobody looks for old entries.

Bounds.  All tables together hold MAX_BUCKETS buckets, and the shared entries.  No client is ever pushed out by
others.  When there is no room, a client that is not there yet shares one of SHARED_PLACES entries with others that
came so late; and a client that is there has its newest bucket moved to now.  Both can refuse too early, and neither
admits too much.  Periods: see MAX_TABLES; the one that was asked for longest ago goes first.  All times are given, in
nanoseconds.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    Counts = tuple[int, ...]

BUCKETS = 60  # of a period
MAX_BUCKETS = 200_000
MAX_TABLES = 64
SHARED_PLACES = 4096
_GENERATION = BUCKETS + 1
_SECOND = 1_000_000_000


class ClientWindows:
    """Counts admitted events by name and place; max_buckets: see above."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._tables: dict[tuple[str, int], _Table] = {}
        self._max_buckets = max_buckets

    def __len__(self) -> int:
        """Return how many buckets are kept."""
        return sum(table.size for table in self._tables.values())

    def admit(self, name: str, place: "Hashable", limit: int, period_seconds: int, now_ns: int) -> bool:
        """Return whether one more event of place is within limit, and count it if it is.  limit: 0 for none."""
        table = self._table(name, period_seconds)
        bucket = table.move_on(now_ns * BUCKETS // (period_seconds * _SECOND))
        place = self._entry_of(table, place, now_ns)
        counts = table.recent(place, bucket)
        if 0 < limit <= sum(counts[1::2]):
            return False
        if counts and counts[-2] == bucket:
            counts = (*counts[:-1], counts[-1] + 1)
        elif counts and not self._has_room(now_ns):
            counts = (*counts[:-2], bucket, counts[-1] + 1)
        else:
            counts = (*counts, bucket, 1)
        table.put(place, counts)
        return True

    def forget_old(self, now_ns: int) -> None:
        """Forget what no period reaches any more."""
        for key, table in list(self._tables.items()):
            table.move_on(now_ns * BUCKETS // (key[1] * _SECOND))
            if not table.size:
                del self._tables[key]

    def _table(self, name, period_seconds):
        key = name, period_seconds
        table = self._tables.pop(key, None) or _Table()
        self._tables[key] = table  # the newest is the last
        if len(self._tables) > MAX_TABLES:
            del self._tables[next(iter(self._tables))]
        return table

    def _entry_of(self, table, place, now_ns):
        """Return under what the events of place are counted: its own entry, or one of those that are shared."""
        if table.has(place):
            return place
        shared = hash(place) % SHARED_PLACES
        return shared if table.has(shared) or not self._has_room(now_ns) else place

    def _has_room(self, now_ns):
        if len(self) < self._max_buckets:
            return True
        for (_, period_seconds), table in self._tables.items():
            table.move_on(now_ns * BUCKETS // (period_seconds * _SECOND))
        return len(self) < self._max_buckets


class _Table:
    """The clients of one name and period.  size: the buckets that are kept."""

    __slots__ = ("size", "_generation", "_bucket", "_new", "_old", "_new_size")

    def __init__(self) -> None:
        self.size = self._new_size = self._generation = self._bucket = 0
        self._new: dict[Hashable, Counts] = {}
        self._old: dict[Hashable, Counts] = {}

    def move_on(self, bucket):
        """The present bucket is this one; what only older generations have is forgotten.

        Returns the bucket: all clients share this one number, which is a fifth of what would be kept of most.
        """
        if bucket == self._bucket:
            return self._bucket
        self._bucket = bucket
        generation = bucket // _GENERATION
        if generation == self._generation:
            return bucket
        is_next = generation == self._generation + 1
        self._old = self._new if is_next else {}
        self.size = self._new_size if is_next else 0
        self._new, self._new_size, self._generation = {}, 0, generation
        return bucket

    def has(self, place):
        """Return whether place has an event that may still count."""
        return place in self._new or (place in self._old and self._old[place][-2] >= self._bucket - BUCKETS)

    def recent(self, place, bucket):
        """Return what place has in this bucket and the 60 before it."""
        counts = self._new.get(place) or self._old.get(place, ())
        oldest, start = bucket - BUCKETS, 0
        while start < len(counts) and counts[start] < oldest:
            start += 2
        return counts[start:] if start else counts

    def put(self, place, counts):
        """Keep this of place."""
        before = self._new.get(place)
        if before is None:
            self.size -= len(self._old.pop(place, ())) >> 1
            before = ()
        change = (len(counts) - len(before)) >> 1
        self.size += change
        self._new_size += change
        self._new[place] = counts
