"""How much mail there is, by lane and by age, of a million recipients in a tenth of a second.

So the columns are gone through by what C does for the whole of one (map, compress, Counter, translate), and by Python
only where few rows are left.  A parcel that is neither on the wheel nor in flight is ready, and a lane knows how many
recipients it has: so only the first two are counted, and by lane only for those lanes that are shown.
"""

from array import array
from bisect import bisect_right
from collections import Counter
from itertools import compress

from pyqmail.mail.destinations.waiting.rows import IS_STRUCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyqmail.mail.destinations.waiting.rows import MailRows

    Sizes = Mapping[int, int] | None  # recipients of each parcel; None: each has one

BANDS = tuple(60 * minutes for minutes in (5, 10, 20, 40, 80, 160, 320, 640, 1280))  # seconds; a tenth is older
_NOT_ZERO = bytes(value > 0 for value in range(256))
_MORE = bytes(value > 1 for value in range(256))
_IS_LITTLE = array("H", [1]).tobytes()[:1] == b"\1"


def sizes_of(rows: "MailRows") -> "Sizes":
    """Return the recipients of each parcel; None if each has one."""
    return None if rows.parcel_count == rows.recipient_count else Counter(rows.r_parcel)


def marked(rows: "MailRows", mark: int) -> bytes:
    """Return a byte for each parcel's row: 1 if it has the mark and is not struck."""
    return rows.p_flags.tobytes().translate(bytes((flags & (mark | IS_STRUCK)) == mark for flags in range(256)))


def count_marked(rows: "MailRows", mark: int, sizes: "Sizes") -> int:
    """Return how many recipients all parcels with a mark have."""
    mask = marked(rows, mark)
    return mask.count(1) if sizes is None else sum(map(sizes.__getitem__, compress(range(len(mask)), mask)))


def parcels_of_lanes(rows: "MailRows", row_of: "Mapping[int, int]", count: int) -> list[list[int]]:
    """Return the parcels of each of `count` rows; row_of: number of a lane -> its row."""
    found: list[list[int]] = [[] for _ in range(count)]
    lanes, messages = rows.p_lane, rows.p_message
    for parcel in compress(range(len(lanes)), map(row_of.__contains__, lanes)):
        if messages[parcel]:
            found[row_of[lanes[parcel]]].append(parcel)
    return found


def parcels_of_senders(rows: "MailRows", row_of: "Mapping[int, int]", count: int) -> list[list[int]]:
    """Return the parcels of each of `count` rows; row_of: number of a sender -> its row."""
    found: list[list[int]] = [[] for _ in range(count)]
    messages, senders = rows.p_message, rows.m_sender
    mask = map(row_of.__contains__, map(senders.__getitem__, messages))
    for parcel in compress(range(len(messages)), mask):
        if messages[parcel]:
            found[row_of[senders[messages[parcel]]]].append(parcel)
    return found


def senders(rows: "MailRows") -> "Counter[int]":
    """Return how many recipients the mail of each sender has."""
    found: Counter[int] = Counter(compress(rows.m_sender, rows.m_left))
    more = _more_than_one(rows.m_left)
    for sender, number in zip(compress(rows.m_sender, more), compress(rows.m_left, more), strict=True):
        found[sender] += number - 1
    return found


def count_of(rows: "MailRows", parcels: list[int], mark: int, sizes: "Sizes") -> int:
    """Return how many recipients those of the parcels have that have a mark."""
    some = [parcel for parcel in parcels if rows.p_flags[parcel] & mark]
    return len(some) if sizes is None else sum(map(sizes.__getitem__, some))


def band_of(age: float) -> int:
    """Return the number of an age's band, 0 for the youngest."""
    return bisect_right(BANDS, age)


def bands(births: "Mapping[int, int]", date: float) -> list[int]:
    """Return how many recipients are in each band; births: birth -> how many."""
    found = [0] * (len(BANDS) + 1)
    for birth, count in births.items():
        found[bisect_right(BANDS, date - birth)] += count
    return found


def bands_of_all(rows: "MailRows", date: float) -> list[int]:
    """Return how many of all recipients are in each band.

    A birth is looked at by its bytes: the upper two say which 18 hours it is of, and of the last three of those the
    third byte which 256 s.  Only those 256 s in which a band ends are looked at one by one.
    """
    births, left = rows.m_birth, rows.m_left
    halves, count = int(date) >> 16, len(births)
    live = _bytes(_any(left), count)
    if max(births) >> 16 > halves:  # the clock was set back
        return bands(_weighted(births, left, live), date)
    found = [0] * (len(BANDS) + 1)
    found[-1] = live.count(1)
    _, second, third, fourth = _planes(births)
    for half in (halves, halves - 1, halves - 2):
        mask = _both(live, _equal(fourth, half >> 8), _equal(third, half & 255), count)
        found[-1] -= mask.count(1)
        edges = bytearray(256)
        for part, number in Counter(compress(second, mask)).items():
            start = (half << 8 | part) << 8
            if band_of(date - start) == band_of(date - start - 255):
                found[band_of(date - start)] += number
            else:
                edges[part] = 1
        exact = _both(mask, second.translate(bytes(edges)), mask, count)
        _add(found, bands(Counter(compress(births, exact)), date))
    more = _both(live, _more_than_one(left), live, count)
    for birth, number in zip(compress(births, more), compress(left, more), strict=True):
        found[band_of(date - birth)] += number - 1
    return found


def bands_of(rows: "MailRows", parcels: list[int], sizes: "Sizes", date: float) -> list[int]:
    """Return how many recipients of some parcels are in each band."""
    births = map(rows.m_birth.__getitem__, map(rows.p_message.__getitem__, parcels))
    if sizes is None:
        return bands(Counter(births), date)
    found: Counter[int] = Counter()
    for parcel, birth in zip(parcels, births, strict=True):
        found[birth] += sizes[parcel]
    return bands(found, date)


def _weighted(births: "array[int]", left: "array[int]", live: bytes) -> "Mapping[int, int]":
    found: Counter[int] = Counter()
    for birth, number in zip(compress(births, live), compress(left, live), strict=True):
        found[birth] += number
    return found


def _planes(column: "array[int]") -> list[bytes]:
    """Return the bytes of all values: the lowest ones, the second ones and so on."""
    data = column.tobytes()
    return [data[number if _IS_LITTLE else 3 - number :: 4] for number in range(4)]


def _equal(plane: bytes, byte: int) -> bytes:
    return plane.translate(bytes(value == byte for value in range(256)))


def _any(column: "array[int]") -> int:
    """Return a number whose bytes are 1 where a value is not 0."""
    return _join(plane.translate(_NOT_ZERO) for plane in _planes(column))


def _more_than_one(column: "array[int]") -> bytes:
    first, *others = _planes(column)
    return _bytes(_join([first.translate(_MORE), *(plane.translate(_NOT_ZERO) for plane in others)]), len(column))


def _join(planes: "Iterable[bytes]") -> int:
    found = 0
    for plane in planes:
        found |= int.from_bytes(plane, "little")
    return found


def _both(first: bytes, second: bytes, third: bytes, count: int) -> bytes:
    """Return 1 where all three have it."""
    found = int.from_bytes(first, "little") & int.from_bytes(second, "little") & int.from_bytes(third, "little")
    return _bytes(found, count)


def _bytes(number: int, count: int) -> bytes:
    return number.to_bytes(count, "little")


def _add(sums: list[int], more: "Iterable[int]") -> None:
    for number, count in enumerate(more):
        sums[number] += count
