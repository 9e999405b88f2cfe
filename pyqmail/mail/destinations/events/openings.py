"""Session starts: a grant becomes OPEN, goes from address to address, and ends with a greeting or without.

An address that is tried holds a unit of its host and net.  READY names the one that won; the others give theirs back.

What an address gives back that has failed is free at once for another address of the same session; others who wait for
it are let in at the end of the turn, when what follows from the failure is in force.  (Were it kept until then instead,
another address in the same net would look taken, and the start would end as if no host was left.)
"""

from pyqmail.mail.destinations.events.consequences import Event
from pyqmail.mail.destinations.events.session_facts import start_facts
from pyqmail.mail.destinations.faults import blame
from pyqmail.mail.destinations.faults import table as t
from pyqmail.mail.destinations.faults.network import TEST_TIMEOUT
from pyqmail.mail.destinations.faults.table import Facts
from pyqmail.mail.destinations.limits.budgets import Pause
from pyqmail.mail.destinations.orders import CLOSE, MORE, OPEN, Opening
from pyqmail.mail.destinations.outcome import CONNECT, GREETING, NAME
from pyqmail.mail.destinations.sessions import CLOSING, CONNECTING, OPENED, SessionNumbers
from pyqmail.mail.destinations.views.recent import REFUSED_SESSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.doors import Door
    from pyqmail.mail.destinations.events.consequences import Consequences
    from pyqmail.mail.destinations.events.guards import Guards
    from pyqmail.mail.destinations.events.learning import Learning
    from pyqmail.mail.destinations.events.trials import Trials
    from pyqmail.mail.destinations.limits.budgets import Budget
    from pyqmail.mail.destinations.orders import Limits
    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.host_units import HostUnits
    from pyqmail.mail.destinations.scheduling.ways import Ways
    from pyqmail.mail.destinations.sessions import DeliverySession

UNPROVEN_CONNECT_SECONDS = 10.0
FREE_HEDGES, HEDGE_SHARE = 3, 10  # the first three of a site, then one session in ten
HOSTS_OFF = b"hosts off"


class Openings:
    """choose and open_session of Admission, and the events of a session start.

    feed(session, now): it has greeted.
    """

    def __init__(
        self,
        core: "Core",
        ways: "Ways",
        units: "HostUnits",
        trials: "Trials",
        consequences: "Consequences",
        learning: "Learning",
        guards: "Guards",
        timeouts: tuple[float, float, float],
        feed: "Callable[[DeliverySession, float], None]",
    ) -> None:
        self._core, self._ways, self._units, self._trials = core, ways, units, trials
        self._consequences, self._learning, self._timeouts, self._feed = consequences, learning, timeouts, feed
        self._guards, self.sessions, self.connecting = guards, SessionNumbers(), 0

    # a grant

    def choose(self, door: "Door", now: float) -> "tuple[Budget, ...]":
        """Choose the host that a door's next session tries; return its units, or those that are in the way."""
        candidates, hosts = door.candidates, self._core.hosts
        found: dict[bytes, tuple[Budget, ...]] = {}

        def has_room(host: bytes, address: bytes) -> bool:
            units = found[address] = self._units.of(door, host, address, now)
            return all(unit.is_free(now) for unit in units)

        door.choice = hosts.choose(candidates, (), has_room, now, self._core.random, is_probe=is_dead(door))
        if door.choice is not None:
            return found[door.choice[1]]
        blocked = {unit: None for units in found.values() for unit in units if not unit.is_free(now)}
        if blocked:
            return tuple(blocked)
        budget = door.site_budget
        assert budget is not None
        pause = Pause(max(hosts.back_time(candidates, now), now + 1.0), HOSTS_OFF)
        budget.pause(pause if candidates else self._ways.sources.not_reached(door, now))
        return (budget,)

    def open_session(self, door: "Door", units: "tuple[Budget, ...]", now: float) -> None:
        assert door.choice is not None
        (host, address), count = door.choice, len(units) - len(door.chain)
        session = self.sessions.add(door, units[count:], now)
        session.is_trial = self._core.budgets.unproven in units
        self._begin(session, host, address, units[:count], now)
        door.attempts += 1
        door.started += 1
        door.chain = self._ways.chain(door, now)
        for lane in (*door.lanes, *(door.fallen or ())) if is_dead(door) else ():  # perhaps they have moved
            self._ways.refresh(lane, now)
        if session.is_trial:
            self._trials.started(session, now)

    def open_test(self, door: "Door", now: float) -> bool:
        """Open a session that only tells whether anybody answers us; False: no host, or no unit of the total."""
        core = self._core
        choice = core.hosts.choose(door.candidates, (), _everywhere, now, core.random, is_probe=True)
        if choice is None or not core.admission.take((core.budgets.total,), 1, now):
            return False
        session = self.sessions.add(door, (core.budgets.total,), now)
        session.is_test = True
        self._begin(session, *choice, (), now)
        return True

    def _begin(
        self, session: "DeliverySession", host: bytes, address: bytes, units: "tuple[Budget, ...]", now: float
    ) -> None:
        door = session.door
        session.tries[address] = host, units, now
        session.tried[address] = None
        self.connecting += 1
        door.connecting += 1
        door.sessions += 1
        self._core.orders.append((OPEN, session.number, self._opening(session, host, address, now)))

    def _opening(self, session: "DeliverySession", host: bytes, address: bytes, now: float) -> Opening:
        door, memory = session.door, self._core.hosts.get(host)
        policy = door.policy
        connect, greeting, reply = self._timeouts
        connect = getattr(policy, "connect_seconds", None) or connect
        if session.is_trial or is_dead(door):
            connect = min(connect, UNPROVEN_CONNECT_SECONDS)
        greeting = getattr(policy, "greeting_seconds", None) or greeting
        if session.is_test:
            connect = greeting = TEST_TIMEOUT
        return Opening(
            *(host, address, door.site.port),
            source=door.address,
            helo=door.source.helo if door.source else b"",
            connect_seconds=connect,
            greeting_seconds=greeting,
            reply_seconds=getattr(policy, "reply_seconds", None) or reply,
            hedge_seconds=self._core.hosts.hedge_seconds(host),
            no_ehlo=memory.helo_until > now,
            no_pipelining=memory.single_until > now,
        )

    # what happens to it

    def waiting(self, number: int, now: float) -> None:
        """An address keeps the session waiting: another host of its preference is tried beside it, within bounds.

        The bounds spare hosts that are only slow: there are none once another session found out that this one is not.
        Beyond them no mail counts on the session any more: others may open for what is ready.
        """
        session = self.sessions.get(number)
        if session is None or session.state != CONNECTING or not session.tries or self._core.is_stopped:
            return
        self._guards.waits(session, now)
        door, (host, _, began) = session.door, next(iter(session.tries.values()))
        if len(session.tried) == 1 and not self._core.hosts.usable(door.candidates, session.tried, now):
            return  # there is no other
        is_free = door.hedged < FREE_HEDGES or door.hedged * HEDGE_SHARE < door.started
        memory = self._core.hosts.get(host)
        if is_free or (memory.penalty and memory.penalised_at > began):
            preference = next((one for one, name, _ in door.candidates if name == host), None)
            if self._try_another(session, now, preference=preference):
                door.hedged += is_free
                return
        if not session.is_late:
            session.is_late = True
            door.late += 1
            self._ways.seek(door, now)
        self._core.timers.at(now + self._core.hosts.hedge_seconds(host), self._wait_on, session)

    def _wait_on(self, session: "DeliverySession", now: float) -> None:
        number = session.number
        if number is not None and self.sessions.get(number) is session and len(session.tries) == 1:
            self.waiting(number, now)

    def ready(self, number: int, host: bytes, address: bytes, limits: "Limits", now: float) -> None:
        session = self.sessions.get(number)
        if session is None or session.state != CONNECTING:
            return
        self._guards.greeted(session, now)
        if session.is_test:
            self.close(session, now)
            return
        door, core = session.door, self._core
        began = session.tries[address][2] if address in session.tries else session.opened_at
        self._keep(session, address, now)
        self._connected(session)
        session.state, session.is_up, session.host, session.address = OPENED, True, host, address
        session.most_messages, session.most_recipients = limits.messages, limits.recipients
        here_up = door.up.get(address, 0)
        session.greeting_seconds = now - began
        core.hosts.note_habits(host, limits.has_helo_only, limits.has_no_pipelining, now)
        self._consequences.put_off_refusers(session, now)  # it is they alone
        door.up = door.up or {}
        door.up[address] = here_up + 1
        door.working += 1
        self._ways.greeted(door, now)
        if door.hollow:
            self._feed(session, now)
            self._ways.seek(door, now)  # it connects no longer: what it did not take is for another
            return  # believed once it has answered something
        budget, parcels = door.site_budget, door.ready
        if budget is not None and budget.pause_reason in (b"dead", HOSTS_OFF):
            budget.lift()
        self._feed(session, now)  # before others are woken: it takes what they would open for
        self._greeted(session, here_up, parcels, now)

    def answered(self, session: "DeliverySession", now: float) -> None:
        """A session has had its first answer about mail."""
        door = session.door
        if door.hollow:
            door.hollow = 0
            budget = door.site_budget
            if budget is not None and budget.pause_reason in (b"dead", HOSTS_OFF):
                budget.lift()
            self._greeted(session, door.up.get(session.address, 1) - 1, door.ready, now)

    def _greeted(self, session: "DeliverySession", here_up: int, parcels: int, now: float) -> None:
        """A site has greeted: it is proven, and alive."""
        door, core = session.door, self._core
        core.hosts.greeted(session.host, session.greeting_seconds, here_up, now)
        budget = door.site_budget
        window = budget.window if budget is not None else None
        if window is not None:
            if window.is_unproven(now):
                core.log.opened(door, session.greeting_seconds)
            if window.dead_since is not None:
                core.log.alive(door, now - window.dead_since, parcels)
        door.last_code = 0
        self._learning.greeted(session, now)
        if budget is not None:
            core.admission.changed(budget, now)
        self._leave_trial(session, now)
        self._ways.seek(door, now)

    def _leave_trial(self, session: "DeliverySession", now: float) -> None:
        """Nothing of the class of the unproven is held by a site that has greeted."""
        core, unproven = self._core, self._core.budgets.unproven
        for door in session.door.site.doors.values():
            if unproven in door.chain:
                self._ways.update_chain(door, now)
        if session.is_trial:
            session.is_trial = False
            session.units = tuple(unit for unit in session.units if unit is not unproven)
            core.admission.release((unproven,), now)

    def ended_address(self, number: int, outcome: "Outcome", now: float) -> None:
        """An address refused, or failed: another one, or the end of the start."""
        session = self.sessions.get(number)
        if session is None:
            return
        self._drop_try(session, outcome.address, now)
        if session.state != CONNECTING:
            return  # a hedge's loser that reported late
        self._guards.met(session, outcome, now)
        if session.is_test:
            self.close(session, now)
            return
        if outcome.stage in (GREETING, NAME):
            self._core.note(session.door, REFUSED_SESSION, now)
        facts = start_facts(self._core, session, outcome, now)
        facts.is_us = self._guards.is_us(session.door)
        row = blame.blame_start(facts)
        self._consequences.apply(row, Event(session.door, session, facts), now)
        if t.END_START in row.effects:
            if facts.is_us and not facts.has_answer:
                self._guards.withhold(session.door, outcome)
            self._ways.start_failed(session.door, facts, now)
            self._fail_start(session, outcome, now)
        elif not session.tries and not self._try_another(session, now):
            if self._has_full_host(session, now):
                self._consequences.put_off_refusers(session, now)
            else:
                self._blame_all_hosts(session, facts, now)
            self._fail_start(session, outcome, now)

    def _has_full_host(self, session: "DeliverySession", now: float) -> bool:
        """Return whether a host is left that has only no room now: not every host has failed then.

        The probe of a dead site sets the time of the next one, whatever else there is.
        """
        door = session.door
        return not is_dead(door) and bool(self._core.hosts.usable(door.candidates, session.tried, now))

    def _blame_all_hosts(self, session: "DeliverySession", facts: Facts, now: float) -> None:
        row = blame.blame_all_hosts(facts)
        self._consequences.apply(row, Event(session.door, session, facts), now)
        if t.FAIL_LANE in row.effects:
            self._core.failed_doors.append((session.door, facts.outcome))
        self._ways.start_failed(session.door, facts, now)

    def count_failure(self, door: "Door", outcome: "Outcome", now: float) -> None:
        """A start that failed a while ago was the site's fault after all."""
        facts = Facts(outcome)
        facts.others_up = sum(door.up.values())
        self._consequences.apply(blame.blame_all_hosts(facts), Event(door, None, facts), now)
        self._ways.start_failed(door, facts, now)

    def _fail_start(self, session: "DeliverySession", outcome: "Outcome", now: float) -> None:
        door = session.door
        door.last_code = outcome.code if outcome.stage != CONNECT else 0
        door.site.last_text = outcome.text
        self.close(session, now)

    def _try_another(self, session: "DeliverySession", now: float, preference: int | None = None) -> bool:
        """Order MORE for another address if there is one with room."""
        if self._core.is_stopped:
            return False
        door, found = session.door, dict[bytes, "tuple[Budget, ...]"]()

        def has_room(host: bytes, address: bytes) -> bool:
            units = found[address] = self._units.of(door, host, address, now)
            return all(unit.is_free(now) for unit in units)

        hosts, is_probe = self._core.hosts, is_dead(door)
        choice = hosts.choose(
            *(door.candidates, session.tried, has_room, now, self._core.random),
            is_probe=is_probe,
            preference=preference,
        )
        if choice is None:
            return False
        host, address = choice
        for unit in found[address]:
            unit.take(now)
        session.tries[address] = host, found[address], now
        session.tried[address] = None
        self._core.orders.append((MORE, session.number, self._opening(session, host, address, now)))
        return True

    # the end of a start

    def close(self, session: "DeliverySession", now: float) -> None:
        """Order a session to end."""
        door = session.door
        if session.state == CLOSING:
            return
        if session.state == CONNECTING:
            self._connected(session)
        else:
            door.working -= 1
            door.idle.pop(session, None)
        session.state = CLOSING
        self._core.closing += 1
        self._core.orders.append((CLOSE, session.number))
        self._ways.seek(door, now)

    def _connected(self, session: "DeliverySession") -> None:
        """It connects no longer."""
        self.connecting -= 1
        session.door.connecting -= 1
        session.door.late -= session.is_late

    def forget(self, session: "DeliverySession", now: float) -> None:
        """A session is gone: give back all it held."""
        if session.state == CONNECTING:
            self._connected(session)
        elif session.state == CLOSING:
            self._core.closing -= 1
        else:
            session.door.working -= 1
            session.door.idle.pop(session, None)
        session.state = CLOSING  # to whoever still knows it
        if session.is_test:
            self._guards.test_gone(session)
        assert session.number is not None
        self.sessions.remove(session.number)
        held = [unit for _, units, _ in session.tries.values() for unit in units]
        session.tries.clear()
        self._core.admission.release((*held, *session.units), now)
        self._units.given_back(held)

    def _keep(self, session: "DeliverySession", address: bytes, now: float) -> None:
        """Give back the units of all addresses but one."""
        for other in [one for one in session.tries if one != address]:
            self._drop_try(session, other, now)

    def _drop_try(self, session: "DeliverySession", address: bytes, now: float) -> None:
        """An address is tried no longer."""
        _, units, _ = session.tries.pop(address, (b"", (), 0.0))
        if units:
            self._core.admission.release(units, now)
            self._units.given_back(units)

    def end_turn(self, now: float) -> None:
        """An event has been applied, and all have been let in whom it lets in."""
        self._units.drop_unused(now)


def _everywhere(host: bytes, address: bytes) -> bool:
    return True


def is_dead(door: "Door") -> bool:
    budget = door.site_budget
    return budget is not None and budget.window is not None and budget.window.dead_since is not None
