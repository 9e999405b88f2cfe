"""Waiting rooms: who stands before a budget, in which order.

A room is a ring of classes, a class a ring of waiters.  Two waiters are in one class of a budget if the budgets broader
than it are the same in their chains: where one of them is blocked further up, all of them are.  A class is known by
that rest of the chain, a tuple.

Rooms do not know budgets; who is added is in no other room, or in several at once (Admission keeps account).
"""

from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from pyqmail.mail.destinations.limits.admission import Waiter
    from pyqmail.mail.destinations.limits.budgets import Budget

    Broader = tuple[Budget, ...]

    class WaitingRoom(Protocol):
        """What Admission asks of a room."""

        is_lasting: bool  # kept by its budget when it is empty
        size: int  # how many stand here

        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[Waiter]: ...
        def add(self, waiter: Waiter, broader: Broader) -> None: ...
        def remove(self, waiter: Waiter, broader: Broader) -> None: ...
        def take_next(self, skipped: list[Broader]) -> tuple[Waiter, Broader] | None: ...


class Room:
    """The classes in turn, each first come, first served.

    One waiter costs no ring: the room of a door's own budget never has another, and there may be 100,000 of them.
    """

    __slots__ = ("size", "_waiter", "_broader", "_rings")
    is_lasting = False

    def __init__(self) -> None:
        self.size = 0
        self._waiter: Waiter | None = None  # the only one
        self._broader: Broader = ()
        self._rings: OrderedDict[Broader, OrderedDict[Waiter, None]] | None = None

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> "Iterator[Waiter]":
        """The order in which they stand: of several classes, one of each in turn."""
        if self._waiter is not None:
            yield self._waiter
        rings = [iter(ring) for ring in self._rings.values()] if self._rings else []
        while rings:
            heads = [(next(ring, None), ring) for ring in rings]
            yield from (waiter for waiter, _ in heads if waiter is not None)
            rings = [ring for waiter, ring in heads if waiter is not None]

    def add(self, waiter: "Waiter", broader: "Broader") -> None:
        """Place a waiter at the tail of its class."""
        self.size += 1
        rings = self._rings
        if rings is None:
            if self._waiter is None:
                self._waiter, self._broader = waiter, broader
                return
            rings = self._rings = OrderedDict({self._broader: OrderedDict({self._waiter: None})})
            self._waiter = None
        ring = rings.get(broader)
        if ring is None:
            rings[broader] = OrderedDict({waiter: None})
        else:
            ring[waiter] = None

    def remove(self, waiter: "Waiter", broader: "Broader") -> None:
        """Take out a waiter that stands here."""
        self.size -= 1
        rings = self._rings
        if rings is None:
            self._waiter = None
            return
        ring = rings[broader]
        del ring[waiter]
        if not ring:
            del rings[broader]

    def take_next(self, skipped: "list[Broader]") -> "tuple[Waiter, Broader] | None":
        """Take out the head of the next class that is not skipped; its class goes to the tail.  None: there is none."""
        rings = self._rings
        if rings is None:
            waiter = self._waiter
            if waiter is None or self._broader in skipped:
                return None
            self._waiter = None
            self.size = 0
            return waiter, self._broader
        for broader in rings:
            if broader not in skipped:
                break
        else:
            return None
        ring = rings[broader]
        waiter, _ = ring.popitem(last=False)
        self.size -= 1
        if not ring:
            del rings[broader]
        elif len(rings) > 1:
            rings.move_to_end(broader)
        return waiter, broader


class LeastTriedRoom:
    """The room of the unproven: served in three orders in turn.

    The never-tried waiter that came last, the never-tried one that came first, the one tried least often.  So a new
    destination is looked at soon, however many are silent.

    attempts(waiter): session starts so far, asked when it is placed here.  yield_one(): somebody waits here now; the
    session that has waited longest for its greeting may give way.
    """

    __slots__ = ("size", "_attempts", "_yield_one", "_fresh", "_tried", "_counts", "_turn")
    is_lasting = True

    def __init__(self, attempts: "Callable[[Waiter], int]", yield_one: "Callable[[], None]") -> None:
        self._attempts, self._yield_one = attempts, yield_one
        self._fresh: OrderedDict[Waiter, None] = OrderedDict()
        self._tried: dict[int, OrderedDict[Waiter, None]] = {}
        self._counts: dict[Waiter, int] = {}  # of all that stand here: attempts when they were placed
        self._turn = self.size = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> "Iterator[Waiter]":
        """Those never tried first, then those tried least often."""
        yield from self._fresh
        for attempts in sorted(self._tried):
            yield from self._tried[attempts]

    def add(self, waiter: "Waiter", broader: "Broader") -> None:
        attempts = self._counts[waiter] = self._attempts(waiter)
        self.size += 1
        if attempts:
            self._tried.setdefault(attempts, OrderedDict())[waiter] = None
        else:
            self._fresh[waiter] = None
        self._yield_one()

    def remove(self, waiter: "Waiter", broader: "Broader") -> None:
        attempts = self._counts.pop(waiter)
        self.size -= 1
        if not attempts:
            del self._fresh[waiter]
            return
        ring = self._tried[attempts]
        del ring[waiter]
        if not ring:
            del self._tried[attempts]

    def take_next(self, skipped: "list[Broader]") -> "tuple[Waiter, Broader] | None":
        """As in Room; all that is broader than this budget is the total, so there is one class."""
        if skipped or not self._counts:
            return None
        waiter = self._next()
        self.remove(waiter, ())
        return waiter, ()

    def _next(self) -> "Waiter":
        turn = self._turn
        self._turn = (turn + 1) % 3
        if self._fresh and (turn < 2 or not self._tried):
            return next(reversed(self._fresh) if turn == 0 else iter(self._fresh))
        return next(iter(self._tried[min(self._tried)]))
