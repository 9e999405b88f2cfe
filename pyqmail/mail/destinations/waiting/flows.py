"""What is ready in one lane, and which of it goes next: classes, then flows, then messages, then parcels.

A LaneQueue has up to three classes: urgent, normal and bulk share 6 : 3 : 1, by deficit round robin; a parcel costs its
recipients and one for each 100 kB.  A class has flows, one for each sender.  A flow that becomes ready stands in the
list of the new ones and is served before the others; after its first turn, or when it is empty, it goes to the end of
the old list.  A turn is 10 recipients.  A flow has its messages in a ring; a message has its parcels in a chain behind
the first.
Source: Shreedhar and Varghese, Deficit round robin, 1995; RFC 8290 section 4.1.1 (new and old flows)
"""

from pyqmail.mail.destinations.waiting.rows import MailRows

URGENT, NORMAL, BULK = 0, 1, 2


class FlowRows:
    """The flows of all lanes in columns, while they are not empty.  One for all queues of an engine."""

    def __init__(self, rows: MailRows) -> None: ...


class LaneQueue:
    """What is ready in one lane through one source."""

    __slots__ = ("parcels",)  # how many

    def __init__(self, flows: FlowRows, number: int) -> None:
        """number: of this queue, below 2**32, unlike that of any other queue of these flows."""

    def add(self, parcel: int, klass: int, sender_key: int, *, at_head: bool = False) -> None:
        """Put in a parcel that has recipients; at_head: it came back untouched, and goes before all of its flow."""

    def take(self, most: int) -> int:
        """Take out the parcel whose turn it is, 0 if there is none; of more than `most` recipients the first go.

        A message that is IS_ALONE goes one by one.  The rest stays, and stands behind the flow's other messages.
        """
        return 0

    def strike(self, parcel: int) -> None:
        """Leave out a parcel of this queue: it counts no more, and is freed with its recipients when it comes up."""

    def transactions(self, most: int) -> int:
        """Return about how many transactions of at most this many recipients are ready."""
        return 0

    def drain(self) -> list[int]:
        """Take out all parcels, in no particular order."""
        return []
