"""Greylists: after how long a site accepts what it deferred at first sight."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

FIRST_SECONDS = 330.0  # `grey=`
MAX_AGE = 14400.0  # older than this, a deferral is no greylist's


class Bracket:
    """What is learned of one site: lo, the largest age still deferred; hi, the smallest age accepted (0.0: unknown).

    Ages are seconds since the first try of that recipient.
    """

    __slots__ = ("lo", "hi")

    def __init__(self, lo: float = 0.0, hi: float = 0.0) -> None:
        self.lo, self.hi = lo, hi

    def deferred(self, age: float) -> None:
        """A try at this age was deferred."""
        raise NotImplementedError

    def accepted(self, age: float) -> None:
        """A try at this age was accepted, after one that was deferred."""
        raise NotImplementedError

    def next_try(self, age: float, random: "Random", first: float = FIRST_SECONDS) -> float | None:
        """Return the age of the next try of a recipient deferred at this age; None: it is too old for a greylist."""
        raise NotImplementedError
