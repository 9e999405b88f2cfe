"""The faces that the parts of the queue manager show to each other.

Each class of this room gets in its constructor the parts that it needs, and no more.  Where a part is named by its
class, that class is what it needs; the Protocols here say how little of a part is used where that is less than all of
it, or where the part comes from another room.  They are for readers and for the type checker: nothing is imported from
here at run time.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from pyqmail.mail.destinations.orders import Opening
    from pyqmail.mail.destinations.rules.lookup import RuleSet
    from pyqmail.mail.manager.marks import OpenMessage
    from pyqmail.mail.manager.materialize import UnsettledMessage
    from pyqmail.mail.routing.exchangers import Hosts

    class Log(Protocol):
        """Whole lines, without their LF (mail/manager_log/sendlog.py)."""

        def add_line(self, line: bytes) -> None:
            """Have a line written at the end of this turn."""

        def flush(self) -> None:
            """Write what there is now, as far as the reader takes it."""

        def finish(self, seconds: float) -> None:
            """Write all that is left, for at most so many seconds."""

    class DeliveryLines(Protocol):
        """Lines about deliveries (mail/manager_log/delivery_log.py)."""

        def log_start(self, message: int, channel: bytes, recipient: bytes) -> int:
            """Return the number of a delivery that starts now."""

        def log_end(self, number: int, letter: bytes, text: bytes) -> None:
            """letter: K, Z or D; text: the rest of the report."""

        def log_unknown_slot(self) -> None: ...

        def log_lines(self, lines: list[bytes]) -> None: ...

    # to other processes

    class Replacement(Protocol):
        """What becomes of a process that is lost (mail/spawners/restarts.py)."""

        def will_replace(self, lost: Any) -> bool:
            """See to it that it ends; return whether another one comes in its place."""

    class PartRestarts(Protocol):
        """Brings the clients of the other processes new ones (mail/spawners/restarts.py)."""

        def listen(self) -> None: ...

        def close(self) -> None: ...

    class SpawnerClient(Protocol):
        """A spawner, connected (mail/spawners): what runs at most at once, and orders to it.

        What comes back goes to the ChannelDeliveries that listen() names.  Orders about sessions are for who has any.
        """

        max_together: int  # deliveries to one recipient that it may be given as a batch; 1: it knows no batches

        @property
        def limit(self) -> int: ...

        def listen(self, reports: Any, lost: Callable[[], None]) -> None: ...

        def open_session(self, session: int, opening: Opening) -> None: ...

        def more(self, session: int, opening: Opening) -> None: ...

        def deliver(
            self, session: int | None, path: bytes, sender: bytes, pairs: Sequence[tuple[int, bytes]]
        ) -> None: ...

        def close_session(self, session: int) -> None: ...

        def close(self) -> None: ...

    class LookupClient(Protocol):
        """Who asks a lookup."""

        def resolved(self, domain: bytes, hosts: Hosts) -> None: ...

        def nowhere(self, domain: bytes, report: bytes) -> None: ...

        def trouble(self, domain: bytes, reason: bytes) -> None: ...

    class HostLookup(Protocol):
        """Where mail for a domain goes (mail/routing/lookup.py)."""

        def listen(self, lost: Callable[[], None]) -> None:
            """Begin to hear answers."""

        obeys_routes: bool

        def route_of(self, domain: bytes) -> tuple[bytes, bytes, bytes] | None:
            """Return (key of the line, name to look up, relay) if control/smtproutes has a line for a domain."""

        def resolve(self, domain: bytes, channel: LookupClient, route: tuple[bytes, int] | None = None) -> None:
            """Answer by a call of one of channel's methods, now or later.  route: a relay that is looked up instead."""

        def close(self) -> None: ...

    class MessageRemover(Protocol):
        """The cleaner, as one who ends messages uses it (cleanup.py)."""

        def remove_message(self, number: int, then: Callable[[bool], None]) -> None: ...

    class EnvelopeRemover(Protocol):
        """The cleaner, as it is used for messages in todo (cleanup.py)."""

        def remove_envelope(self, number: int, then: Callable[[bool], None]) -> None: ...

    class TodoCleaner(Protocol):
        """The cleaner, as todo sees whether it can follow (cleanup.py)."""

        @property
        def unanswered(self) -> int: ...

    class DestinationRules(Protocol):
        """The rules about destinations (mail/policy_files/rule_reader.py)."""

        current: RuleSet

        def read(self) -> RuleSet | None:
            """Read the files again; returns the rules if they are others now."""

        def registrable(self, host: bytes) -> bytes: ...

    # from one part of the room to the next below it

    class MessageEnds(Protocol):
        """The end of messages (completion.py), as a channel uses it."""

        def remove_channel_file(self, channel: str, number: int) -> bool:
            """Nothing in the file is undone.  Returns False if it could not be removed."""

        def check_soon(self, number: int) -> None:
            """See in this turn whether the message is finished."""

    class ScannedEnds(Protocol):
        """The end of messages, as the scan at the start uses it."""

        def check_soon(self, number: int) -> None: ...

        def remove_leftovers(self, number: int) -> None: ...

    class TodoEnds(Protocol):
        """The end of messages, as it is used for new ones."""

        def check_soon(self, number: int) -> None: ...

        def remove_finished(self, number: int) -> None: ...

        def forget_message(self, number: int) -> None: ...

    class FileReader(Protocol):
        """Who reads channel files (queue_scan.py), as it is used for messages that are new."""

        def read_soon(self, channel: str, number: int) -> None: ...

    class TodoChannel(Protocol):
        """A channel as it is used for new messages (channel.py)."""

        @property
        def has_room(self) -> bool: ...

        def open_unsettled(
            self, unsettled: UnsettledMessage, recipients: Sequence[tuple[int, bytes]]
        ) -> OpenMessage: ...

        def adopt(self, message: OpenMessage, due: int) -> None: ...

        def forget_message(self, number: int) -> None: ...

    class StartScan(Protocol):
        """The scan at the start, as todo uses it (queue_scan.py)."""

        def note_new(self, number: int) -> None: ...
