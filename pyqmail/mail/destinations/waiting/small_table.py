"""A table of which there is mostly one row: one takes no more than two places.

A dict takes 230 bytes from the first row on, and each of 100,000 destinations has several.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class SmallTable:
    """As much of a dict as is used, in the order in which rows came; None cannot be a key."""

    __slots__ = ("_key", "_value", "_more")

    def __init__(self) -> None:
        self._key: Any = None  # the only one
        self._value: Any = None
        self._more: dict[Any, Any] | None = None  # all, once there were two

    def __len__(self) -> int:
        return len(self._more) if self._more is not None else self._key is not None

    def __iter__(self) -> "Iterator[Any]":
        if self._more is not None:
            return iter(self._more)
        return iter(()) if self._key is None else iter((self._key,))

    def __contains__(self, key: "Any") -> bool:
        return key in self._more if self._more is not None else self._key is not None and bool(self._key == key)

    def __setitem__(self, key: "Any", value: "Any") -> None:
        if self._more is not None:
            self._more[key] = value
        elif self._key is None or self._key == key:
            self._key, self._value = key, value
        else:
            self._more = {self._key: self._value, key: value}
            self._key = self._value = None

    def get(self, key: "Any") -> "Any":
        """Return the value of a key, None without such a row."""
        if self._more is not None:
            return self._more.get(key)
        return self._value if self._key is not None and self._key == key else None

    def remove(self, key: "Any") -> None:
        """Take out a row; nothing happens if it is not there."""
        if self._more is not None:
            self._more.pop(key, None)
            if not self._more:
                self._more = None
        elif self._key == key:
            self._key = self._value = None

    def values(self) -> "list[Any]":
        if self._more is not None:
            return list(self._more.values())
        return [] if self._key is None else [self._value]
