"""How many births lie in each band of age, a million of them in some hundredths of a second.

All births are compared with the end of a band at once, byte by byte: a mask is a number that has a byte for each birth,
1 or 0, and masks are joined by & and |.
"""

import math
from _bisect import bisect_left, bisect_right
from array import array
from collections import Counter
from itertools import repeat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BANDS = tuple(60 * minutes for minutes in (5, 10, 20, 40, 80, 160, 320, 640, 1280))  # seconds; a tenth is older
_BYTES = 4  # of a birth
_IS_LITTLE = array("H", [1]).tobytes()[:1] == b"\1"


def band_of(age: float) -> int:
    """Return the number of an age's band, 0 for the youngest."""
    return bisect_right(BANDS, age)


def bands(births: "Iterable[int]", date: float) -> list[int]:
    """Return how many births are in each band."""
    edges = [date - edge for edge in reversed(BANDS)]
    counts = Counter(map(bisect_left, repeat(edges), births))
    return [counts[number] for number in range(len(BANDS), -1, -1)]


def bands_of_sizes(births: "Iterable[int]", sizes: "Iterable[int]", date: float) -> list[int]:
    """Return how many are in each band; sizes: how many each birth counts for."""
    found = [0] * (len(BANDS) + 1)
    for birth, size in zip(births, sizes, strict=True):
        found[band_of(date - birth)] += size
    return found


def bands_of_column(births: "array[int]", live: int, date: float) -> list[int]:
    """Return how many births are in each band, of those that a mask has."""
    column = Column(births)
    younger = [(column.above(math.floor(date - edge)) & live).bit_count() for edge in BANDS]
    younger.append(live.bit_count())
    return [count - before for count, before in zip(younger, [0, *younger], strict=False)]


def bands_of_weighted(births: "array[int]", weights: "array[int]", date: float) -> list[int]:
    """Return how many are in each band; weights: how many each birth counts for."""
    column = Column(weights)
    found = bands_of_column(births, column.above(0), date)
    for row in rows_of(column.above(1), len(weights)):
        found[band_of(date - births[row])] += weights[row] - 1
    return found


class Column:
    """A column of 32 bits, as four planes of bytes."""

    __slots__ = ("_planes", "_masks")

    def __init__(self, column: "array[int]") -> None:
        data = column.tobytes()
        self._planes = [data[number if _IS_LITTLE else 3 - number :: _BYTES] for number in range(_BYTES)]
        self._masks: dict[tuple[int, int], tuple[int, int]] = {}

    def above(self, limit: int) -> int:
        """Return the mask of the values above a limit."""
        if limit < 0:
            return mask_of(bytes([1]) * len(self._planes[0]))
        found = 0
        for number in range(_BYTES):  # the lowest byte first
            above, same = self._compare(number, limit >> 8 * number & 255)
            found = above | same & found
        return found

    def _compare(self, number: int, byte: int) -> tuple[int, int]:
        """Return the masks of the values whose byte of this number is above a byte, and is the same."""
        masks = self._masks.get((number, byte))
        if masks is None:
            plane = self._planes[number]
            above = plane.translate(bytes(value > byte for value in range(256)))
            same = plane.translate(bytes(value == byte for value in range(256)))
            masks = self._masks[number, byte] = mask_of(above), mask_of(same)
        return masks


def mask_of(flags: bytes) -> int:
    """Return a mask of bytes that are 1 or 0."""
    return int.from_bytes(flags, "little")


def rows_of(mask: int, count: int) -> "Iterable[int]":
    """Yield the rows that a mask of so many has."""
    flags = mask.to_bytes(count, "little")
    row = flags.find(1)
    while row >= 0:
        yield row
        row = flags.find(1, row + 1)


def add(sums: list[int], more: "Iterable[int]") -> None:
    """Add one list to another."""
    for number, count in enumerate(more):
        sums[number] += count
