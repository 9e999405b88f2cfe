"""Limits that a site shows by what it does: messages of a connection (n), recipients of a transaction (m).

A server that has enough of a connection says so in many ways: 421 and a hang-up, a hang-up alone, or a 4xx or 5xx to
MAIL or DATA with the connection kept open.  The number of messages it had carried is the limit if the same number shows
again; one that shows once may be an accident.
"""

REFUSALS_NEEDED, CLOSES_NEEDED = 2, 3


class LearnedMessages:
    """n of one site.  value: 0 unknown."""

    __slots__ = ("value", "_refused_after", "_refusals", "_closed_after", "_closes")

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self._refused_after = self._refusals = self._closed_after = self._closes = 0

    def refused(self, carried: int) -> bool:
        """A message was refused at MAIL or DATA after so many.  Return whether n is now another."""
        self._refusals = self._refusals + 1 if carried == self._refused_after else 1
        self._refused_after = carried
        return self._refusals >= REFUSALS_NEEDED and self._learn(carried)

    def withdraw(self) -> None:
        """What was refused so is refused on a fresh connection, too: it was the message's, not the connection's."""
        self._refusals = max(0, self._refusals - 1)

    def closed(self, carried: int) -> bool:
        """The server ended a connection that was wanted, after so many.  Return whether n is now another."""
        self._closes = self._closes + 1 if carried == self._closed_after else 1
        self._closed_after = carried
        return self._closes >= CLOSES_NEEDED and self._learn(carried)

    def stated(self, carried: int) -> bool:
        """The server said that so many are the limit.  Return whether n is now another."""
        return self._learn(carried)

    def _learn(self, carried: int) -> bool:
        if carried < 1 or carried == self.value:
            return False
        self.value = carried
        return True


class LearnedRecipients:
    """m of one site.  value: 0 unknown."""

    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def refused(self, accepted: int) -> bool:
        """Recipients were too many after so many were accepted.  Return whether m is now another.

        A smaller number than the known one is believed: it costs transactions, a larger one costs refusals.
        """
        if accepted < 1 or (self.value and accepted >= self.value):
            return False
        self.value = accepted
        return True
