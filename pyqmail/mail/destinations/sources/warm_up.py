"""Warm-up: how much a new source may carry to an organisation on each of its days, and how much it has.

On day 0, which begins with the date that is written, a source may carry FIRST_DAY recipients to each organisation; each
day half as many again, until it binds no more.  A parcel counts when it gets the source, and counts once, however often
it is tried; so what exceeds the budget is known at once, and goes to other sources.

After a restart mail that was tried before finds its source again: a day's record says how much got the source, and when
it was full.  What was born that day before that date claims its place, without being counted again, and in
all no more than was counted.  Mail that was not tried yet counts like new mail.

Source: 200 recipients, then half as many again each day, fits the schedules that providers have published.
"""

from math import floor

from pyqmail.mail.destinations.sources.pools import DAY, FIRST_DAY, WARM_UP_DAYS
from pyqmail.mail.destinations.state_file import WarmUpRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyqmail.mail.destinations.rules.policies import PoolMember

    Key = tuple[bytes, bytes, int]  # source, organisation, day

GROWTH = 1.5
KEPT_DAYS = 8  # what is queued may be as old
MAX_RECORDS = 200_000


def budget_of_day(day: int) -> int:
    """Return how many recipients a source may carry to an organisation on a day of its warm-up, the first is 0."""
    return int(FIRST_DAY * GROWTH**day) if day >= 0 else 0


def day_of(member: "PoolMember", date: float) -> int | None:
    """Return the day of a source's warm-up, negative before it; None: it is in no warm-up any more."""
    if member.warm_from is None:
        return None
    day = floor((date - member.warm_from) / DAY)
    return day if day < WARM_UP_DAYS else None


class _Day:
    """count: recipients that got the source; full_at: when no more could, 0.0 until then; claimed: since the start."""

    __slots__ = ("count", "full_at", "claimed", "seen")

    def __init__(self, count: int = 0, full_at: float = 0.0, seen: float = 0.0) -> None:
        self.count, self.full_at, self.claimed, self.seen = count, full_at, 0, seen


class WarmUps:
    """What sources in warm-up have carried, by source, organisation and day."""

    def __init__(self) -> None:
        self._days: dict[Key, _Day] = {}

    def take(self, member: "PoolMember", organisation: bytes, count: int, date: float) -> bool:
        """Return whether a source may carry so many recipients more to an organisation; they are counted then."""
        day = day_of(member, date)
        if day is None:
            return True
        if day < 0:
            return False
        record, most = self._record(member.address, organisation, day, date), budget_of_day(day)
        if record.count + count > most:
            return False
        record.count += count
        if record.count == most:
            record.full_at = date
        return True

    def claim(self, member: "PoolMember", organisation: bytes, count: int, birth: float, date: float) -> bool:
        """As take(), of recipients born at a date that were tried before a restart: did they have the source?"""
        day = day_of(member, birth)
        if day is None or day < 0:
            return day_of(member, date) is None
        record = self._days.get((member.address, organisation, day))
        if record is None or record.full_at and birth >= record.full_at or record.claimed + count > record.count:
            return False
        record.claimed += count
        return True

    def left(self, member: "PoolMember", organisation: bytes, date: float) -> int | None:
        """Return how many recipients a source may still carry there today; None: it is in no warm-up."""
        day = day_of(member, date)
        if day is None:
            return None
        record = self._days.get((member.address, organisation, day))
        return max(0, budget_of_day(day) - (record.count if record is not None else 0))

    def records(self, date: float) -> list[WarmUpRecord]:
        """Return what is to be remembered, for the state file; what is older than KEPT_DAYS is forgotten."""
        self._days = {key: one for key, one in self._days.items() if date - one.seen <= KEPT_DAYS * DAY}
        found = []
        for (source, organisation, day), one in self._days.items():
            record = WarmUpRecord(source, organisation, b"%d" % day)
            record.seen, record.count, record.full = one.seen, one.count, one.full_at
            found.append(record)
        return found

    def restore(self, records: "Iterable[WarmUpRecord]") -> None:
        """Take over what records() gave."""
        for record in records:
            if record.day.isdigit() and len(record.day) < 3 and len(self._days) < MAX_RECORDS:
                key = record.source, record.organisation, int(record.day)
                self._days[key] = _Day(record.count, record.full, record.seen)

    def _record(self, source: bytes, organisation: bytes, day: int, date: float) -> _Day:
        key = source, organisation, day
        record = self._days.get(key)
        if record is None:
            if len(self._days) >= MAX_RECORDS:
                del self._days[next(iter(self._days))]
            record = self._days[key] = _Day()
        record.seen = date
        return record
