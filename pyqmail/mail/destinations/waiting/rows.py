"""Messages, parcels and recipients in rows of array columns: no object for each recipient.

A row is a number from 1; 0 means none, everywhere.  What is not in use stands in a free list, threaded through the
`next` column.  A message has its parcels in a chain that goes both ways, a parcel has its recipients in one that goes
forward.

The place of a parcel is its owner's affair (it waits for DNS, is ready, in flight, or on the wheel): p_next and p_due
belong to whatever holds it.  A LaneQueue uses both; on the wheel p_due is its time.
"""

from array import array

from pyqmail.mail.destinations.waiting.numbers import RowIndex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IS_ALONE = 1  # m_flags: one recipient a transaction.  Bits from 8 on are the engine's
IS_SPLIT = 1  # p_flags: there may be another parcel of this message in this lane.  Bits from 16 on are the engine's
IS_STRUCK = 2  # p_flags: freed, but for its row, which still stands in a queue
CLASS_SHIFT, CLASS_MASK = 2, 12  # p_flags: the class, while it is in a queue


_MESSAGE_COLUMNS = (
    *("m_number", "m_birth", "m_size", "m_left", "m_sender", "m_flags", "m_next", "m_parcels", "_m_chain"),
)
_PARCEL_COLUMNS = (
    *("p_next", "p_lane", "p_message", "p_first", "p_due", "p_tries", "p_flags", "_p_after", "_p_before"),
)
_BLOCK_ROWS = 1024
MOST = 0xFFFFFFFF  # what a column of 32 bits holds


class MailRows:
    """The rows of all mail in memory.

    m_number 64 bits; m_birth Unix seconds; m_size bytes (at most 2**32 - 1); m_left recipients that are left; m_sender
    the sender's key; m_flags; m_next for the owner (a wheel).  p_lane and p_due 32 bits for the owner; p_tries;
    p_flags.  r_offset: where the address stands in the channel file; r_returns for the owner.
    """

    __slots__ = (
        "m_number", "m_birth", "m_size", "m_left", "m_sender", "m_flags", "m_next", "m_parcels", "_m_chain",
        "p_next", "p_lane", "p_message", "p_first", "p_due", "p_tries", "p_flags", "_p_after", "_p_before",
        "r_next", "r_offset", "r_returns", "r_parcel", "_numbers", "_free_message", "_free_parcel", "_free_recipient",
        "_unused_message", "_unused_parcel", "_unused_recipient", "message_count", "parcel_count", "recipient_count",
    )  # fmt: skip

    def __init__(self) -> None:
        self.m_number = array("Q", [0])
        self.m_birth, self.m_size, self.m_left, self.m_sender = _column(), _column(), _column(), _column()
        self.m_flags, self.m_next, self.m_parcels, self._m_chain = array("B", [0]), _column(), _column(), _column()
        self.p_next, self.p_lane, self.p_message, self.p_first = _column(), _column(), _column(), _column()
        self.p_due, self.p_tries, self.p_flags = _column(), array("B", [0]), array("B", [0])
        self._p_after, self._p_before = _column(), _column()
        self.r_next, self.r_offset, self.r_returns, self.r_parcel = _column(), _column(), array("B", [0]), _column()
        self._numbers = RowIndex(self.m_number, self._m_chain)
        self._free_message = self._free_parcel = self._free_recipient = 0
        self._unused_message = self._unused_parcel = self._unused_recipient = 1  # rows that were never in use
        self.message_count = self.parcel_count = self.recipient_count = 0

    def find(self, number: int) -> int:
        """Return the message with this number, 0 if there is none."""
        return self._numbers.find(number)

    def add_message(self, number: int, sender_key: int, size: int, birth: int, flags: int) -> int:
        """Return a new message without recipients; its number must not be in use."""
        row = self._free_message
        if row:
            self._free_message = self.m_next[row]
        else:
            row, self._unused_message = self._unused_message, self._unused_message + 1
            if row == len(self.m_number):
                lengthen(*(getattr(self, name) for name in _MESSAGE_COLUMNS))
        self.m_number[row], self.m_sender[row], self.m_flags[row] = number, sender_key, flags
        self.m_size[row], self.m_birth[row] = min(size, MOST), max(0, min(birth, MOST))
        self.m_left[row] = self.m_next[row] = self.m_parcels[row] = 0
        self._numbers.add(row)
        self.message_count += 1
        return row

    def remove_message(self, message: int) -> None:
        """Free a message that has no parcels any more."""
        self._numbers.remove(message)
        self.m_next[message], self._free_message = self._free_message, message
        self.m_number[message] = 0
        self.message_count -= 1

    def parcels(self, message: int) -> "Iterator[int]":
        """Yield the message's parcels, the last one added first; the one just yielded may be removed."""
        parcel = self.m_parcels[message]
        while parcel:
            following = self._p_after[parcel]
            yield parcel
            parcel = following

    def add_parcel(self, message: int, lane: int, offsets: "Iterable[int]") -> int:
        """Return a new parcel with a recipient for each offset, in their order."""
        parcel = self._new_parcel(message, lane)
        r_next, r_parcel = self.r_next, self.r_parcel
        last = count = 0
        for offset in offsets:
            recipient = self._free_recipient
            if recipient:
                self._free_recipient = r_next[recipient]
                r_next[recipient] = self.r_returns[recipient] = 0
            else:
                recipient, self._unused_recipient = self._unused_recipient, self._unused_recipient + 1
                if recipient == len(r_next):
                    lengthen(r_next, r_parcel, self.r_offset, self.r_returns)
            self.r_offset[recipient], r_parcel[recipient] = offset, parcel
            if last:
                r_next[last] = recipient
            else:
                self.p_first[parcel] = recipient
            last = recipient
            count += 1
        self.m_left[message] += count
        self.recipient_count += count
        return parcel

    def recipients(self, parcel: int) -> list[int]:
        """Return the parcel's recipients in their order."""
        rows = []
        recipient = self.p_first[parcel]
        while recipient:
            rows.append(recipient)
            recipient = self.r_next[recipient]
        return rows

    def count(self, parcel: int, most: int = 0) -> int:
        """Return how many recipients the parcel has; with most: that or most, which is found in fewer steps."""
        number = 0
        recipient = self.p_first[parcel]
        while recipient:
            number += 1
            recipient = self.r_next[recipient] if number != most else 0
        return number

    def cut(self, parcel: int, most: int) -> int:
        """Return the first `most` recipients, at least one, as a parcel of their own; the rest keeps its number.

        Both are split then.  A parcel of no more than `most` is returned itself.  The time and the tries are the same.
        """
        r_next = self.r_next
        last = self.p_first[parcel]
        for _ in range(most - 1):
            last = r_next[last]
            if not last:
                return parcel
        if not r_next[last]:
            return parcel
        front = self._new_parcel(self.p_message[parcel], self.p_lane[parcel])
        self.p_first[front], self.p_first[parcel], r_next[last] = self.p_first[parcel], r_next[last], 0
        self._adopt(front)
        self.p_flags[parcel] |= IS_SPLIT
        self.p_due[front], self.p_tries[front] = self.p_due[parcel], self.p_tries[parcel]
        self.p_flags[front] = self.p_flags[parcel]
        return front

    def split_off(self, recipient: int) -> int:
        """Return a parcel of this recipient alone, taken out of its own; the same one if it is alone there."""
        parcel = self.r_parcel[recipient]
        if self.p_first[parcel] == recipient and not self.r_next[recipient]:
            return parcel
        self._unlink(recipient)
        other = self._new_parcel(self.p_message[parcel], self.p_lane[parcel])
        self.p_first[other], self.r_parcel[recipient], self.r_next[recipient] = recipient, other, 0
        self.p_flags[parcel] |= IS_SPLIT
        self.p_due[other], self.p_tries[other] = self.p_due[parcel], self.p_tries[parcel]
        self.p_flags[other] = self.p_flags[parcel]
        return other

    def remove_recipient(self, recipient: int) -> bool:
        """Free one recipient; return whether its parcel is empty now.  Quick near the front of a parcel."""
        parcel = self.r_parcel[recipient]
        self._unlink(recipient)
        self._free(recipient)
        self.m_left[self.p_message[parcel]] -= 1
        return not self.p_first[parcel]

    def remove_parcel(self, parcel: int) -> None:
        """Free a parcel and the recipients it still has."""
        recipient, message = self.p_first[parcel], self.p_message[parcel]
        if not recipient or self.r_next[recipient] or self.m_parcels[message] != parcel or self._p_after[parcel]:
            self.strike(parcel)
        else:  # the only recipient of the only parcel of its message
            self.r_next[recipient], self._free_recipient, self.r_parcel[recipient] = self._free_recipient, recipient, 0
            self.m_left[message] -= 1
            self.m_parcels[message] = self.p_first[parcel] = self.p_message[parcel] = 0
            self.p_flags[parcel] |= IS_STRUCK
            self.recipient_count -= 1
            self.parcel_count -= 1
        self.p_next[parcel], self._free_parcel = self._free_parcel, parcel

    def strike(self, parcel: int) -> None:
        """Free all of a parcel but its row, which still stands somewhere."""
        message, recipient = self.p_message[parcel], self.p_first[parcel]
        r_next, count = self.r_next, 0
        while recipient:
            following = r_next[recipient]
            r_next[recipient], self._free_recipient, self.r_parcel[recipient] = self._free_recipient, recipient, 0
            count += 1
            recipient = following
        self.m_left[message] -= count
        self.recipient_count -= count
        before, after = self._p_before[parcel], self._p_after[parcel]
        if before:
            self._p_after[before] = after
        else:
            self.m_parcels[message] = after
        if after:
            self._p_before[after] = before
        self.p_first[parcel] = self.p_message[parcel] = 0
        self.p_flags[parcel] |= IS_STRUCK
        self.parcel_count -= 1

    def free_struck(self, parcel: int) -> None:
        """Free the row of a struck parcel, which stands nowhere any more."""
        self.p_next[parcel], self._free_parcel = self._free_parcel, parcel

    def _new_parcel(self, message: int, lane: int) -> int:
        parcel = self._free_parcel
        if parcel:
            self._free_parcel = self.p_next[parcel]
            self.p_next[parcel] = self.p_due[parcel] = self.p_tries[parcel] = self.p_flags[parcel] = 0
        else:
            parcel, self._unused_parcel = self._unused_parcel, self._unused_parcel + 1
            if parcel == len(self.p_next):
                lengthen(*(getattr(self, name) for name in _PARCEL_COLUMNS))
        first = self.m_parcels[message]
        if first:
            self._p_before[first] = parcel
        self._p_after[parcel], self._p_before[parcel], self.m_parcels[message] = first, 0, parcel
        self.p_lane[parcel], self.p_message[parcel] = lane, message
        self.parcel_count += 1
        return parcel

    def _free(self, recipient: int) -> None:
        self.r_next[recipient], self._free_recipient = self._free_recipient, recipient
        self.r_parcel[recipient] = 0
        self.recipient_count -= 1

    def _unlink(self, recipient: int) -> None:
        parcel = self.r_parcel[recipient]
        at = self.p_first[parcel]
        if at == recipient:
            self.p_first[parcel] = self.r_next[recipient]
            return
        while self.r_next[at] != recipient:
            at = self.r_next[at]
        self.r_next[at] = self.r_next[recipient]

    def _adopt(self, parcel: int) -> None:
        """Tell the recipients of a parcel whose they are now."""
        recipient = self.p_first[parcel]
        while recipient:
            self.r_parcel[recipient] = parcel
            recipient = self.r_next[recipient]


def _column() -> "array[int]":
    return array("I", [0])


def lengthen(*columns: "array[int]") -> None:
    """Add a block of empty rows."""
    for column in columns:
        column.frombytes(bytes(column.itemsize * _BLOCK_ROWS))
