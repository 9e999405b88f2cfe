"""What is remembered of domains that name servers do not know, or do not speak of."""

MAX_DOMAINS = 100_000
MISSING_TIMES, MISSING_SECONDS = 3, 3600.0


class DomainFaults:
    """By domain, at most `limit`: those that came first go."""

    def __init__(self, limit: int = MAX_DOMAINS) -> None:
        raise NotImplementedError

    def missing(self, domain: bytes, now: float) -> bool:
        """The domain does not exist, or has no hosts.  Return whether that is final: three times over an hour."""
        raise NotImplementedError

    def trouble(self, domain: bytes, now: float) -> float:
        """Its name servers fail.  Return in how many seconds to ask again: 60 doubling to 3600."""
        raise NotImplementedError

    def found(self, domain: bytes) -> None:
        """It has hosts: nothing is remembered."""
        raise NotImplementedError
