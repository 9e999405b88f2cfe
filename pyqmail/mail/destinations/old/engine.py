"""The engine of deliveries through sessions: who is delivered to next, and over which connection.

Pure: events come in by method, orders (orders.py) go out by take_orders(), the time is an argument.

Words.  A *recipient* is one record of a message's channel file.  A *parcel* is recipients of one message that go the
same way; a transaction carries up to PARCEL_RECIPIENTS of one.  A *lane* is all parcels for one domain, and what is
known of the way there.  A *destination* is what a lane depends on: the domain, or the relay that smtproutes names for
it; several lanes may have one.  A *session* is one attempt to connect and what follows, until the server has gone.  A
*unit* is a part of the total (control/concurrencyremote).

A parcel is bound to a session only once that has greeted: a host that refuses, is slow or is dead costs no message
anything while another session works.  Lanes take turns, and so do the messages of a lane.

    arrived -> lane -> name servers asked -> a ring of turns.py -> OPEN -> ready -> DELIVER -> result -> next parcel
                        (questions.py)       until a unit is free                              or unsent -> lane again

What a unit protects.  A session holds one from OPEN until closed(), not until CLOSE: servers count a connection until
it is gone, and a session process takes no more sessions than it announced.  A session with n recipients in flight holds
n: each is a delivery that the spawner runs.  So neither sessions nor deliveries are ever more than the total.

States of a session; closed() may come in any of them, and ends it:

                       ready()                   nothing to do
      OPEN  CONNECTING --------> OPENED <-------------------------> IDLE
                |                   |    DELIVER    a parcel comes    |
       failed() |                   | its quota is used, others wait  | IDLE_SECONDS are over, a lane waits for
       stop()   |                   | for a unit, stop()              | its unit, stop()
                v                   v                                 |
             CLOSING <--------------+---------------------------------+   CLOSE, but for failed(): that ends by itself

While a lane has other sessions, one that fails costs only itself: the server takes no more than those.  A lane whose
last session could not be opened has all its parcels reported with what that session met: they would meet the same.

Timers.  next_time() is only a promise that nothing is due before: when it is over, what it was about may have happened
already.  A session has stopped idling, a question was answered, a lane that was to be forgotten has mail again.  So
advance() looks at the present state for each of them, and an early or late call changes nothing that is kept true:

- A recipient is in one place: in a parcel of its lane, or in flight in one session; or it left by result() or REPORT.
- `used` is the sum of the sessions' units.  Only closed() frees a session, and it comes once for each OPEN.
- A lane's connecting, working and leaving count its sessions by state; `transactions` what its parcels make.
- A lane is asked about, or in one ring, or neither.  It is forgotten only if it has no parcels, no sessions, no open
  question, and what it knows is old.
- A recipient that comes back from RETURNS sessions in which nobody got further is deferred: nothing goes on for ever.
- After stop() nothing is opened, asked or started; what is in flight lands.

Its parts: parcels.py (the key of a lane), lanes.py (what waits, and the sessions), known_lanes.py, turns.py (who gets a
session), questions.py (who is asked about), slow_waits.py (what log_lines() reports).
"""

import collections
import itertools

from pyqmail.mail.destinations.old.known_lanes import KnownLanes
from pyqmail.mail.destinations.old.lanes import (
    CLOSING,
    CONNECTING,
    IDLE,
    OPENED,
    PARCEL_RECIPIENTS,
    Lane,
    Recipient,
    Session,
)
from pyqmail.mail.destinations.old.orders import CLOSE, DELIVER, OPEN, REPORT, RESOLVE
from pyqmail.mail.destinations.old.parcels import by_domain
from pyqmail.mail.destinations.old.questions import Questions
from pyqmail.mail.destinations.old.slow_waits import SlowWaits
from pyqmail.mail.destinations.old.turns import LaneTurns
from pyqmail.mail.destinations.outcome import DIALOGUE, LOOKUP, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.mail.destinations.old.lanes import Candidates, Message, Parcel, Parcels

KNOWN_SECONDS = 60.0  # how long candidates are used without asking again
IDLE_SECONDS = 2.0  # a session that has nothing to do is kept so long, if nobody waits for its unit
SESSION_MESSAGES = 100
SHARED_SESSION_MESSAGES = 10  # while another lane waits for a unit
RETURNS = 3  # how often a recipient comes back from sessions that did nothing before it counts as deferred


class Sessions:
    """Grants sessions against the total, and binds parcels to them.  `connecting` sessions have no greeting yet.

    plan_of(domain) returns (is_strange, destination, name) of a Lane; without it each domain is its own destination.
    """

    def __init__(self, total: int) -> None:
        self.total, self.used, self.connecting = total, 0, 0
        self.plan_of: Callable[[bytes], tuple[bool, bytes, bytes]] = _plan_of_itself
        self._lanes = KnownLanes(self._hand_over)
        self._sessions: dict[int, Session] = {}
        self._turns = LaneTurns(total, self._reject)
        self._questions = Questions()
        self._idle: dict[Session, float] = {}  # since when, longest first
        self._number, self._closing = 0, 0
        self._slow_connects = SlowWaits(b"connecting: %b: sessions %d, seconds %d")
        self._slow_questions = SlowWaits(b"looking up: %b: domains %d, seconds %d")
        self._orders: list[tuple[Any, ...]] = []
        self._stopped = False

    def arrived(self, message: "Message", recipients: "Parcel", now: float) -> None:
        """Recipients of a message are due.  The list belongs to the engine from now on."""
        for domain, parcel in by_domain(message, recipients):
            lane = self._lane_for(domain)
            lane.add_parcel(parcel)
            if lane.idle and not self._stopped:
                self._feed(next(reversed(lane.idle)), now)
            self._seek(lane, now)

    def resolved(self, domain: bytes, candidates: "Candidates", now: float) -> None:
        """candidates are what OPEN takes, in the order to try; at least one."""
        lane = self._answered(domain)
        lane.candidates, lane.known_until = candidates, now + KNOWN_SECONDS
        self._seek(lane, now)
        self._lanes.forget_if_unused(lane, now)  # other sessions may have done all that there was to do meanwhile

    def unroutable(self, domain: bytes, report: bytes, now: float) -> None:
        """There is nowhere to deliver to."""
        lane = self._answered(domain)
        self._report_all(lane, Outcome(report, LOOKUP, host=lane.name))
        self._lanes.forget_if_unused(lane, now)

    def trying(self, number: int, host: bytes, now: float) -> None:
        """A session gave up one candidate and tries another."""
        if self._sessions[number].state == CONNECTING:
            self._slow_connects.start_wait(number, host, now)

    def ready(self, number: int, address: bytes, now: float) -> None:
        """A session has greeted."""
        session = self._sessions[number]
        if session.state == CONNECTING:
            self._connected(session)
            self._turns.note_greeting(session.lane, now)
            session.lane.working += 1
            session.state, session.address = OPENED, address
            self._feed(session, now)

    def failed(self, number: int, outcome: Outcome, now: float) -> None:
        """A session could not be opened."""
        session = self._sessions[number]
        lane = session.lane
        if session.state != CONNECTING:
            return
        self._connected(session)
        session.state = CLOSING
        self._closing += 1
        if lane.connecting or lane.working or lane.leaving:
            # a server may count those that it has not yet seen leave
            lane.limit = lane.connecting + lane.working + lane.leaving
        else:
            lane.candidates = None  # the next attempt asks again
            self._report_all(lane, outcome)

    def result(self, recipient: Recipient, outcome: Outcome | None, now: float) -> None:
        """A delivery has ended; outcome is None if it was not made after all."""
        session = self._sessions.get(recipient.session or 0)  # they are numbered from 1
        if session is not None and recipient in session.flying:
            session.has_result = True
            self._landed(session, recipient)
            if not session.flying and session.state == OPENED:
                self._feed(session, now)

    def unsent(self, recipient: Recipient, now: float) -> None:
        """A delivery came back untouched, since its session ended first."""
        session = self._sessions.get(recipient.session or 0)  # they are numbered from 1
        if session is None or recipient not in session.flying:
            return
        self._landed(session, recipient)
        recipient.returns += not session.has_result  # else somebody got further: it cannot go on for ever
        if recipient.returns >= RETURNS:
            self._orders.append((REPORT, [recipient], _died(session)))
        else:
            lane = self._lane_for(session.lane.domain)
            lane.return_recipient(recipient)
            self._seek(lane, now)

    def closed(self, number: int, now: float) -> None:
        """A session is gone, for whatever reason; deliveries it never reported are deferred."""
        session = self._sessions.pop(number)
        lane = session.lane
        if session.flying:
            self._orders.append((REPORT, list(session.flying), _died(session)))
        if session.state == CONNECTING:
            self._connected(session)
        elif session.state == CLOSING:
            self._closing -= 1
            lane.leaving -= session.is_leaving
        else:
            lane.working -= 1
            self._wake(session)
        self.used -= session.units
        if session.is_trial:
            self._turns.end_trial(lane)
        if not (lane.connecting or lane.working or lane.leaving):
            lane.limit = None
        self._seek(lane, now)
        self._lanes.forget_if_unused(lane, now)

    def advance(self, now: float) -> None:
        """Grant sessions to lanes in turn, ask what must be asked, end what has idled long enough."""
        if self._stopped:
            return
        while (lane := self._turns.next_lane(now)) is not None and self.used < self.total:
            self._open(lane, now)
        while (lane := self._questions.next_lane(now)) is not None:
            self._ask(lane, now)
        self._close_idle(now)
        self._lanes.forget_old(now)

    def stop(self) -> None:
        """Open and start nothing more; sessions end when what is in flight has ended."""
        self._stopped = True
        for session in self._sessions.values():
            if session.state != CLOSING and not session.flying:
                self._close(session)

    def next_time(self) -> float | None:
        """Return when advance() must be called even if nothing happens."""
        if self._stopped:
            return None
        parts = self._questions, self._slow_connects, self._slow_questions, self._lanes
        times = [part.next_time() for part in parts]
        for since in self._idle.values():
            times.append(since + IDLE_SECONDS)
            break
        return min((when for when in times if when is not None), default=None)

    def take_orders(self) -> "list[tuple[Any, ...]]":
        """Return the orders (orders.py) that were not taken before."""
        orders, self._orders = self._orders, []
        return orders

    def log_lines(self, now: float) -> list[bytes]:
        """Return what the log should have about sessions that connect, and names that are looked up, for long."""
        return self._slow_connects.slow_lines(now) + self._slow_questions.slow_lines(now)

    # lanes, and which way they go

    def _lane_for(self, domain: bytes) -> Lane:
        return self._lanes.find(domain, self.plan_of(domain))

    def _hand_over(self, old: Lane, new: Lane) -> None:
        """Move what waits from an old lane to a new one; deliveries that have started end where they are."""
        new.parcels, new.returned, new.transactions = old.parcels, old.returned, old.transactions
        old.parcels, old.returned, old.transactions = collections.deque(), (), 0
        self._turns.remove_lane(old)
        for session in list(old.idle):
            self._close(session)

    # questions to name servers

    def _ask(self, lane: Lane, now: float) -> None:
        self._orders.append((RESOLVE, lane.domain))
        if lane.name:
            self._slow_questions.start_wait(lane.domain, lane.name, now)

    def _answered(self, domain: bytes) -> Lane:
        lane = self._lanes.by_domain[domain]  # an asked lane is never forgotten
        lane.is_asked = False
        self._questions.note_answer(lane)
        self._slow_questions.end_wait(domain)
        return lane

    # lanes that wait for a session

    def _seek(self, lane: Lane, now: float) -> None:
        """See to it that the lane gets a session if it wants one."""
        if self._stopped or lane.is_asked or lane.ring is not None or not lane.wants:
            return
        if lane.candidates is None or lane.known_until <= now:
            lane.is_asked = True
            if lane.name:
                self._questions.add_lane(lane, lane.is_strange and self._turns.is_proven(lane, now))
            else:
                self._ask(lane, now)
        else:
            self._turns.add_lane(lane, now)

    def _reject(self, lane: Lane, now: float) -> None:
        """A lane has left its ring without a session."""
        self._lanes.forget_if_unused(lane, now)
        self._seek(lane, now)  # refused while it waited there: its new mail asks again

    def _open(self, lane: Lane, now: float) -> None:
        self._number = self._number % 0xFFFFFFFF + 1
        while self._number in self._sessions:
            self._number = self._number % 0xFFFFFFFF + 1
        candidates = lane.candidates
        assert candidates  # turns.py grants a session to no other
        self._sessions[self._number] = Session(self._number, lane, self._turns.grant_session(lane, now))
        lane.connecting += 1
        self.connecting += 1
        self.used += 1
        self._slow_connects.start_wait(self._number, candidates[0][0], now)
        self._orders.append((OPEN, self._number, lane.domain, candidates))

    # sessions

    def _connected(self, session: Session) -> None:
        """A session connects no longer, for better or worse."""
        session.lane.connecting -= 1
        self.connecting -= 1
        self._slow_connects.end_wait(session.number)

    def _feed(self, session: Session, now: float) -> None:
        """Give an opened session its next parcel, or let it idle or end."""
        self._wake(session)
        lane = session.lane
        if self._stopped:
            self._close(session)
            return
        others_wait = self._turns.count_waiting(now) > (lane.ring is not None)
        most = SHARED_SESSION_MESSAGES if others_wait else SESSION_MESSAGES
        parcels = lane.returned if lane.returned and not session.messages else lane.parcels
        if parcels and session.messages < most:
            self._deliver(session, lane, parcels)
        elif lane.parcels or (lane.returned and not lane.wants) or others_wait or session.messages >= most:
            self._close(session)
            self._seek(lane, now)
            self._turns.yield_turn(lane)
        else:
            session.state = IDLE
            lane.idle[session] = None
            self._idle[session] = now

    def _deliver(self, session: Session, lane: Lane, parcels: "Parcels") -> None:
        parcel = lane.cut_transaction(parcels, min(PARCEL_RECIPIENTS, self.total - self.used + 1))
        session.flying.update(parcel)
        session.messages += 1
        self._count(session)
        self._orders.append((DELIVER, session.number, parcel))

    def _landed(self, session: Session, recipient: Recipient) -> None:
        session.flying.discard(recipient)
        self._count(session)

    def _count(self, session: Session) -> None:
        """Have a session hold as many units as it needs."""
        units = max(1, len(session.flying))
        self.used += units - session.units
        session.units = units

    def _close_idle(self, now: float) -> None:
        """End sessions that have idled long enough, or whose unit another lane waits for."""
        waiting = self._turns.count_waiting(now) if self._idle else 0
        if waiting:
            for session in list(itertools.islice(self._idle, max(0, waiting - self._closing))):
                self._close(session)
        while self._idle:
            session = next(iter(self._idle))
            if self._idle[session] + IDLE_SECONDS > now:
                break
            self._close(session)

    def _close(self, session: Session) -> None:
        self._wake(session)
        if session.state == CONNECTING:
            self._connected(session)
        else:
            session.lane.working -= 1
            session.lane.leaving += 1
            session.is_leaving = True
        session.state = CLOSING
        self._closing += 1
        self._orders.append((CLOSE, session.number))

    def _wake(self, session: Session) -> None:
        """A session idles no longer."""
        if session.state == IDLE:
            session.state = OPENED
            del session.lane.idle[session]
            del self._idle[session]

    # the end

    def _report_all(self, lane: Lane, outcome: Outcome) -> None:
        for parcel in lane.drain_parcels():
            self._orders.append((REPORT, parcel, outcome))


def _plan_of_itself(domain: bytes) -> tuple[bool, bytes, bytes]:
    return True, domain, domain


def _died(session: Session) -> Outcome:
    report = b"ZConnected to %b but connection died. (#4.4.2)\n" % session.address
    return Outcome(report, DIALOGUE, address=session.address)
