"""Greylists: after how long a site accepts what it deferred at first sight.

The age at which a site begins to accept is between lo, the largest age that it still deferred, and hi, the smallest one
that it accepted.  Most tries are made a little after hi, which costs two tries a recipient; one in 20 is made between
the two, so that hi comes down.  Before anything was accepted the age grows by half with each try, and one in 20 comes
earlier, too.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

FIRST_SECONDS = 330.0  # `grey=`
GROWTH = 1.5
MARGIN = 0.05  # above hi
PROBE_SHARE = 0.05  # of the tries are made between lo and hi
MIN_WAIT = 30.0  # between two tries
MIN_GAP = 1.02  # of hi to lo: there is nothing left to find
MISSES = 2
MAX_JUMP = 5400.0  # what others met postpones a recipient's next try to this age at most
MAX_AGE = 14400.0  # a deferral at a greater age is no greylist's


class Bracket:
    """What is learned of one site.  lo, hi: seconds since the first try of a recipient; 0.0 unknown."""

    __slots__ = ("lo", "hi", "_misses")

    def __init__(self, lo: float = 0.0, hi: float = 0.0) -> None:
        self.lo, self.hi, self._misses = lo, hi, 0

    def deferred(self, age: float) -> None:
        """A try at this age was deferred.

        Twice running above hi: the site has changed, and hi is unknown.  Once may be that recipient's own trouble.
        """
        if age > MAX_AGE:
            return
        if self.hi and age >= self.hi:
            self._misses += 1
            if self._misses >= MISSES:
                self.lo, self.hi, self._misses = self.hi, 0.0, 0
        else:
            self.lo = max(self.lo, age)

    def accepted(self, age: float) -> None:
        """A try at this age was accepted, of a recipient that had been deferred as at first sight."""
        if age > MAX_AGE:
            return
        self._misses = 0
        if not self.hi or age < self.hi:
            self.hi = age
        if self.lo >= self.hi:
            self.lo = 0.0

    def next_try(self, age: float, random: "Random", first: float = FIRST_SECONDS) -> float | None:
        """Return the age of the next try of a recipient deferred at this age; None: it is too old for a greylist.

        first is that of a site of which nothing is known.
        """
        if age > MAX_AGE:
            return None
        lo = max(self.lo, age)
        later = self.hi if self.hi > age else max(first, GROWTH * age, min(GROWTH * self.lo, MAX_JUMP))
        if later > lo * MIN_GAP and random.random() < PROBE_SHARE:
            return max(lo + (later - lo) * random.random(), age + MIN_WAIT)
        return later * (1 + MARGIN * random.random()) if later == self.hi else later
