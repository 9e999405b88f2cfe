"""Which way recipients go, and which of a message's go together: the key of their lane.

A grouping takes a message and recipients of it that have become due, and returns (key, parcel) pairs: each parcel not
empty, the recipients in their order.  The lists are the engine's to change.
"""

from pyqmail.base.addresses import domain_part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from pyqmail.mail.destinations.old.lanes import Message, Recipient

    Grouping = Callable[[Message, list[Recipient]], Iterable[tuple[Hashable, list[Recipient]]]]


def by_message(message: "Message", recipients: "list[Recipient]") -> "Iterable[tuple[Hashable, list[Recipient]]]":
    """Messages take turns: the local channel."""
    return [(message, recipients)] if recipients else []


def by_domain(message: "Message", recipients: "list[Recipient]") -> "Iterable[tuple[bytes, list[Recipient]]]":
    """Domains take turns.  A domain is what follows the last @, in lower case."""
    if len(recipients) == 1:
        return ((domain_part(recipients[0].address).lower(), recipients),)
    parcels: dict[bytes, list[Recipient]] = {}
    for recipient in recipients:
        parcels.setdefault(domain_part(recipient.address).lower(), []).append(recipient)
    return parcels.items()
