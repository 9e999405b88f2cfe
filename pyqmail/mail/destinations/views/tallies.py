"""How much mail there is, by lane or by sender, of a million recipients in a tenth of a second.

So the columns are gone through by what C does for the whole of one (map, compress, translate), and by Python only where
few rows are left.  A parcel that is neither on the wheel nor in flight is ready, and a lane knows how many recipients
it has: so only the first two are counted, and by lane only for those that are shown.

An owner of a parcel is a lane or a sender, by its number.  A tally is (in flight, on the wheel, bands of age).
"""

from array import array
from collections import Counter
from itertools import compress

from pyqmail.mail.destinations.scheduling.core import IN_FLIGHT, ON_WHEEL
from pyqmail.mail.destinations.views.age_bands import (
    Column,
    bands,
    bands_of_column,
    bands_of_sizes,
    bands_of_weighted,
    mask_of,
    rows_of,
)
from pyqmail.mail.destinations.waiting.rows import IS_STRUCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pyqmail.mail.destinations.waiting.rows import MailRows

    Sizes = Mapping[int, int] | None  # recipients of each parcel; None: each has one
    Tally = tuple[int, int, list[int]]

MANY_PARCELS = 40_000  # of one row: its births are looked at as a column


def sizes_of(rows: "MailRows") -> "Sizes":
    """Return the recipients of each parcel; None if each has one."""
    return None if rows.parcel_count == rows.recipient_count else Counter(rows.r_parcel)


def tally_all(rows: "MailRows", sizes: "Sizes", date: float) -> "Tally":
    """Return the tally of all mail."""
    flying, waiting = (_count(_marked(rows, mark), sizes) for mark in (IN_FLIGHT, ON_WHEEL))
    return flying, waiting, bands_of_weighted(rows.m_birth, rows.m_left, date)


def senders(rows: "MailRows") -> "Counter[int]":
    """Return how many recipients the mail of each sender has."""
    found: Counter[int] = Counter(compress(rows.m_sender, rows.m_left))
    for row in rows_of(Column(rows.m_left).above(1), len(rows.m_left)):
        found[rows.m_sender[row]] += rows.m_left[row] - 1
    return found


def senders_of_parcels(rows: "MailRows") -> "array[int]":
    """Return the sender of each parcel."""
    return array("I", map(rows.m_sender.__getitem__, rows.p_message))


def tally_groups(
    rows: "MailRows",
    owners: "array[int]",
    groups: "Sequence[Collection[int]]",
    totals: list[int],
    sizes: "Sizes",
    date: float,
) -> "list[Tally]":
    """Return the tally of each group of owners.

    owners: of each parcel.  totals: about how many recipients each group has.
    """
    large = {number for number, total in enumerate(totals) if sizes is None and total >= MANY_PARCELS}
    group_of = {owner: number for number, group in enumerate(groups) if number not in large for owner in group}
    parcels = parcels_of(rows, owners, group_of, len(groups))
    return [
        _tally_column(rows, owners, set(group), date) if number in large else _tally_list(rows, some, sizes, date)
        for number, (group, some) in enumerate(zip(groups, parcels, strict=True))
    ]


def parcels_of(rows: "MailRows", owners: "array[int]", group_of: "Mapping[int, int]", count: int) -> list[list[int]]:
    """Return the parcels of each of `count` groups; group_of: owner -> its group."""
    found: list[list[int]] = [[] for _ in range(count)]
    if group_of:
        messages = rows.p_message
        for parcel in compress(range(len(owners)), map(group_of.__contains__, owners)):
            if messages[parcel]:
                found[group_of[owners[parcel]]].append(parcel)
    return found


def _tally_list(rows: "MailRows", parcels: list[int], sizes: "Sizes", date: float) -> "Tally":
    births, flags = _births(rows, parcels), bytes(map(rows.p_flags.__getitem__, parcels))
    if sizes is None:
        flying, waiting = (flags.translate(_table(mark)).count(1) for mark in (IN_FLIGHT, ON_WHEEL))
        return flying, waiting, bands(births, date)
    weights = list(map(sizes.__getitem__, parcels))
    flying, waiting = (sum(compress(weights, flags.translate(_table(mark)))) for mark in (IN_FLIGHT, ON_WHEEL))
    return flying, waiting, bands_of_sizes(births, weights, date)


def _births(rows: "MailRows", parcels: list[int]) -> "Iterator[int]":
    return map(rows.m_birth.__getitem__, map(rows.p_message.__getitem__, parcels))


def _tally_column(rows: "MailRows", owners: "array[int]", group: set[int], date: float) -> "Tally":
    """So of a group with many parcels of one recipient each."""
    mask = Column(rows.p_message).above(0) & mask_of(bytes(map(group.__contains__, owners)))
    flying, waiting = ((mask & mask_of(_marked(rows, mark))).bit_count() for mark in (IN_FLIGHT, ON_WHEEL))
    messages = compress(rows.p_message, mask.to_bytes(len(owners), "little"))
    births = array("I", map(rows.m_birth.__getitem__, messages))
    return flying, waiting, bands_of_column(births, mask_of(bytes([1]) * len(births)), date)


def _marked(rows: "MailRows", mark: int) -> bytes:
    """Return a byte for each parcel's row: 1 if it has the mark and is not struck."""
    return rows.p_flags.tobytes().translate(_table(mark))


def _table(mark: int) -> bytes:
    return bytes((flags & (mark | IS_STRUCK)) == mark for flags in range(256))


def _count(mask: bytes, sizes: "Sizes") -> int:
    return mask.count(1) if sizes is None else sum(map(sizes.__getitem__, compress(range(len(mask)), mask)))
