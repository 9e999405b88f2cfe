"""A table that strangers fill: bounded, and what was put into it longest ago goes first."""

from _collections import OrderedDict  # a dict looks for its first key among all that were removed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from typing import Any


class BoundedTable:
    """Keys with a value each, the oldest first, whose weights together are at most limit.

    A weight is 1, or for example a number of bytes.  A key that is put again is the newest.
    """

    __slots__ = ("limit", "weight", "_entries")

    def __init__(self, limit: int) -> None:
        self.limit, self.weight = limit, 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: "Hashable", default: "Any" = None) -> "Any":
        """Return the value of key, default without one."""
        entry = self._entries.get(key)
        return default if entry is None else entry[0]

    def put(self, key: "Hashable", value: "Any", weight: int = 1) -> None:
        """Give key a value; the oldest go if that is too much."""
        self.drop(key)
        self._entries[key] = value, weight
        self.weight += weight
        while self.weight > self.limit:
            self.drop(next(iter(self._entries)))

    def items(self) -> "Iterator[tuple[Any, Any]]":
        """Return each key with its value, the oldest first."""
        return ((key, value) for key, (value, _) in self._entries.items())

    def refresh(self, key: "Hashable") -> None:
        """Make a key that is there the newest."""
        self._entries.move_to_end(key)

    def drop(self, key: "Hashable") -> None:
        """Remove a key; nothing happens if it is not there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.weight -= entry[1]
