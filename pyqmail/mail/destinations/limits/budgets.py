"""A budget: a limit with a counter, rates, pauses, a learned cap, and a room for those who wait for it.

A session takes one unit of every budget it falls under, or none.  So limits combine instead of shadowing one another,
and what a number means never depends on its value.  The room of the first budget that is not free is where a door
waits: it is the explanation, too.

What changes a budget other than through Admission (a limit raised, a pause lifted, a window opened) is told to
Admission.changed: otherwise nobody is woken.
"""

import math

from pyqmail.mail.destinations.limits.rates import Gcra, WrittenRate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.limits.rooms import WaitingRoom
    from pyqmail.mail.destinations.limits.windows import Window

    Rates = tuple[Gcra | WrittenRate, ...]

DOOR, SITE, ORGANISATION, GROUP, SOURCE = "door", "site", "organisation", "group", "source"
HOST, ADDRESS, NET, DOMAIN, UNPROVEN, SHARED, TOTAL = "host", "address", "net", "domain", "unproven", "shared", "total"
UNLIMITED = 1 << 40  # of a budget that has no written limit: a host, a source
NEVER, FOREVER = -math.inf, math.inf


class Pause:
    """No new session before a time.  reason: a word for people and logs; text: the reply that caused it, or empty."""

    __slots__ = ("until", "reason", "text")

    def __init__(self, until: float, reason: bytes, text: bytes = b"") -> None:
        self.until, self.reason, self.text = until, reason, text


class Budget:
    """name: shown to people.  kind: one of the words above.  limit: sessions at once; UNLIMITED without a written one.

    owner       the rule line that set the limit (`@yahoo:C=10 (destinations line 14)`), or empty: built in
    learned     the cap that was learned, None without any; learned_owner: the reply that taught it
    window      what learns the cap (Window), or None
    used        units taken now
    cap         min(limit, learned), 1 while it is cautious: kept up to date by the setters
    is_cautious     a pause was learned, and nothing was accepted after it: one session shows whether it is over
    connect_rates   what one session passes each; recipient_rates: what one recipient passes each; a WrittenRate may
                    be shared by many budgets
    not_before  nobody takes a unit before it: the end of a pause, or the next time of a rate
    paused_until, pause_reason, pause_text   the pause alone; in the past: none
    room, timer     Admission's alone
    partner         of a total: its SharedBudget, or None
    key             what the table of budgets finds it by; None: it is not in there
    """

    __slots__ = (
        "name", "kind", "owner", "learned_owner", "window", "used", "cap", "connect_rates", "recipient_rates",
        "not_before", "paused_until", "pause_reason", "pause_text", "room", "timer", "partner", "is_cautious", "key",
        "_limit", "_learned",
    )  # fmt: skip

    def __init__(
        self,
        name: bytes,
        kind: str,
        limit: int = UNLIMITED,
        *,
        owner: bytes = b"",
        connect_rates: "Rates" = (),
        recipient_rates: "Rates" = (),
    ) -> None:
        self.name, self.kind, self.owner, self.learned_owner = name, kind, owner, b""
        self.window: Window | None = None
        self.used, self.cap = 0, limit
        self._limit, self.is_cautious = limit, False
        self._learned: int | None = None
        self.connect_rates, self.recipient_rates = connect_rates, recipient_rates
        self.not_before, self.paused_until, self.pause_reason, self.pause_text = NEVER, NEVER, b"", b""
        self.room: WaitingRoom | None = None
        self.timer = FOREVER
        self.partner: Budget | None = None
        self.key: tuple[str, bytes, bytes | None] | None = None

    @property
    def limit(self) -> int:
        """The written limit, or the default."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._follow()

    @property
    def learned(self) -> int | None:
        """The learned cap; None: nothing is learned."""
        return self._learned

    @learned.setter
    def learned(self, learned: int | None) -> None:
        self._learned = learned
        self._follow()

    def is_free(self, now: float) -> bool:
        """Return whether a unit may be taken: used below the cap, not paused, every rate's next time past."""
        return self.used < self.cap and self.not_before <= now

    @property
    def has_rates(self) -> bool:
        """Whether sessions or recipients pass rates one by one."""
        return bool(self.connect_rates or self.recipient_rates)

    def free_time(self, now: float) -> float:
        """Return when time alone may free it (a pause, a rate, a ceiling whose time is over); infinity: it cannot."""
        if self.used < self.cap:
            return self.not_before
        window = self.window
        return max(window.next_time(now), self.not_before) if window is not None else FOREVER

    def pause(self, pause: Pause) -> bool:
        """Take no new session before pause.until.  A pause is only ever extended; returns whether it was."""
        if pause.until <= self.paused_until:
            return False
        self.paused_until, self.pause_reason, self.pause_text = pause.until, pause.reason, pause.text
        self.not_before = max(self.not_before, pause.until)
        return True

    def lift(self) -> None:
        """End the pause; Admission.changed wakes those who wait."""
        self.paused_until, self.pause_reason, self.pause_text = NEVER, b"", b""
        self._follow_rates()

    def take(self, now: float) -> None:
        """Take a unit, and let one pass each connect rate."""
        self.used += 1
        if self.connect_rates:
            self.connect_rates = _taken(self.connect_rates, 1, now)
            self._follow_rates()

    def recipients_allowed(self, now: float) -> int:
        """Return how many recipients may be sent now by the recipient rates; UNLIMITED without any."""
        allowed = UNLIMITED
        for rate in self.recipient_rates:
            allowed = min(allowed, rate.room(now))
        return allowed

    def send(self, count: int, now: float) -> None:
        """Let count recipients pass the recipient rates; they were allowed."""
        if self.recipient_rates:
            self.recipient_rates = _taken(self.recipient_rates, count, now)
            self._follow_rates()

    def use_rates(self, connect_rates: "Rates", recipient_rates: "Rates") -> None:
        """Take other rates from now on, or tell that those it has were changed.  Admission.changed wakes."""
        self.connect_rates, self.recipient_rates = connect_rates, recipient_rates
        self._follow_rates()

    def be_cautious(self, is_cautious: bool) -> None:
        """Take one session at a time from now on, or no longer; then Admission.changed wakes those who wait."""
        self.is_cautious = is_cautious
        self._follow()

    def refresh(self, now: float) -> None:
        """Read the learned cap from the window again."""
        if self.window is not None:
            self.learned = self.window.allowed(now)

    def _follow(self) -> None:
        learned = self._learned
        cap = self._limit if learned is None or learned > self._limit else learned
        self.cap = min(1, cap) if self.is_cautious else cap
        if self.partner is not None:
            self.partner.limit = shared_limit(self.cap)

    def _follow_rates(self) -> None:
        time = self.paused_until
        for rate in self.connect_rates:
            time = max(time, rate.next_time())
        for rate in self.recipient_rates:
            time = max(time, rate.next_time())
        self.not_before = time


def _taken(rates: "Rates", count: int, now: float) -> "Rates":
    """Let count pass each rate; return the rates, each with a memory of its own."""
    for rate in rates:
        if isinstance(rate, WrittenRate):
            rates = tuple(one if isinstance(one, Gcra) else Gcra(one.interval, one.burst) for one in rates)
            break
    for rate in rates:
        if isinstance(rate, Gcra):
            rate.take(now, count)
    return rates


class SharedBudget(Budget):
    """What doors that have a session already may take of the total: all but its reserve, max(1, a tenth).

    It is counted with the total: its used is the total's, whoever took.  So a door without a session stands under the
    total only and may take the reserve; one that has a session stands under this and the total.
    """

    __slots__ = ()

    def __init__(self, total: Budget) -> None:
        super().__init__(total.name, SHARED, shared_limit(total.cap))
        self.used = total.used
        total.partner = self


def shared_limit(total: int) -> int:
    """Return what doors with a session may take of a total."""
    return total - max(1, total // 10)
