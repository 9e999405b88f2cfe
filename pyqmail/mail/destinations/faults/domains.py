"""What is remembered of domains that name servers do not know, or do not speak of."""

from pyqmail.base.bounded_table import BoundedTable

MAX_DOMAINS = 100_000
MISSING_TIMES, MISSING_SECONDS = 3, 3600.0  # a fresh registration may lag
ASK_SECONDS, MAX_ASK_SECONDS = 60.0, 3600.0
_FORGET_SECONDS = 7 * 86400.0  # an answer that is older is another occasion


class DomainFaults:
    """By domain, at most `limit`: those that failed longest ago go."""

    __slots__ = ("_missing", "_troubles")

    def __init__(self, limit: int = MAX_DOMAINS) -> None:
        self._missing, self._troubles = BoundedTable(limit), BoundedTable(limit)

    def missing(self, domain: bytes, now: float) -> bool:
        """The domain does not exist, or has no hosts.  Return whether that is final: three times over an hour."""
        self._troubles.drop(domain)
        times, first, last = self._missing.get(domain, (0, now, now))
        if now - last > _FORGET_SECONDS:
            times, first = 0, now
        if times + 1 >= MISSING_TIMES and now - first >= MISSING_SECONDS:
            return True
        self._missing.put(domain, (times + 1, first, now))
        return False

    def trouble(self, domain: bytes, now: float) -> float:
        """Its name servers fail.  Return in how many seconds to ask again: 60 doubling to 3600."""
        wait, last = self._troubles.get(domain, (0.0, now))
        if now - last > _FORGET_SECONDS:
            wait = 0.0
        wait = min(2 * wait, MAX_ASK_SECONDS) if wait else ASK_SECONDS
        self._troubles.put(domain, (wait, now))
        return wait

    def forget_troubles(self) -> None:
        """It was the resolver."""
        self._troubles = BoundedTable(self._troubles.limit)

    def is_known_to_fail(self, domain: bytes) -> bool:
        """Return whether the last question about the domain had no answer: a quarter of the places is for those."""
        return self._troubles.get(domain) is not None

    def found(self, domain: bytes) -> None:
        """It has hosts: nothing is remembered."""
        self._missing.drop(domain)
        self._troubles.drop(domain)
