"""Admission: who may open the next session.

A waiter (a door) takes one unit of every budget of its chain, or none.  It is tried from the most specific budget to
the total; the first that is not free is where it stands, and nowhere else.

What is kept true: after each event no waiter that wants has all its budgets free.  Every wanting waiter stands in
the room of a budget that is not free, or one of its class stands further up for it:

    A room is a ring of classes; in a class of budget b are those whose budgets broader than b are the same.  When b has
    a unit, the heads of its classes are tried in turn.  One that is blocked at a broader budget goes there and carries
    the offer with it: that budget is in the chain of its whole class, so the class is left alone until it is served
    there, or gives up.  Then the offer is passed on: the rooms of its other budgets that have a unit are served, too.
    One that is blocked at a narrower budget goes down to that one, and the offer goes to the next.

So a thousand doors of one organisation never flood the room of the total, a release makes at most one offer for each
budget of the chain, and an offer climbs at most the length of the chain: about twice that many moves a session at
worst, whatever the number of those who wait.  What is woken is a work list: nothing recurses.

A release serves the broadest room first: otherwise who holds a unit of the total would keep it for ever.  Who has
opened and wants more goes to the tail of the total's room if anybody stands there.

Hosts and nets are chosen last, when every budget of the chain is free.  If none has room the waiter stands in the rooms
of those (the only case of several); they count as narrower than all of the chain but its first budget.

Time: a budget that time may free has one timer while somebody stands in its room; next_time and due.
"""

import heapq
from collections import OrderedDict, deque

from pyqmail.mail.destinations.limits.budgets import FOREVER
from pyqmail.mail.destinations.limits.rooms import Room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.limits.rooms import Broader

    class Waiter(Protocol):
        """A door, as far as Admission knows it."""

        # most specific first, the total last; changed by change_chain only, or in open_session
        chain: tuple[Budget, ...]
        place: Budget | tuple[Budget, ...] | None  # where it stands; Admission's alone, None at first

        @property
        def wants(self) -> bool:
            """Whether it would open one more session now."""

    OpenSession = Callable[[Waiter, tuple[Budget, ...], float], None]
    ChooseHost = Callable[[Waiter, float], tuple[Budget, ...]]


class Admission:
    """Grants sessions against budgets.

    open_session(waiter, units, now): a session is granted; its units are taken (what choose gave, then the chain) and
    come back through release.  The waiter's `wants` and `chain` tell what is true then when it returns.  It may call
    any method of Admission: what they would wake is woken after it.

    choose(waiter, now), if given, is called when every budget of the chain is free.  It returns the budgets of the host
    and net it would use: all free, or else, if no host has room, those that are in the way of each (at most 5 hosts).

    is_deferred: nobody is tried before settle(), which is called once an event has been applied as a whole.  Otherwise
    who waits for the unit of a session that was refused would open one more into the site that has just refused.

    moves counts how often a waiter was placed into a room.  full(waiter, budget), if set, is called when it is placed
    before a budget of which as much is used as is written, or whose time has not come.
    """

    __slots__ = (
        "moves",
        "full",
        "_open_session",
        "_choose",
        "_work",
        "_seekers",
        "_is_busy",
        "_is_deferred",
        "_carried",
        "_timers",
        "_serial",
    )

    def __init__(
        self, open_session: "OpenSession", choose: "ChooseHost | None" = None, *, is_deferred: bool = False
    ) -> None:
        self.moves = 0
        self.full: Callable[[Waiter, Budget], None] | None = None
        self._open_session, self._choose = open_session, choose
        self._work: deque[Budget] = deque()  # whose rooms are to be served
        self._seekers: OrderedDict[Waiter, None] = OrderedDict()  # who sought, and was not tried yet
        self._is_busy, self._is_deferred = False, is_deferred
        # the host or net whose unit is offered to a waiter that stands further up
        self._carried: dict[Waiter, Budget] = {}
        self._timers: list[tuple[float, int, Budget]] = []
        self._serial = 0

    def seek(self, waiter: "Waiter", now: float) -> None:
        """A waiter wants a session, or may want one more.  Nothing happens if it waits already."""
        if waiter.place is None:
            self._seekers[waiter] = None
            self._run(now)

    def settle(self, now: float) -> None:
        """An event has been applied: let in whom it lets in."""
        if self._work or self._seekers:
            self._serve_all(now)

    def withdraw(self, waiter: "Waiter", now: float) -> None:
        """A waiter is to wait no longer; what was offered to it goes to others."""
        if waiter.place is not None:
            self._leave(waiter)
            self._pass_on(waiter, waiter.chain, None, now)
            self._run(now)

    def change_chain(self, waiter: "Waiter", chain: "tuple[Budget, ...]", now: float) -> None:
        """Give a waiter another chain; one that waits is tried again, and what was offered to it goes to others."""
        if waiter.place is None:
            waiter.chain = chain
            return
        self._leave(waiter)
        self._pass_on(waiter, waiter.chain, None, now)
        waiter.chain = chain
        self._seekers[waiter] = None
        self._run(now)

    def release(self, units: "tuple[Budget, ...]", now: float) -> None:
        """A session is over: give back the units that open_session had."""
        for budget in units:
            budget.used -= 1
        self._gained(units, now)

    def take(self, units: "tuple[Budget, ...]", count: int, now: float) -> int:
        """Take up to count more units of each (recipients in flight, of the total); return how many: 0 to count."""
        for budget in units:
            count = min(count, budget.cap - budget.used)
        count = max(0, count)
        for budget in units:
            budget.used += count
        _count_shared(units[-1])
        return count

    def give(self, units: "tuple[Budget, ...]", count: int, now: float) -> None:
        """Give back what take took."""
        for budget in units:
            budget.used -= count
        self._gained(units, now)

    def changed(self, budget: "Budget", now: float) -> None:
        """A budget was changed other than by a session: limit, learned, rates, a pause set or lifted."""
        self._offer(budget, now)
        if budget.partner is not None:
            self._offer(budget.partner, now)
        self._run(now)

    def due(self, now: float) -> None:
        """Serve the rooms of budgets whose time has come: the end of a pause, the next time of a rate, of a ceiling."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            time, _, budget = heapq.heappop(timers)
            if budget.timer == time:
                budget.timer = FOREVER
                budget.refresh(now)
                self.changed(budget, now)

    def next_time(self) -> float | None:
        """Return when due() has something to do, None: nothing will come by time alone."""
        timers = self._timers
        while timers and timers[0][2].timer != timers[0][0]:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def place_of(self, waiter: "Waiter") -> int:
        """Return how many stand before a waiter that waits; slow in a long room: for explanation."""
        budget = waiter.place[0] if isinstance(waiter.place, tuple) else waiter.place
        if budget is None or budget.room is None:
            return 0
        return next((number for number, one in enumerate(budget.room) if one is waiter), 0)

    def _run(self, now: float) -> None:
        """Something has changed: let in whom it lets in, unless the rest of the event is to be heard first."""
        if not self._is_deferred:
            self._serve_all(now)

    def _serve_all(self, now: float) -> None:
        """Serve every room that has work, then those who sought; what open_session causes comes here, too."""
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._work or self._seekers:
                if self._work:
                    self._serve(self._work.popleft(), now)
                else:
                    self._let_in(self._seekers.popitem(last=False)[0], now)
        finally:
            self._is_busy = False

    def _let_in(self, waiter: "Waiter", now: float) -> None:
        if waiter.place is None:
            narrowest = waiter.chain[0]
            if narrowest.window is not None and not narrowest.used:
                narrowest.refresh(now)  # a day may have passed since its last session
            self._try(waiter, None, now)

    def _gained(self, units: "tuple[Budget, ...]", now: float) -> None:
        """Units came back: serve the rooms, the broadest first."""
        shared = _count_shared(units[-1])
        for budget in reversed(units):
            if budget.room is not None:
                self._offer(budget, now)
        if shared is not None and shared.room is not None and shared not in units:
            self._offer(shared, now)
        if self._work:
            self._run(now)

    def _serve(self, budget: "Budget", now: float) -> None:
        """Offer the units of a budget to those in its room, until none is left or none can take it."""
        skipped: list[Broader] = []
        while (room := budget.room) is not None:
            if budget.used >= budget.cap or budget.not_before > now:
                self._arm(budget, now)
                return
            found = room.take_next(skipped)
            if found is None:
                return
            waiter, broader = found
            if not room.size:
                _drop_empty(budget)
            if waiter.place is not budget:
                self._leave_others(waiter, budget)
            waiter.place = None
            chain = waiter.chain
            is_opened = self._try(waiter, budget, now)
            if waiter.place is not None and waiter.place is not budget:
                index = _index(chain, budget)
                if _stands_above(waiter, chain, index):
                    skipped.append(broader)
                    if not is_opened:
                        if budget is not chain[index]:
                            self._carried[waiter] = budget
                        continue
            self._pass_on(waiter, chain, budget, now)

    def _try(self, waiter: "Waiter", budget: "Budget | None", now: float) -> bool:
        """Open as many sessions as a waiter wants and may, or place it; budget: whose room it comes from.

        Returns whether any was opened.
        """
        is_opened = False
        while waiter.wants:
            chain = waiter.chain
            for index, one in enumerate(chain):
                if (one.used >= one.cap or one.not_before > now) and not _is_free_again(one, now):
                    if is_opened and one is chain[-1].partner and chain[-1].room is not None:
                        index += 1  # when it is its turn before the total its session may be over
                    self._place(waiter, chain, index, now)
                    return is_opened
            extra = self._choose(waiter, now) if self._choose is not None else ()
            if extra and not all(one.is_free(now) for one in extra):
                self._place_at_hosts(waiter, tuple(one for one in extra if not one.is_free(now)), now)
                return is_opened
            if is_opened and self._goes_to_the_tail(waiter, chain, budget, now):
                return True
            units = extra + chain if extra else chain
            for one in units:
                if one.connect_rates:
                    one.take(now)
                else:
                    one.used += 1
            if chain[-1].partner is not None:
                _count_shared(chain[-1])
            is_opened = True
            self._open_session(waiter, units, now)
        return is_opened

    def _goes_to_the_tail(
        self, waiter: "Waiter", chain: "tuple[Budget, ...]", budget: "Budget | None", now: float
    ) -> bool:
        """Place a waiter that has opened behind those who stand before the total, or before the budget it came from."""
        room = chain[-1].room
        if room is not None and room.size:
            self._place(waiter, chain, len(chain) - 1, now)
            self._work.append(chain[-1])
            return True
        if budget is not None and budget.room is not None and budget.room.size and budget in chain:
            self._place(waiter, chain, chain.index(budget), now)
            return True
        return False

    def _place(self, waiter: "Waiter", chain: "tuple[Budget, ...]", index: int, now: float) -> None:
        budget = chain[index]
        if budget.room is None:
            budget.room = Room()
        self.moves += 1
        waiter.place = budget
        budget.room.add(waiter, chain[index + 1 :])
        if self.full is not None and (budget.used >= budget.limit or budget.not_before > now):
            self.full(waiter, budget)
        self._arm(budget, now)

    def _place_at_hosts(self, waiter: "Waiter", budgets: "tuple[Budget, ...]", now: float) -> None:
        self.moves += 1
        waiter.place = budgets
        for budget in budgets:
            if budget.room is None:
                budget.room = Room()
            budget.room.add(waiter, waiter.chain[1:])
            if self.full is not None and (budget.used >= budget.limit or budget.not_before > now):
                self.full(waiter, budget)
            self._arm(budget, now)

    def _leave(self, waiter: "Waiter") -> None:
        """Take a waiter out of where it stands."""
        place, chain = waiter.place, waiter.chain
        if isinstance(place, tuple):
            for budget in place:
                _remove(waiter, budget, chain[1:])
        elif place is not None:
            _remove(waiter, place, chain[chain.index(place) + 1 :])
        waiter.place = None

    def _leave_others(self, waiter: "Waiter", budget: "Budget") -> None:
        """Take a waiter that was taken from one host's room out of the others it stands in."""
        if isinstance(waiter.place, tuple):
            for other in waiter.place:
                if other is not budget:
                    _remove(waiter, other, waiter.chain[1:])

    def _pass_on(self, waiter: "Waiter", chain: "tuple[Budget, ...]", served: "Budget | None", now: float) -> None:
        """Let the rooms of a waiter's budgets be served that have a unit; `served` is being served."""
        for budget in reversed(chain):
            if budget.room is not None and budget is not served:
                self._offer(budget, now)
        if self._carried:
            carried = self._carried.pop(waiter, None)
            if carried is not None:
                self._offer(carried, now)

    def _offer(self, budget: "Budget", now: float) -> None:
        """Let the room of a budget be served if it has a unit, or when time gives it one."""
        if budget.room is None:
            return
        if budget.used < budget.cap and budget.not_before <= now:
            self._work.append(budget)
        else:
            self._arm(budget, now)

    def _arm(self, budget: "Budget", now: float) -> None:
        """Let due() see to a budget that is not free, if time alone may free it."""
        if budget.not_before <= now and budget.window is None:
            return
        time = budget.free_time(now)
        if now < time < budget.timer:
            budget.timer = time
            self._serial += 1
            heapq.heappush(self._timers, (time, self._serial, budget))


def _count_shared(total: "Budget") -> "Budget | None":
    """Keep the count of a total's shared budget, and return it."""
    shared = total.partner
    if shared is not None:
        shared.used = total.used
    return shared


def _index(chain: "tuple[Budget, ...]", budget: "Budget") -> int:
    """Return where a budget stands in a chain; a host or net counts as the first."""
    return chain.index(budget) if budget in chain else 0


def _stands_above(waiter: "Waiter", chain: "tuple[Budget, ...]", index: int) -> bool:
    """Return whether a waiter stands at a budget broader than the one at index."""
    place = waiter.place
    return place is not None and not isinstance(place, tuple) and place in chain[index + 1 :]


def _is_free_again(budget: "Budget", now: float) -> bool:
    """Return whether a budget is free after all: the time of its ceiling may be over."""
    if budget.window is None:
        return False
    budget.refresh(now)
    return budget.is_free(now)


def _remove(waiter: "Waiter", budget: "Budget", broader: "Broader") -> None:
    if budget.room is not None:
        budget.room.remove(waiter, broader)
        _drop_empty(budget)


def _drop_empty(budget: "Budget") -> None:
    room = budget.room
    if room is not None and not room.size and not room.is_lasting:
        budget.room = None
