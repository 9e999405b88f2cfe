"""The window of a door: how many sessions a site may have through a source, learned from what it answers.  (theory follows)"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random

    from pyqmail.mail.destinations.limits.budgets import Pause


class Window:
    """initial: the window after the first greeting; floor: learning never goes below; dead_after: failed starts, 0 never."""

    __slots__ = ()

    def __init__(self, initial: int = 2, floor: int = 1, dead_after: int = 3) -> None: ...

    def is_unproven(self, now: float) -> bool:
        """Return whether no greeting was seen in the last 24 hours."""

    def allowed(self, now: float) -> int:
        """Return the learned cap: 1 while unproven or dead, else the window, at most the ceiling or one more."""

    def greeted(self, now: float, others_up: int, limit: int) -> bool:
        """A session was greeted while others_up greeted ones are up.  Returns whether allowed() may have changed."""

    def accepted(self, now: float, used: int, limit: int) -> bool:
        """A message was accepted while used sessions were there.  Returns whether allowed() has changed."""

    def refused(self, now: float, others_up: int, random: "Random") -> "Pause | None":
        """A session too many: learn the ceiling, or, with none up, return how long to pause."""

    def failed(self, now: float, others_up: int, random: "Random") -> "Pause | None":
        """A session start failed on every host.  Returns the pause until the next probe if the door is dead now."""

    def forgive(self, since: float) -> bool:
        """Take back failed starts since then (it was us); returns whether the door was dead because of them: lift the pause."""

    def next_time(self, now: float) -> float | None:
        """Return when allowed() grows by time alone; None: it does not."""
