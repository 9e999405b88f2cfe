"""How deliveries end: what counts, what is tried again and when, and what is learned of it."""

from pyqmail.mail.destinations.events.consequences import Event
from pyqmail.mail.destinations.events.session_facts import fill_facts
from pyqmail.mail.destinations.faults import blame
from pyqmail.mail.destinations.faults import table as t
from pyqmail.mail.destinations.faults.greylist import Bracket
from pyqmail.mail.destinations.faults.replies import classify
from pyqmail.mail.destinations.faults.table import Facts
from pyqmail.mail.destinations.orders import REPORT
from pyqmail.mail.destinations.outcome import DATA, DIALOGUE, DOUBTFUL, MAILDIR, SENDER, Outcome
from pyqmail.mail.destinations.retry import LOCAL_CONSTANT, REMOTE_CONSTANT, next_date
from pyqmail.mail.destinations.scheduling.deliveries import AT_HEAD, DEFERRED, FALLS, FRESH
from pyqmail.mail.destinations.views.recent import ACCEPTED_DELIVERY, DEFERRED_DELIVERY, FAILED_DELIVERY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.doors import Lane
    from pyqmail.mail.destinations.events.consequences import Consequences
    from pyqmail.mail.destinations.events.learning import Learning
    from pyqmail.mail.destinations.faults.table import Row
    from pyqmail.mail.destinations.rules.policies import Retry
    from pyqmail.mail.destinations.scheduling.core import Core
    from pyqmail.mail.destinations.scheduling.deliveries import Deliveries, End
    from pyqmail.mail.destinations.scheduling.mail_store import MailStore
    from pyqmail.mail.destinations.scheduling.ways import Ways
    from pyqmail.mail.destinations.sessions import DeliverySession


class Results:
    """result() and what may stand in its place.  answered(session, now): its first answer about mail has come."""

    def __init__(
        self,
        core: "Core",
        store: "MailStore",
        ways: "Ways",
        deliveries: "Deliveries",
        consequences: "Consequences",
        learning: "Learning",
        answered: "Callable[[DeliverySession, float], None]",
    ) -> None:
        self._core, self._store, self._ways, self._rows = core, store, ways, core.rows
        self._deliveries, self._consequences, self._learning = deliveries, consequences, learning
        self._answered = answered
        self._constant = LOCAL_CONSTANT if core.is_local else REMOTE_CONSTANT

    def result(self, recipient: int, outcome: "Outcome", carried: int, accepted: int, now: float) -> bytes:
        session = self._deliveries.session_of(recipient)
        if session is None:
            return outcome.letter if outcome.letter in (b"K", b"D") else b"Z"
        if not session.has_ended:
            session.has_ended = True
            self._answered(session, now)
        if session.lane is not None:
            session.lane.has_maildirs = outcome.stage == MAILDIR
        if session.number is None and outcome.stage not in t.STARTS:
            self._learning.greeted(session, now)
        if carried > session.carried:
            session.carried = carried
        if accepted and self._core.has_sessions:
            facts = Facts(outcome)
            self._consequences.apply(
                blame.blame_transaction(facts), Event(session.door, session, facts, b"", accepted), now
            )
        if outcome.letter == b"K":
            session.carried = max(session.carried, carried + 1)
            self._learning.accepted(session, session.parcel, now)
            self._core.note(session.door, ACCEPTED_DELIVERY, now)
            self._deliveries.gone(session, recipient, now)
            return b"K"
        lane = self._ways.lanes[self._rows.p_lane[self._rows.r_parcel[recipient]]]
        letter = self._fail(session, recipient, outcome, carried, now)
        if letter == b"Z":
            self._core.replies.note(lane.domain, outcome.text)
        self._core.note(session.door, DEFERRED_DELIVERY if letter == b"Z" else FAILED_DELIVERY, now)
        return letter

    def unsent(self, recipient: int, now: float) -> None:
        session = self._deliveries.session_of(recipient)
        if session is None:
            return
        session.has_returned = session.is_dying = True  # closed() follows
        if session.has_ended or self._deliveries.count_return(recipient):
            self._deliveries.ended(session, recipient, (FRESH if session.carried else AT_HEAD, 0), now)
        else:
            self._give_up(session, recipient, now)

    def dropped(self, recipient: int, now: float) -> None:
        session = self._deliveries.session_of(recipient)
        if session is not None:
            self._deliveries.gone(session, recipient, now)

    def put_off(self, recipient: int, seconds: float, now: float) -> None:
        session = self._deliveries.session_of(recipient)
        if session is not None:
            second = self._core.clock.second(now + seconds) + 1
            self._deliveries.ended(session, recipient, (DEFERRED, second), now)

    def _give_up(self, session: "DeliverySession", recipient: int, now: float) -> None:
        """A recipient came back too often: it is reported as deferred."""
        rows = self._rows
        number, pair = rows.m_number[rows.p_message[rows.r_parcel[recipient]]], (recipient, rows.r_offset[recipient])
        letter = b"Z" if self.defer(session, recipient, now) else b"D"
        self._core.orders.append((REPORT, number, [pair], died(session, letter)))

    def defer(self, session: "DeliverySession", recipient: int, now: float) -> bool:
        """Defer a recipient in flight; one whose message is too old has failed.  Return whether it is deferred."""
        parcel = self._rows.r_parcel[recipient]
        if self._is_too_old(parcel, now):
            self._deliveries.gone(session, recipient, now)
            return False
        self._defer(session, recipient, now)
        return True

    def _fail(self, session: "DeliverySession", recipient: int, outcome: "Outcome", carried: int, now: float) -> bytes:
        """A delivery ended without success: whose fault is it, and does it count?"""
        rows, door = self._rows, session.door
        parcel = rows.r_parcel[recipient]
        facts = Facts(outcome, classify(outcome, self._core.rules.responses, getattr(door.policy, "groups", ())))
        facts.carried = carried
        facts.is_new = not rows.p_tries[parcel] or parcel in self._store.grey_since
        bracket = door.site.bracket
        facts.has_greylist = bracket is not None and bracket.hi > 0
        fill_facts(facts, session, now)
        flow = self._core.senders.name(rows.m_sender[rows.p_message[parcel]])
        event = Event(door, session, facts, flow)
        if session.is_retry and not carried and outcome.stage in (SENDER, DATA):
            door.site.learn()
            door.site.messages.withdraw()  # it was not the connection that it came back from
        effects = self._blame(event, now) if not self._core.is_local else (t.COUNT,)
        letter = self._end(session, recipient, event, effects, now)
        if t.CLOSE_SESSION in effects:
            session.is_leaving = True
        return letter

    def _blame(self, event: Event, now: float) -> tuple[str, ...]:
        facts = event.facts
        if self._core.has_sessions or facts.outcome.stage not in t.STARTS:
            row = blame.blame_delivery(facts)
            self._consequences.apply(row, event, now)
            return row.effects
        return self._blame_start(event, now)

    def _blame_start(self, event: Event, now: float) -> tuple[str, ...]:
        """An agent that connects by itself could not: its site is to blame, and the parcel is parked."""
        facts = event.facts
        facts.is_last_host = True
        row: Row = blame.blame_start(facts)
        self._consequences.apply(row, event, now)
        if t.NEXT_HOST in row.effects:
            facts.has_answer = facts.outcome.stage != "connect"
            row = blame.blame_all_hosts(facts)
            self._consequences.apply(row, event, now)
        return (t.COUNT,) if t.FAIL_LANE in row.effects else (t.PARK,)

    def _end(
        self, session: "DeliverySession", recipient: int, event: Event, effects: tuple[str, ...], now: float
    ) -> bytes:
        facts, parcel = event.facts, self._rows.r_parcel[recipient]
        if t.FAIL in effects or (t.COUNT in effects and facts.outcome.letter == b"D"):
            self._deliveries.gone(session, recipient, now)
            return b"D"
        if self._is_too_old(parcel, now):
            self._deliveries.gone(session, recipient, now)
            return b"D"
        if t.PARK in effects and self._deliveries.count_return(recipient):
            end = FRESH if t.CLOSE_SESSION in effects and facts.carried else AT_HEAD
            self._deliveries.ended(session, recipient, (end, 0), now)
            return b"Z"
        second = 0
        if t.GREY_TRY in effects:
            second = self._grey_second(session, parcel, now)
        elif t.DEFER in effects and facts.rule is not None and facts.rule.seconds:
            second = self._core.clock.second(now + facts.rule.seconds) + 1
        if second:
            self._deliveries.ended(session, recipient, self._deferral(parcel, second, now), now)
        else:
            self._defer(session, recipient, now)
        return b"Z"

    def _defer(self, session: "DeliverySession", recipient: int, now: float) -> None:
        rows, clock = self._rows, self._core.clock
        parcel = rows.r_parcel[recipient]
        lane, message = self._ways.lanes[rows.p_lane[parcel]], rows.p_message[parcel]
        date = clock.date(now)
        tries, retry = rows.p_tries[parcel] + 1, self._retry(lane, message)
        when = next_date(retry, rows.m_birth[message], tries, date, self._constant, self._core.random)
        second = max(clock.second_of_date(when, now), clock.second(now) + 1)
        self._deliveries.ended(session, recipient, self._deferral(parcel, second, now), now)

    def _deferral(self, parcel: int, second: int, now: float) -> "End":
        """Return how a parcel ends that is deferred until a second; what is old may go to a relay before it."""
        lane, fallbacks = self._ways.lanes[self._rows.p_lane[parcel]], self._ways.fallbacks
        if fallbacks is None or getattr(lane.policy, "fallback", None) is None:
            return DEFERRED, second
        falls = fallbacks.fall_second(parcel, lane, now)
        if falls is None:
            return DEFERRED, second
        return (DEFERRED, min(second, falls)) if falls else (FALLS, 0)

    def _retry(self, lane: "Lane", message: int) -> "Retry | None":
        if self._ways.has_sender_rules:
            sender = self._ways.sender_policy(self._rows.m_sender[message])
            if sender is not None and sender.retry is not None:
                return sender.retry
        policy = (lane.home or lane).policy
        return policy.retry if policy is not None else None

    def _is_too_old(self, parcel: int, now: float) -> bool:
        lane = self._ways.lanes[self._rows.p_lane[parcel]]
        return self._store.is_too_old(lane, self._rows.p_message[parcel], now)

    def _grey_second(self, session: "DeliverySession", parcel: int, now: float) -> int:
        """Return when a parcel of class grey is tried again, 0 if that is no greylist's affair any more."""
        site, second = session.door.site, self._core.clock.second(now)
        since = self._store.grey_since.setdefault(parcel, second)
        bracket = site.bracket
        if bracket is None:
            bracket = site.bracket = Bracket()
        age = second - since
        bracket.deferred(age)
        first = getattr(session.door.policy, "grey_seconds", None)
        following = bracket.next_try(age, self._core.random, *([first] if first else ()))
        if following is None:
            del self._store.grey_since[parcel]
            return 0
        return since + int(following) + 1


def died(session: "DeliverySession", letter: bytes, *, is_doubtful: bool = False) -> Outcome:
    """Return the outcome of what a session had when it ended; is_doubtful: nobody knows how far that had come."""
    doubt = b" Possible duplicate!" if is_doubtful else b""
    report = b"%bConnected to %b but connection died.%b (#4.4.2)\n" % (letter, session.address, doubt)
    return Outcome(report, DOUBTFUL if is_doubtful else DIALOGUE, host=session.host, address=session.address)
