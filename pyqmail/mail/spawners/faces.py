"""What the clients of spawners tell the queue manager: for readers and the type checker, not imported at run time."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pyqmail.mail.destinations.outcome import Outcome

    class DeliveryReports(Protocol):
        """Who hears of deliveries.  slot is the delivery's number on the wire."""

        def reported(self, slot: int, outcome: Outcome) -> None:
            """A delivery has ended."""

    class SessionReports(DeliveryReports, Protocol):
        """Who hears of sessions, too."""

        def trying(self, session: int, host: bytes) -> None:
            """It tries another candidate than the first."""

        def ready(self, session: int, address: bytes) -> None:
            """The server has greeted: mail may come."""

        def failed(self, session: int, outcome: Outcome) -> None:
            """It could not be opened."""

        def unsent(self, slot: int) -> None:
            """A delivery is for another session: what came of it in this one does not count."""

        def closed(self, session: int) -> None:
            """The server has gone.  Comes once for each session, last."""
