"""Whether it is us: what session starts meet is shown to the guards, and what they decide is carried out.

While the whole network, or one source, is suspected, its budget (the total, or the source's) is paused, and nothing is
held against anybody; sessions that are up go on.  Test sessions hold no budget but a unit of the total, carry no mail,
and end with the first that they meet.  Once it is sure, what was held against others lately is taken back.
"""

from errno import EADDRNOTAVAIL, ECANCELED, ECONNREFUSED

from pyqmail.mail.destinations.faults.network import FROZEN, OK, SUSPECT, TAKE_BACK_SECONDS, NetworkGuard
from pyqmail.mail.destinations.limits.budgets import FOREVER, SOURCE, Pause
from pyqmail.mail.destinations.limits.windows import DEAD_REASON
from pyqmail.mail.destinations.outcome import CONNECT, DIALOGUE, HERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.doors import Door, Organisation
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.ways import Ways
    from pyqmail.mail.destinations.sessions import DeliverySession
    from pyqmail.mail.destinations.sources.shut import ShutSources

OUR_NETWORK = b"our network"  # reason of a pause
LOOKED_AT = 1000  # organisations that may have mail, at a time
_ANSWERS = (ECONNREFUSED, ECANCELED)  # ECANCELED: another address of the session has greeted


class _Watch:
    """A guard, what it pauses, and the source it is for; None: the whole network."""

    __slots__ = ("guard", "budget", "source")

    def __init__(self, guard: NetworkGuard, budget: "Budget", source: bytes | None) -> None:
        self.guard, self.budget, self.source = guard, budget, source


class Guards:
    """open_test(door, now) opens a test session, and returns whether it could.

    blame(door, outcome, now) counts a failed start that was withheld, since it was the site after all.
    """

    def __init__(self, core: "Core", ways: "Ways") -> None:
        self._core, self._ways = core, ways
        self._network = _Watch(NetworkGuard(), core.budgets.total, None)
        self._sources: dict[bytes, _Watch] = {}
        self._looked_at = 0
        self._withheld: list[tuple[Door, Outcome]] = []  # failed starts during a suspicion
        self.open_test: Callable[[Door, float], bool] = _none
        self.blame: Callable[[Door, Outcome, float], None] = _nobody

    def is_us(self, door: "Door") -> bool:
        """Return whether nothing is held against a site now."""
        if self._core.is_us:
            return True
        watch = self._sources.get(door.source.address) if door.source is not None else None
        return watch is not None and watch.guard.state != OK

    def met(self, session: "DeliverySession", outcome: "Outcome", now: float) -> None:
        """A session start met an address that did not greet."""
        stage, code = outcome.stage, outcome.code
        shut, address = self._ways.sources.shut, session.door.address
        if stage == HERE:
            if code == EADDRNOTAVAIL and address:
                shut.cannot_be_used(address, now)
            if session.is_test:
                self.test_gone(session)
            return
        if shut.unusable:
            shut.is_used(address, now)
        if stage == CONNECT and code not in _ANSWERS:
            self._show(session.door, now, is_silent=True)
        elif stage != DIALOGUE or not code:
            self._show(session.door, now)
        elif session.is_test:  # something connects, but nobody speaks
            self._show(session.door, now, is_silent=True)

    def waits(self, session: "DeliverySession", now: float) -> None:
        """A session start has waited longer than is usual where it goes."""
        name = session.door.site.organisation.name
        for watch in self._watches(session.door) if not session.is_test else ():
            before = watch.guard.state
            if watch.guard.waits(name, now) != before:
                self._follow(watch, before, now)
                break  # it is the network, not the source

    def withhold(self, door: "Door", outcome: "Outcome") -> None:
        """A start failed while it may have been us."""
        self._withheld.append((door, outcome))

    def greeted(self, session: "DeliverySession", now: float) -> None:
        if self._ways.sources.shut.unusable:
            self._ways.sources.shut.is_used(session.door.address, now)
        self._show(session.door, now)

    def test_gone(self, session: "DeliverySession") -> None:
        """A test session has ended; what it met is told already, if it met something."""
        for watch in self._watches(session.door):
            watch.guard.drop_test(session.door.site.organisation.name)

    def _watches(self, door: "Door") -> "list[_Watch]":
        """Return the guards that look at a door: that of its source only while the network is not in doubt."""
        if door.source is None or not door.source.address:
            return [self._network]
        address = door.source.address
        watch = self._sources.get(address)
        if watch is None:
            budget = self._core.budgets.find((SOURCE, address, address), address, SOURCE)
            watch = self._sources[address] = _Watch(NetworkGuard(b"source " + address), budget, address)
        return [self._network, watch]

    def _show(self, door: "Door", now: float, *, is_silent: bool = False) -> None:
        name = door.site.organisation.name
        for watch in self._watches(door):
            guard, before = watch.guard, watch.guard.state
            state = guard.failed(name, now) if is_silent else guard.answered(name, now)
            if state != before:
                self._follow(watch, before, now)
            if is_silent and state != OK:
                break  # it is the network, not the source

    def _follow(self, watch: _Watch, before: str, now: float) -> None:
        """Carry out what a guard has decided."""
        guard, core = watch.guard, self._core
        for line in guard.log_lines():
            core.log.add(line)
        if guard.state == OK:
            withheld, self._withheld = self._withheld, []
            for door, outcome in withheld if before == SUSPECT else ():
                self.blame(door, outcome, now)
            self._thaw(watch, now)
        elif guard.state == FROZEN:
            self._take_back(watch, guard.since - TAKE_BACK_SECONDS, now)
            if watch.source is not None:
                self._ways.sources.shut.freeze(watch.source)
        elif before == OK:
            core.is_us = core.is_us or watch is self._network
            watch.budget.pause(Pause(FOREVER, OUR_NETWORK))
            self._test(watch, now)

    def _thaw(self, watch: _Watch, now: float) -> None:
        core, budget = self._core, watch.budget
        if watch.source is None:
            core.is_us = False
        else:
            self._ways.sources.shut.thaw(watch.source)
        if budget.pause_reason == OUR_NETWORK and not core.is_stopped:
            budget.lift()
            core.admission.changed(budget, now)

    def _take_back(self, watch: _Watch, since: float, now: float) -> None:
        """What was held against others was our fault."""
        core = self._core
        core.hosts.take_back(since)
        if self._ways.fallbacks is not None:
            self._ways.fallbacks.forgive(since, now)
        for (_, _, source), budget in core.budgets.all_budgets():
            if watch.source is not None and source != watch.source:
                continue
            if budget.window is not None and budget.window.forgive(since) and budget.pause_reason == DEAD_REASON:
                budget.lift()
                core.admission.changed(budget, now)  # whoever waited there goes on to the budget that is paused

    def _test(self, watch: _Watch, now: float) -> None:
        """Open the test sessions of this time, and come again."""
        guard = watch.guard
        if guard.state == OK or self._core.is_stopped:
            return
        shut = self._ways.sources.shut
        doors = {
            one.name: door for one in self._ways.organisations() if (door := _door_of(one, watch, shut)) is not None
        }
        for name in guard.tests_wanted(now, self._core.random, self._waiting(watch, list(doors.items()))):
            door = doors.get(name)
            if door is None or not self.open_test(door, now):
                guard.drop_test(name)
        when = guard.next_time()
        if when is not None:
            self._core.timers.at(when, self._test, watch)

    def _waiting(self, watch: _Watch, doors: "list[tuple[bytes, Door]]") -> list[bytes]:
        """Return organisations that have mail and are not known to be silent; each time others are looked at."""
        if self._looked_at >= len(doors):
            self._looked_at = 0
        some = doors[self._looked_at : self._looked_at + LOOKED_AT]
        self._looked_at += LOOKED_AT
        return [
            name
            for name, door in some
            if not watch.guard.is_silent(name) and any(one.ready for one in door.site.organisation.doors)
        ]


def _door_of(organisation: "Organisation", watch: _Watch, shut: "ShutSources") -> "Door | None":
    """Return a door to an organisation: through the source that is tested, or one that is not shut, if there is any."""
    door: Door
    found: Door | None = None
    for door in organisation.doors:
        if watch.source is None:
            found = door
            if door.source is None or not (door.address in shut.frozen or door.address in shut.unusable):
                return door
        elif door.address == watch.source:
            return door
    return found


def _nobody(_: "Door", outcome: "Outcome", now: float) -> None:
    """Until sessions are opened nobody is to blame."""


def _none(_: "Door", now: float) -> bool:
    return False
