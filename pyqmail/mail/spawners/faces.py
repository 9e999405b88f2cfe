"""What the clients of spawners tell the queue manager: for readers and the type checker, not imported at run time."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pyqmail.mail.destinations.orders import Limits
    from pyqmail.mail.destinations.outcome import Outcome

    class DeliveryReports(Protocol):
        """Who hears of deliveries.  slot is the delivery's number on the wire."""

        def reported(self, slot: int, outcome: Outcome, carried: int = 0, accepted: int = 0) -> None:
            """A delivery has ended.

            carried: messages that its connection had taken before.  accepted: 0, or how many recipients of its
            transaction were accepted before the others were too many, which then went into another.
            """

    class SessionReports(DeliveryReports, Protocol):
        """Who hears of sessions, too."""

        def waiting(self, session: int) -> None:
            """An address has not answered within the time that its Opening has for that."""

        def ready(self, session: int, host: bytes, address: bytes, limits: Limits) -> None:
            """The server has greeted: mail may come.  The session's other addresses are done with."""

        def refused(self, session: int, outcome: Outcome) -> None:
            """The server at one address answered, and refused; more() or close_session() is expected."""

        def failed(self, session: int, outcome: Outcome) -> None:
            """One address could not be reached; so."""

        def lacking(self) -> None:
            """Descriptors, memory or ports have run out here; failed() or closed() of a session follows."""

        def unsent(self, slot: int) -> None:
            """A delivery is for another session: what came of it in this one does not count."""

        def closed(self, session: int, outcome: Outcome | None, carried: int = 0) -> None:
            """The server has gone.  Comes once for each session, last; all its deliveries have ended before.

            outcome: why it takes no more, None if we ended it, or nobody greeted.  carried: messages it took.
            """

        def lost_process(self, sessions: list[int], will_return: bool = False) -> None:
            """The process of these sessions has died: nothing more is heard of them, or of their deliveries.

            will_return: another one comes in its place, and the log tells of that.
            """
