"""How sessions end: what they held goes back, what they had in flight is deferred, and somebody may be to blame."""

from pyqmail.mail.destinations.doors import NONE
from pyqmail.mail.destinations.events.consequences import Event
from pyqmail.mail.destinations.events.results import died
from pyqmail.mail.destinations.events.session_facts import fill_facts
from pyqmail.mail.destinations.faults import blame
from pyqmail.mail.destinations.faults import table as t
from pyqmail.mail.destinations.faults.replies import classify
from pyqmail.mail.destinations.faults.session_rows import has_left
from pyqmail.mail.destinations.faults.table import Facts
from pyqmail.mail.destinations.orders import REPORT
from pyqmail.mail.destinations.sessions import CLOSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyqmail.mail.destinations.events.consequences import Consequences
    from pyqmail.mail.destinations.events.feeding import Feeding
    from pyqmail.mail.destinations.events.openings import Openings
    from pyqmail.mail.destinations.events.results import Results
    from pyqmail.mail.destinations.events.trials import Trials
    from pyqmail.mail.destinations.outcome import Outcome
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.deliveries import Deliveries
    from pyqmail.mail.destinations.scheduling.ways import Ways
    from pyqmail.mail.destinations.sessions import DeliverySession

LACK_SECONDS = 60.0


class SessionEnds:
    """closed(), lost(), lacking()."""

    def __init__(
        self,
        core: "Core",
        ways: "Ways",
        openings: "Openings",
        feeding: "Feeding",
        trials: "Trials",
        deliveries: "Deliveries",
        results: "Results",
        consequences: "Consequences",
    ) -> None:
        self._core, self._ways, self._openings, self._feeding = core, ways, openings, feeding
        self._trials, self._deliveries, self._results = trials, deliveries, results
        self._consequences = consequences
        self._lacks: list[int] = []  # totals as they were before each lack

    def closed(self, number: int, outcome: "Outcome | None", carried: int, now: float) -> None:
        session = self._openings.sessions.get(number)
        if session is None:
            return
        session.carried = max(session.carried, carried)
        session.is_dying = True
        self._defer_flying(session, now)
        if outcome is not None and session.is_up:
            self._blame_end(session, outcome, now)
        self._forget(session, now)

    def lost(self, numbers: "Sequence[int]", now: float) -> None:
        """Nothing is said of the servers: only what was in flight is deferred."""
        for number in numbers:
            session = self._openings.sessions.get(number)
            if session is not None:
                session.is_dying = True
                self._defer_flying(session, now)
                self._forget(session, now)

    def lacking(self, now: float) -> None:
        """The total is a tenth lower for a minute."""
        total = self._core.budgets.total
        if self._lacks:
            return
        self._lacks.append(total.limit)
        total.limit = max(1, total.limit - max(1, total.limit // 10))
        self._core.log.add(b"total: lowered to %d for %d: something is lacking here" % (total.limit, LACK_SECONDS))
        self._core.timers.at(now + LACK_SECONDS, self._no_lack, total)

    def _no_lack(self, total: object, now: float) -> None:
        self._core.budgets.total.limit = self._lacks.pop()
        self._core.admission.changed(self._core.budgets.total, now)

    def _defer_flying(self, session: "DeliverySession", now: float) -> None:
        """What was never reported may have been delivered: it is deferred, and the log says so."""
        flying = self._deliveries.flying(session)
        if not flying:
            return
        rows = self._core.rows
        number = rows.m_number[rows.p_message[session.parcel]]
        pairs = [(recipient, rows.r_offset[recipient]) for recipient in flying]
        letter = b"Z" if all([self._results.defer(session, recipient, now) for recipient in flying]) else b"D"
        outcome = died(session, letter, is_doubtful=True)
        self._core.log.doubtful(outcome)
        self._core.orders.append((REPORT, number, pairs, outcome))

    def _blame_end(self, session: "DeliverySession", outcome: "Outcome", now: float) -> None:
        """The server ended the session."""
        door = session.door
        facts = Facts(outcome, classify(outcome, self._core.rules.responses, getattr(door.policy, "groups", ())))
        fill_facts(facts, session, now)
        facts.carried, facts.had_parcel = session.carried, session.had_parcel or session.has_returned
        facts.was_answered = session.has_ended
        row = blame.blame_end(facts)
        if t.COUNT_START in row.effects:
            door.hollow += 1
        self._consequences.apply(row, Event(door, session, facts), now)
        is_full = 0 < session.carried == door.site.messages.value
        if session.state != CLOSING and session.has_ended and has_left(facts) and not is_full:
            # others that end now, after other numbers of messages, are of a server that shuts down
            door.ended_at, door.ended_after = now, session.carried

    def _forget(self, session: "DeliverySession", now: float) -> None:
        door = session.door
        self._trials.ended(session)
        self._feeding.gone(session)
        if session.is_up:
            left = door.up[session.address] - 1
            if left:
                door.up[session.address] = left
            else:
                del door.up[session.address]
                door.up = door.up or NONE
        door.sessions -= 1
        self._openings.forget(session, now)
        self._ways.update_chain(door, now)
        if not door.lane_count:
            self._ways.drop_door(door)
        self._ways.seek(door, now)
