"""What the views read of an engine, and change nothing of."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.ways import Ways
    from pyqmail.mail.destinations.sessions import DeliverySession


class EngineTables:
    """sessions(): all that there are, those of agents and of the local channel included."""

    __slots__ = ("core", "ways", "sessions")

    def __init__(self, core: "Core", ways: "Ways", sessions: "Callable[[], list[DeliverySession]]") -> None:
        self.core, self.ways, self.sessions = core, ways, sessions
