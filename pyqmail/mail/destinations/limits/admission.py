"""Admission: who may open the next session.

(theory follows with the code)
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pyqmail.mail.destinations.limits.budgets import Budget

    class Waiter(Protocol):
        """A door, as far as Admission knows it."""

        chain: tuple[Budget, ...]  # most specific first, the total last; changed through change_chain only, or in open_session
        place: Budget | tuple[Budget, ...] | None  # owned by Admission; None at first: where it stands

        @property
        def wants(self) -> bool:
            """Whether it would open one more session now."""

    OpenSession = Callable[[Waiter, tuple[Budget, ...], float], None]
    ChooseHost = Callable[[Waiter, float], tuple[Budget, ...]]


class Admission:
    """Grants sessions against budgets.

    open_session(waiter, units, now): a session is granted; units (the chain and what choose gave) are taken, and are to
    come back through release.  It makes the waiter's `wants` and `chain` true again before it returns.  It may call
    any method of Admission.

    choose(waiter, now), if given: called when every budget of the chain is free; returns the budgets of the host and
    net that it would use.  If all are free they are taken besides the chain; otherwise the waiter stands in the rooms
    of those that are not (and choose has found no host with room).
    """

    __slots__ = ("moves",)

    def __init__(self, open_session: "OpenSession", choose: "ChooseHost | None" = None) -> None:
        self.moves = 0  # how often a waiter was placed into a room

    def seek(self, waiter: "Waiter", now: float) -> None:
        """A waiter wants a session, or may want one more.  Nothing happens if it waits already."""

    def withdraw(self, waiter: "Waiter", now: float) -> None:
        """A waiter is to wait no longer (it goes away); what was offered to it goes to others."""

    def change_chain(self, waiter: "Waiter", chain: "tuple[Budget, ...]", now: float) -> None:
        """Give a waiter another chain; if it waits, it is tried again under that one."""

    def release(self, units: "tuple[Budget, ...]", now: float) -> None:
        """A session is over: give back the units that open_session had."""

    def take(self, units: "tuple[Budget, ...]", count: int, now: float) -> int:
        """Take up to count more units of each (recipients in flight, for the total); return how many: 0 to count."""

    def give(self, units: "tuple[Budget, ...]", count: int, now: float) -> None:
        """Give back what take took."""

    def changed(self, budget: "Budget", now: float) -> None:
        """A budget may have become free without a release: limit or learned raised, a pause lifted or set."""

    def due(self, now: float) -> None:
        """Serve the rooms of budgets whose time has come: a pause is over, a rate's time, a ceiling's."""

    def next_time(self) -> float | None:
        """Return when due has something to do; it may be too early."""

    def place_of(self, waiter: "Waiter") -> int:
        """Return how many stand before a waiter in its room; 0 for the first, and for one that does not wait.  Slow."""

    def waiting(self, budget: "Budget") -> int:
        """Return how many stand in a budget's room."""
