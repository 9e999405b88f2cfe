"""What waits for delivery, by the way it goes: recipients, lanes of parcels, and the sessions that take those.

The words are those of engine.py, which decides who gets a session.
"""

import collections

PARCEL_RECIPIENTS = 100  # in one transaction; RFC 5321 section 4.5.3.1.8 promises as many

CONNECTING, OPENED, IDLE, CLOSING = "connecting", "opened", "idle", "closing"


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Message(Protocol):
        """What the engine asks of a message's pass: is_alone is True if each recipient needs its own transaction."""

        is_alone: bool


class Recipient:
    """One recipient to deliver to.

    owner is its pass, with `is_alone` True if every recipient needs a transaction of its own; offset where its record
    stands in the channel file.  slot, number and session are the caller's, for the delivery it becomes.
    """

    __slots__ = ("owner", "offset", "address", "slot", "number", "session", "returns")

    def __init__(self, owner, offset: int, address: bytes) -> None:
        self.owner, self.offset, self.address = owner, offset, address
        self.slot = self.number = self.session = None
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
        self.parcels, self.returned = collections.deque(), ()
        self.transactions = 0  # that all those parcels make
        self.candidates, self.known_until = None, 0.0
        self.is_asked = self.is_listed = False
        self.ring = None  # where it waits for a session
        self.idle = {}  # sessions, an ordered set
        self.connecting = self.working = self.leaving = 0  # working: greeted and not closing; leaving: and closing
        self.limit = None  # once a session failed while the server had others: as many as those

    @property
    def wants(self) -> bool:
        """True if another session would find something to do."""
        return self.transactions > self.connecting and (
            self.limit is None or self.connecting + self.working + self.leaving < self.limit
        )

    def add(self, parcel: list) -> None:
        self.parcels.append(parcel[::-1])
        self.transactions += _transactions(parcel)

    def give_back(self, recipient) -> None:
        """Keep a recipient for a new session, together with those of its transaction that came back before it."""
        last, owner = self.returned[-1] if self.returned else None, recipient.owner
        if last is None or last[0].owner is not owner:
            last = []
            self.returned = self.returned or collections.deque()
            self.returned.append(last)
        self.transactions -= _transactions(last)
        last.insert(0, recipient)
        self.transactions += _transactions(last)

    def take(self, parcels, most: int) -> list:
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

    def take_all(self):
        """Take all parcels; yields them."""
        self.transactions = 0
        for parcels in (self.returned, self.parcels):
            while parcels:
                yield parcels.popleft()[::-1]


class Session:
    __slots__ = (
        *("number", "lane", "state", "address", "flying", "messages", "units"),
        *("is_trial", "has_result", "is_leaving"),
    )

    def __init__(self, number: int, lane: Lane, is_trial: bool) -> None:
        self.number, self.lane, self.state, self.address = number, lane, CONNECTING, b""
        self.flying = set()  # recipients in delivery
        self.messages, self.units, self.is_trial = 0, 1, is_trial
        self.has_result = self.is_leaving = False


def _transactions(parcel):
    """Return how many transactions a parcel makes."""
    if not parcel:
        return 0
    return len(parcel) if parcel[0].owner.is_alone else -(-len(parcel) // PARCEL_RECIPIENTS)
