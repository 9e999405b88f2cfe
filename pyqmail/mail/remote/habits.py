"""What servers turned out not to bear: EHLO, commands sent together, many recipients at once.

Nothing that speeds a conversation up may keep mail from a server for ever, so what failed is not tried there again
for a day.  Only in memory: a process that is started again finds it out again.
"""

import time

from pyqmail.base.bounded_table import BoundedTable

REMEMBERED_SECONDS = 86400
MAX_SERVERS = 10_000
_NO_CODES: frozenset[int] = frozenset()


class Habits:
    """Of one server.

    is_helo_only     it hung up when we said EHLO
    is_one_by_one    it hung up, or fell silent, when several commands came together
    recipient_limit  recipients it takes in one transaction, or fewer than it died over; None if neither is known
    deferral_codes   those with which it put off recipients over fresh connections: they are no limit of a connection
    """

    __slots__ = ("is_helo_only", "is_one_by_one", "recipient_limit", "deferral_codes", "_servers", "_key")

    def __init__(self, servers=None, key=None) -> None:
        self.is_helo_only = self.is_one_by_one = False
        self.recipient_limit, self._servers, self._key = None, servers, key
        self.deferral_codes: frozenset[int] = _NO_CODES

    def note(self, **learned) -> None:
        """Change attributes, and have them remembered."""
        for name, value in learned.items():
            setattr(self, name, value)
        if self._servers is not None:
            self._servers.keep(self._key, self)


class KnownServers:
    """The Habits of servers, found by any key; those of the last MAX_SERVERS that something was learned of."""

    def __init__(self, clock=time.monotonic) -> None:
        self._clock, self._known = clock, BoundedTable(MAX_SERVERS)  # key -> (until when, Habits)

    def habits(self, key) -> Habits:
        """Return what is known of a server: the usual habits if nothing is."""
        until, habits = self._known.get(key, (0.0, None))
        if habits is not None and until > self._clock():
            return habits
        return Habits(self, key)

    def keep(self, key, habits: Habits) -> None:
        """Remember what was learned of a server."""
        until, known = self._known.get(key, (0.0, None))
        if known is not habits:
            until = self._clock() + REMEMBERED_SECONDS
        self._known.put(key, (until, habits))
