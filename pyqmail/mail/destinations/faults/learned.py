"""Limits that a site shows by what it does: messages of a connection (n), recipients of a transaction (m)."""


class LearnedMessages:
    """n of one site: refused twice, or closed three times, after the same number of messages.  value 0: unknown."""

    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def refused(self, carried: int) -> bool:
        """A message was refused at MAIL or DATA after so many.  Return whether n is now another."""
        raise NotImplementedError

    def withdraw(self) -> None:
        """It was refused on a fresh connection too: the last refusal was not the connection's."""
        raise NotImplementedError

    def closed(self, carried: int) -> bool:
        """The server closed, with 421 or without a word, after so many.  Return whether n is now another."""
        raise NotImplementedError


class LearnedRecipients:
    """m of one site.  value 0: unknown."""

    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def refused(self, accepted: int) -> bool:
        """Recipients were refused after so many were accepted.  Return whether m is now another."""
        raise NotImplementedError
