"""Find the row that has a key, without an object for each key.

A linear hash table: chains of rows through a column of 32 bits, and one array of heads.  It grows by one chain for each
key, so no insertion ever moves the whole table.  Source: Litwin, Linear hashing, 1980
"""

from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_MULTIPLIER, _MASK = 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF
_FIRST_CHAINS = 8


class RowIndex:
    """Rows by an integer key of at most 64 bits.  Row 0 means none; each key stands in it once."""

    __slots__ = ("_keys", "_chain", "_heads", "_low_mask", "_count")

    def __init__(self, keys: "Sequence[int]", chain: "array[int]") -> None:
        """keys[row] is the key of a row; chain is a column of the index's own."""
        self._keys, self._chain = keys, chain
        self._heads = array("I", bytes(4 * _FIRST_CHAINS))
        self._low_mask, self._count = _FIRST_CHAINS - 1, 0

    def __len__(self) -> int:
        return self._count

    def find(self, key: int) -> int:
        """Return the row with this key, 0 if there is none."""
        row, keys = self._heads[self._place(key)], self._keys
        while row and keys[row] != key:
            row = self._chain[row]
        return row

    def add(self, row: int) -> None:
        """Put in a row whose key is not there yet."""
        place = self._place(self._keys[row])
        self._chain[row] = self._heads[place]
        self._heads[place] = row
        self._count += 1
        if self._count > len(self._heads):
            self._grow()

    def remove(self, row: int) -> None:
        """Take out a row that is there; its key must not have changed."""
        place, chain = self._place(self._keys[row]), self._chain
        at = self._heads[place]
        if at == row:
            self._heads[place] = chain[row]
        else:
            while chain[at] != row:
                at = chain[at]
            chain[at] = chain[row]
        self._count -= 1

    def _place(self, key: int) -> int:
        mixed = (key * _MULTIPLIER & _MASK) >> 32
        place = mixed & (self._low_mask << 1 | 1)
        return place if place < len(self._heads) else mixed & self._low_mask

    def _grow(self) -> None:
        """Split the chain whose turn it is over itself and a new last one."""
        split = len(self._heads) & self._low_mask
        row, self._heads[split] = self._heads[split], 0
        self._heads.append(0)
        while row:
            following, place = self._chain[row], self._place(self._keys[row])
            self._chain[row], self._heads[place] = self._heads[place], row
            row = following
        if len(self._heads) == 2 * (self._low_mask + 1):
            self._low_mask = self._low_mask << 1 | 1
