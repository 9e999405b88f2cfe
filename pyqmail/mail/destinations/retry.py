"""When a message is tried again, and the order in which messages become due.

By default (`try=q`) the retry time depends on the age alone, to the second.  Source: nextretry() of qmail-send
A `try=` that somebody wrote counts from the end of the attempt, by the number of attempts, and is spread: what was
deferred together does not come back together.
"""

import heapq
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from pyqmail.mail.destinations.rules.policies import Retry

LOCAL_CONSTANT, REMOTE_CONSTANT = 10, 20
TROUBLE_SECONDS = 123  # after a system error on one message
SPREAD = 0.05  # of a written delay, later only
_BLOCK_BITS, _BLOCK_MASK = 8, 255
_NUMBER_BITS = 64
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1


def retry_time(birth: int, now: int, constant: int) -> int:
    """Return when a pass that starts now is followed by the next; all in Unix seconds.

    The square root has 16 bits, as the original's; a birth in the future counts as age 0.
    """
    root = min(math.isqrt(max(0, now - birth)), 65535)
    return birth + (root + constant) ** 2


def next_date(retry: "Retry | None", birth: int, tries: int, date: float, constant: int, random: "Random") -> float:
    """Return when a recipient is tried again whose attempt number `tries` has ended at `date`, in Unix seconds.

    retry is a written `try=`; None: q, with the constant of the channel.  Never before date.
    """
    if retry is None:
        return retry_time(birth, int(date), constant)
    return date + retry.delay(tries) * (1 + SPREAD * random.random())


class Numbers:
    """A set of message numbers in little memory: inode numbers stand close together, so they are bits of blocks."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}

    def __contains__(self, number: int) -> bool:
        return bool(self._blocks.get(number >> _BLOCK_BITS, 0) >> (number & _BLOCK_MASK) & 1)

    def add(self, number: int) -> None:
        block = number >> _BLOCK_BITS
        self._blocks[block] = self._blocks.get(block, 0) | 1 << (number & _BLOCK_MASK)

    def discard(self, number: int) -> None:
        block = number >> _BLOCK_BITS
        left = self._blocks.get(block, 0) & ~(1 << (number & _BLOCK_MASK))
        if left:
            self._blocks[block] = left
        else:
            self._blocks.pop(block, None)


class DueHeap:
    """Message numbers by due time (Unix seconds), earliest first, each once.

    40 bytes and a pointer for each, and some bits: no tuples.
    """

    __slots__ = ("_entries", "_numbers")

    def __init__(self) -> None:
        self._entries: list[int] = []
        self._numbers = Numbers()

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, due: int, number: int) -> None:
        """Put a message in; one that is there already is due then instead."""
        self.discard(number)
        self._numbers.add(number)
        heapq.heappush(self._entries, max(0, due) << _NUMBER_BITS | number)

    def discard(self, number: int) -> None:
        """Take a message out; nothing happens if it is not there.  Slow if it is: that is rare."""
        if number in self._numbers:
            self._numbers.discard(number)
            self._entries = [entry for entry in self._entries if entry & _NUMBER_MASK != number]
            heapq.heapify(self._entries)

    def next_due(self) -> int | None:
        """Return the earliest due time, None if there is no message."""
        return self._entries[0] >> _NUMBER_BITS if self._entries else None

    def pop_due(self, now: int) -> int | None:
        """Remove and return the number of the earliest message if it is due."""
        if self._entries and self._entries[0] >> _NUMBER_BITS <= now:
            number = heapq.heappop(self._entries) & _NUMBER_MASK
            self._numbers.discard(number)
            return number
        return None

    def make_due(self, now: int) -> None:
        """Make every message due now that is not yet."""
        latest = now << _NUMBER_BITS
        self._entries = [
            entry if entry >> _NUMBER_BITS <= now else latest | entry & _NUMBER_MASK for entry in self._entries
        ]
        heapq.heapify(self._entries)

    def items(self) -> "Iterator[tuple[int, int]]":
        """Yield (due, number) in no particular order."""
        return ((entry >> _NUMBER_BITS, entry & _NUMBER_MASK) for entry in self._entries)
