"""Log lines about what takes too long, by the name of the host or domain waited for.  Pure: the time is given."""

import collections
import math

from pyqmail.base.printable import logsafe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

SLOW_SECONDS = 5.0
AGAIN_SECONDS = 60.0  # between two lines about one name
MAX_LINES = 100  # at once; the others follow a second later


class SlowWaits:
    """form makes a line of a name, how many wait for it now, and for how many seconds the first of them does."""

    def __init__(self, form: bytes) -> None:
        self._form = form
        # key -> (since when, name), longest first
        self._waits: collections.OrderedDict[Hashable, tuple[float, bytes]] = collections.OrderedDict()
        self._counts: dict[bytes, int] = {}  # name -> how many of those
        self._said: dict[bytes, float] = {}  # name -> when; only those of the last AGAIN_SECONDS
        self._next_look = 0.0

    def start_wait(self, key: "Hashable", name: bytes, now: float) -> None:
        """Something is waited for; if it was already, its time begins again."""
        self.end_wait(key)
        self._waits[key] = now, name
        self._counts[name] = self._counts.get(name, 0) + 1
        self._next_look = min(self._next_look, now + SLOW_SECONDS)

    def end_wait(self, key: "Hashable") -> None:
        """It is waited for no longer; nothing happens if it was not."""
        wait = self._waits.pop(key, None)
        if wait is not None:
            name = wait[1]
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]

    def next_time(self) -> float | None:
        """Return when slow_lines() may have something to say."""
        if not self._waits:
            return None
        return max(self._next_look, next(iter(self._waits.values()))[0] + SLOW_SECONDS)

    def slow_lines(self, now: float) -> list[bytes]:
        """Return a line for each name that is waited for too long and was not in a line for a minute."""
        if now < self._next_look or not self._waits:
            return []
        slow, self._next_look = self._find_slow(now)
        self._said = {name: when for name, when in self._said.items() if now - when < AGAIN_SECONDS}
        wanted = [name for name in slow if name not in self._said]
        self._said.update((name, now) for name in wanted[:MAX_LINES])
        again = min((self._said.get(name, now) + AGAIN_SECONDS for name in slow), default=math.inf)
        self._next_look = now + 1 if len(wanted) > MAX_LINES else max(now + 1, min(self._next_look, again))
        return [self._form % (logsafe(name), self._counts[name], int(now - slow[name])) for name in wanted[:MAX_LINES]]

    def _find_slow(self, now: float) -> tuple[dict[bytes, float], float]:
        """Return {name: since when} of what is slow, and when the next one will be."""
        slow: dict[bytes, float] = {}
        for since, name in self._waits.values():
            if now - since < SLOW_SECONDS:
                return slow, since + SLOW_SECONDS
            slow.setdefault(name, since)
        return slow, math.inf


class SlowLines:
    """What a channel waits for: sessions that connect, domains that are asked about.  Both may have a line."""

    def __init__(self) -> None:
        self._connects = SlowWaits(b"connecting: %b: sessions %d, seconds %d")
        self._questions = SlowWaits(b"looking up: %b: domains %d, seconds %d")

    def start_connect(self, session: int, host: bytes, now: float) -> None:
        """A session connects to a host; if it connected to another, this one counts from now on."""
        self._connects.start_wait(session, host, now)

    def end_connect(self, session: int) -> None:
        """A session has greeted, or it connects no longer."""
        self._connects.end_wait(session)

    def start_question(self, domain: bytes, name: bytes, now: float) -> None:
        """A name is looked up for a domain."""
        self._questions.start_wait(domain, name, now)

    def end_question(self, domain: bytes) -> None:
        self._questions.end_wait(domain)

    def next_time(self) -> float | None:
        """Return when lines() may have something to say."""
        times = [when for part in (self._connects, self._questions) if (when := part.next_time()) is not None]
        return min(times, default=None)

    def lines(self, now: float) -> list[bytes]:
        return self._connects.slow_lines(now) + self._questions.slow_lines(now)
