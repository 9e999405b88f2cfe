"""Things in turn, of which there is mostly one or none: one takes no more than a place.

A deque takes 700 bytes from the first on, and each of 100,000 doors has two of them.
"""

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


class SmallQueue:
    """As much of a deque as is used; None cannot be in it."""

    __slots__ = ("_one", "_more")

    def __init__(self) -> None:
        self._one: Any = None  # the only one
        self._more: deque[Any] | None = None  # all, once there were two

    def __len__(self) -> int:
        return len(self._more) if self._more is not None else self._one is not None

    def __iter__(self) -> "Iterator[Any]":
        if self._more is not None:
            return iter(self._more)
        return iter(()) if self._one is None else iter((self._one,))

    def append(self, one: "Any") -> None:
        """Put one at the end."""
        if self._more is not None:
            self._more.append(one)
        elif self._one is None:
            self._one = one
        else:
            self._more, self._one = deque((self._one, one)), None

    def extend(self, some: "Iterable[Any]") -> None:
        for one in some:
            self.append(one)

    def popleft(self) -> "Any":
        """Take the first; there is one."""
        if self._more is None:
            one, self._one = self._one, None
            assert one is not None
            return one
        one = self._more.popleft()
        if not self._more:
            self._more = None
        return one

    def remove(self, one: "Any") -> None:
        """Take out one that is there."""
        if self._more is None:
            assert self._one == one
            self._one = None
            return
        self._more.remove(one)
        if not self._more:
            self._more = None
