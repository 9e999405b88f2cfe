"""Sessions: one attempt to connect and what follows, until the server has gone.

                        ready()                    nothing to do
    OPEN  CONNECTING --------> OPENED <---------------------------> IDLE
              |                   |     DELIVER     a parcel comes    |
              | no host is left   | n is reached, it is old, it gave  | idle= is over, somebody waits for
              | gave way, stop()  | way, the server said so, stop()   | one of its units, stop()
              v                   v                                   |
           CLOSING <--------------+-----------------------------------+   CLOSE

closed() may come in any state, once, and ends it.  Without sessions of our own a session is one delivery: it is OPENED
when it is granted, and ends with the delivery.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.doors import Door, Lane
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.scheduling.local_channel import LocalBatch

CONNECTING, OPENED, IDLE, CLOSING = "connecting", "opened", "idle", "closing"


class DeliverySession:
    """number is its name in orders, None without sessions of our own.

    units       the budgets of which it holds one each; extra: units of the total besides, for recipients in flight
    tries       address -> (host, units of host and net): the addresses that are being tried, and the one it is with
    tried       all addresses of this session start
    parcel, flying  the transaction in flight, 0 without one, and how many of its recipients have not been reported
    carried     messages that were accepted; messages: transactions begun
    most_messages, most_recipients   as the server announced; 0: it did not
    refusers    hosts that refused the connection in this start
    has_answer, only_no_mail   of the start: an address answered; each answered 521
    has_returned   something came back untouched; had_parcel: something was in flight when it ended
    is_retry    its first parcel came back from another connection, which had carried mail
    gave_way    it was ended for the sake of another trial
    is_trial    it holds a unit of the class of the unproven
    is_up       it was greeted, and has not gone
    is_leaving  it is to end after what is in flight; is_dying: it ends by itself, or has ended
    is_late     connecting, and no mail counts on it any more
    lane, batch of a local delivery: its recipient's, and what it goes together with, None for nothing
    is_test     it shall tell whether our network works; no budget counts it
    """

    __slots__ = (
        *("number", "door", "state", "units", "extra", "tries", "tried", "host", "address", "preference"),
        *("parcel", "flying", "carried", "messages", "most_messages", "most_recipients", "opened_at", "idle_since"),
        *(
            "is_trial",
            "is_test",
            "is_late",
            "is_up",
            "is_leaving",
            "is_dying",
            "has_ended",
            "grace",
            "lane",
            "batch",
            "greeting_seconds",
            "refusers",
            "gave_way",
            "has_answer",
            "only_no_mail",
            "has_returned",
            "had_parcel",
            "is_retry",
        ),
    )

    def __init__(self, number: int | None, door: "Door", units: "tuple[Budget, ...]", now: float) -> None:
        self.number, self.door, self.state, self.units = number, door, CONNECTING, units
        self.extra = self.parcel = self.flying = self.carried = self.messages = 0
        self.tries: dict[bytes, tuple[bytes, tuple[Budget, ...], float]] = {}
        self.tried: dict[bytes, None] = {}
        self.host, self.address, self.preference = b"", b"", 0
        self.most_messages = self.most_recipients = 0
        self.opened_at, self.idle_since, self.grace, self.greeting_seconds = now, 0.0, 0.0, 0.0
        self.is_trial = self.is_test = self.is_late = self.is_up = self.is_dying = self.is_leaving = self.has_ended = (
            False
        )
        self.refusers: dict[bytes, None] = {}
        self.gave_way = self.has_answer = self.has_returned = self.had_parcel = self.is_retry = False
        self.only_no_mail = True
        self.lane: Lane | None = None
        self.batch: LocalBatch | None = None

    @property
    def all_units(self) -> "tuple[Budget, ...]":
        """The budgets whose rates its messages count against: those of the host that it is with, and all others."""
        held = self.tries.get(self.address)
        return self.units if held is None else (*held[1], *self.units)


class SessionNumbers:
    """Sessions by number; a number is used again only when its session is gone."""

    __slots__ = ("_sessions", "_last")

    def __init__(self) -> None:
        self._sessions: dict[int, DeliverySession] = {}
        self._last = 0

    def add(self, door: "Door", units: "tuple[Budget, ...]", now: float) -> DeliverySession:
        number = self._last % 0xFFFFFFFF + 1
        while number in self._sessions:
            number = number % 0xFFFFFFFF + 1
        self._last = number
        session = self._sessions[number] = DeliverySession(number, door, units, now)
        return session

    def get(self, number: int) -> DeliverySession | None:
        return self._sessions.get(number)

    def remove(self, number: int) -> DeliverySession | None:
        return self._sessions.pop(number, None)

    def all(self) -> list[DeliverySession]:
        return list(self._sessions.values())
