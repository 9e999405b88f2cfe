"""Find the row that has a key, without an object for each key.

A linear hash table: chains of rows through a column of 32 bits, and one array of heads.  It grows by one chain for each
ROWS_EACH keys, so no insertion ever moves the whole table.  Source: Litwin, Linear hashing, 1980
"""

from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FACTOR, _PRIME = 2654435761, 4294967291  # by both, a place depends on all bits of a key
_FIRST_CHAINS = 8
ROWS_EACH = 3  # in a chain: a longer one is cheaper to walk than more of them are to split


class RowIndex:
    """Rows by an integer key of at most 64 bits.  Row 0 means none; each key stands in it once."""

    __slots__ = ("_keys", "_chain", "_heads", "_low_mask", "_high_mask", "_count")

    def __init__(self, keys: "Sequence[int]", chain: "array[int]") -> None:
        """keys[row] is the key of a row; chain is a column of the index's own."""
        self._keys, self._chain = keys, chain
        self._heads = array("I", bytes(4 * _FIRST_CHAINS))
        self._low_mask, self._high_mask, self._count = _FIRST_CHAINS - 1, 2 * _FIRST_CHAINS - 1, 0

    def __len__(self) -> int:
        return self._count

    def find(self, key: int) -> int:
        """Return the row with this key, 0 if there is none."""
        heads, keys = self._heads, self._keys
        place = key * _FACTOR % _PRIME & self._high_mask
        row = heads[place] if place < len(heads) else heads[place & self._low_mask]
        while row and keys[row] != key:
            row = self._chain[row]
        return row

    def add(self, row: int) -> None:
        """Put in a row whose key is not there yet."""
        heads = self._heads
        place = self._keys[row] * _FACTOR % _PRIME & self._high_mask
        if place >= len(heads):
            place &= self._low_mask
        self._chain[row], heads[place] = heads[place], row
        self._count += 1
        if self._count > ROWS_EACH * len(heads):
            self._grow()

    def remove(self, row: int) -> None:
        """Take out a row that is there; its key must not have changed."""
        heads, chain = self._heads, self._chain
        place = self._keys[row] * _FACTOR % _PRIME & self._high_mask
        if place >= len(heads):
            place &= self._low_mask
        at = heads[place]
        if at == row:
            heads[place] = chain[row]
        else:
            while chain[at] != row:
                at = chain[at]
            chain[at] = chain[row]
        self._count -= 1

    def _grow(self) -> None:
        """Split the chain whose turn it is over itself and a new last one."""
        heads, chain, keys, mask = self._heads, self._chain, self._keys, self._high_mask
        split, last = len(heads) & self._low_mask, len(heads)
        row, heads[split] = heads[split], 0
        heads.append(0)
        while row:
            following = chain[row]
            place = last if keys[row] * _FACTOR % _PRIME & mask == last else split
            chain[row], heads[place] = heads[place], row
            row = following
        if len(heads) > mask:
            self._low_mask, self._high_mask = mask, mask << 1 | 1
