"""What waits for delivery, by the way it goes: recipients, lanes of parcels, and the sessions that take those.

The words are those of engine.py, which decides who gets a session.
"""

import collections

PARCEL_RECIPIENTS = 100  # in one transaction; RFC 5321 section 4.5.3.1.8 promises as many

CONNECTING, OPENED, IDLE, CLOSING = "connecting", "opened", "idle", "closing"


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    Candidates = list[tuple[bytes, bytes, int]]  # host, address, port, in the order to try
    Parcel = list["Recipient"]
    Parcels = collections.deque[Parcel]

    class Message(Protocol):
        """What the engine asks of a message's pass: is_alone is True if each recipient needs its own transaction."""

        is_alone: bool

        def __hash__(self) -> int: ...


class Recipient:
    """One recipient to deliver to.

    owner is its pass, with `is_alone` True if every recipient needs a transaction of its own; offset where its record
    stands in the channel file.  slot, number and session are the caller's, for the delivery it becomes.
    """

    __slots__ = ("owner", "offset", "address", "slot", "number", "session", "returns")

    def __init__(self, owner: "Message", offset: int, address: bytes) -> None:
        self.owner, self.offset, self.address = owner, offset, address
        self.slot: int | None = None
        self.number: int | None = None
        self.session: int | None = None
        self.returns = 0


class Lane:
    """What goes to one domain: its parcels, where to (None while unknown), and how many sessions are in which state.

    destination and name say whom it depends on, and what is looked up for it; is_strange is True if strangers' name
    servers are asked.  returned are parcels that came back untouched from a session that had carried mail: only a new
    session takes them, so that what the server says of them is not what it says of the session.

    Parcels are kept last recipient first, so that cutting one is cheap.
    """

    __slots__ = (
        *("domain", "destination", "name", "is_strange", "parcels", "returned", "transactions", "candidates"),
        *("known_until", "is_asked", "is_listed", "ring", "idle", "connecting", "working", "leaving", "limit"),
    )

    def __init__(self, domain: bytes, is_strange: bool, destination: bytes, name: bytes) -> None:
        self.domain, self.is_strange, self.destination, self.name = domain, is_strange, destination, name
        self.parcels: Parcels = collections.deque()
        self.returned: Parcels | tuple[()] = ()
        self.transactions = 0  # that all those parcels make
        self.candidates: Candidates | None = None
        self.known_until = 0.0
        self.is_asked = self.is_listed = False
        self.ring: collections.OrderedDict[Lane, None] | None = None  # where it waits for a session
        self.idle: dict[Session, None] = {}  # an ordered set
        self.connecting = self.working = self.leaving = 0  # working: greeted and not closing; leaving: and closing
        self.limit: int | None = None  # once a session failed while the server had others: as many as those

    @property
    def wants(self) -> bool:
        """True if another session would find something to do."""
        return self.transactions > self.connecting and (
            self.limit is None or self.connecting + self.working + self.leaving < self.limit
        )

    @property
    def is_unused(self) -> bool:
        """True if it has no mail and no session that connects or works, and none is to come."""
        has_mail = self.parcels or self.returned
        return not (has_mail or self.connecting or self.working or self.is_asked or self.ring is not None)

    def add_parcel(self, parcel: "Parcel") -> None:
        self.parcels.append(parcel[::-1])
        self.transactions += _transactions(parcel)

    def return_recipient(self, recipient: Recipient) -> None:
        """Keep a recipient for a new session, together with those of its transaction that came back before it."""
        returned = self.returned = self.returned or collections.deque()
        last = returned[-1] if returned else None
        if last is None or last[0].owner is not recipient.owner:
            last = []
            returned.append(last)
        self.transactions -= _transactions(last)
        last.insert(0, recipient)
        self.transactions += _transactions(last)

    def cut_transaction(self, parcels: "Parcels", most: int) -> "Parcel":
        """Take one transaction off parcels, of at most so many recipients; the rest of its parcel goes to the end."""
        parcel = parcels.popleft()
        self.transactions -= _transactions(parcel)
        most = 1 if parcel[0].owner.is_alone else most
        taken = parcel[-most:]
        del parcel[-most:]
        if parcel:
            parcels.append(parcel)
            self.transactions += _transactions(parcel)
        taken.reverse()
        return taken

    def drain_parcels(self) -> "Iterator[Parcel]":
        """Take all parcels; yields them."""
        self.transactions = 0
        for parcels in (self.returned, self.parcels):
            while parcels:
                yield parcels.popleft()[::-1]


class Session:
    """number is its name on the wire.  address is that of the server, once it has greeted.

    messages      how many transactions were begun
    units         how many of the total it holds
    is_trial      its destination was unproven when it was granted (turns.py)
    has_result    a delivery has ended in it
    is_leaving    it had greeted, and is to close
    """

    __slots__ = (
        *("number", "lane", "state", "address", "flying", "messages", "units"),
        *("is_trial", "has_result", "is_leaving"),
    )

    def __init__(self, number: int, lane: Lane, is_trial: bool) -> None:
        self.number, self.lane, self.state, self.address = number, lane, CONNECTING, b""
        self.flying: set[Recipient] = set()  # in delivery
        self.messages, self.units, self.is_trial = 0, 1, is_trial
        self.has_result = self.is_leaving = False


def _transactions(parcel: "Parcel") -> int:
    """Return how many transactions a parcel makes."""
    if not parcel:
        return 0
    return len(parcel) if parcel[0].owner.is_alone else -(-len(parcel) // PARCEL_RECIPIENTS)
