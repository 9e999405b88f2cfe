"""When messages are too old: one entry of a wheel for each message."""

import heapq
from array import array

from pyqmail.mail.destinations.waiting.rows import lengthen
from pyqmail.mail.destinations.waiting.wheel import Wheel


class Expiries:
    """Messages by the second at which something of them may be too old.

    An entry of the wheel cannot be taken out, and a row may be another message by the time it comes up: so each row has
    at most one entry, and advance() gives only those whose second has come.  A message that is too old before the entry
    of its row comes up stands in a heap besides.
    """

    __slots__ = ("_seconds", "_next", "_time", "_wheel", "_early")

    def __init__(self, start: int) -> None:
        self._seconds = array("I", [0])  # of a row: when it expires; 0: nothing stands there
        self._next, self._time = array("I", [0]), array("I", [0])
        self._wheel = Wheel(self._next, self._time, start)
        self._early: list[tuple[int, int]] = []

    def set(self, message: int, second: int) -> None:
        """A message expires at a second, or earlier if that was set before."""
        seconds = self._seconds
        while message >= len(seconds):
            lengthen(seconds, self._next, self._time)
        before = seconds[message]
        if second < 1:
            second = 1
        if before and before < second:
            second = before
        seconds[message] = second
        planned = self._time[message]  # 0: it has no entry
        if not planned:
            self._wheel.add(message, second)
        elif planned > second:
            heapq.heappush(self._early, (second, message))

    def second(self, message: int) -> int:
        return self._seconds[message]

    def clear(self, message: int) -> None:
        """The message is gone; or it has come up, and is to be set again."""
        self._seconds[message] = 0

    def are_due(self, second: int) -> bool:
        """Return whether advance() may return something."""
        when = self.next_second()
        return when is not None and when <= second

    def advance(self, second: int) -> list[int]:
        """Return the messages that expire at this second or before; each is cleared."""
        rows = []
        while self._early and self._early[0][0] <= second:
            rows.append(heapq.heappop(self._early)[1])
        for message in self._wheel.advance(second):
            self._time[message] = 0
            rows.append(message)
        expired = []
        for message in rows:
            when = self._seconds[message]
            if when and when <= second:
                self._seconds[message] = 0
                expired.append(message)
            elif when and not self._time[message]:
                self._wheel.add(message, when)
        return expired

    def next_second(self) -> int | None:
        when = self._wheel.next_time()
        if self._early:
            return self._early[0][0] if when is None else min(when, self._early[0][0])
        return when
