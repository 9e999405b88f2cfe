"""The scheduler of deliveries: a pure engine.  Events in by method, orders out by take_orders(), the time an argument.

A *recipient* is one record of a message's channel file; a *parcel* a list of recipients of one message that have one
lane; a *lane* all parcels that go the same way: those for one domain.  Lanes take turns, and the messages in a lane.

Sessions grants sessions against the total and binds a parcel to a session only once that has greeted.  Immediate
is for channels without sessions, where a delivery is a session of exactly one recipient.

Who does not answer must not hold up who does.  So a *destination* (the domain, or the relay that smtproutes names for
it) is *proven* for a day after it greeted, and sessions to others are never more than half of the total; among those,
destinations that were never tried go first, and one alone cannot have the last fifth of that half.  Proven and unproven
ones alternate for what both may have.  With questions to name servers it is the same: of those that are open no more
than MAX_YOUNG_QUESTIONS are younger than a second, which bounds how fast we ask, and there are MAX_QUESTIONS in all.  A
proven destination is beyond the first bound and has a share of the second; a relay that a route names is asked about
before all others, once for all its domains; a route to an address and a literal ask nothing.  Of all this a bounded
number of destinations is remembered.

    order                              what to do
    (RESOLVE, domain)                  find candidates; then resolved() or unroutable()
    (OPEN, session, domain, candidates)  connect; then ready() or failed(), and closed() in any case
    (DELIVER, session, recipients)     start them; then result() or unsent() for each
    (CLOSE, session)                   say goodbye; closed() follows
    (REPORT, recipients, outcome)      they end with this outcome without having been tried on their own

Its parts: lanes.py (what waits, and the sessions), questions.py, remembered.py; log_lines() gives what has waited for
long (slow_waits.py).
"""

import collections
import itertools

from pyqmail.mail.destinations.lanes import (
    CLOSING,
    CONNECTING,
    IDLE,
    OPENED,
    PARCEL_RECIPIENTS,
    Lane,
    Recipient,
    Session,
)
from pyqmail.mail.destinations.outcome import DIALOGUE, LOOKUP, Outcome
from pyqmail.mail.destinations.parcels import by_domain
from pyqmail.mail.destinations.questions import Questions
from pyqmail.mail.destinations.remembered import Remembered
from pyqmail.mail.destinations.slow_waits import SlowWaits

RESOLVE, OPEN, DELIVER, CLOSE, REPORT = "resolve", "open", "deliver", "close", "report"

PROVEN_SECONDS = 86400.0  # after a greeting
KNOWN_SECONDS = 60.0  # how long candidates are used without asking again
IDLE_SECONDS = 2.0  # a session that has nothing to do is kept so long, if nobody waits for its unit
SESSION_MESSAGES = 100
SHARED_SESSION_MESSAGES = 10  # while another lane waits for a unit
RETURNS = 3  # how often a recipient comes back from sessions that did nothing before it counts as deferred


class Immediate:
    """Deliveries without sessions.  `used` of `total` run; recipients of one parcel start one by one, lanes in turn.

    Nothing is known here of greetings: as with the original, destinations that do not answer can fill the total.
    """

    connecting = 0

    def __init__(self, total: int, group=by_domain) -> None:
        self.total, self.used, self._group = total, 0, group
        self._lanes = {}  # key -> parcels, none of them empty
        self._ring = collections.deque()  # the keys of lanes that have parcels
        self._orders, self._stopped = [], False

    def arrived(self, message, recipients: list, now: float) -> None:
        """Recipients of a message are due.  The list belongs to the engine from now on."""
        for lane, parcel in self._group(message, recipients):
            parcel.reverse()  # so that taking the first is cheap
            parcels = self._lanes.get(lane)
            if parcels is None:
                self._lanes[lane] = collections.deque((parcel,))
                self._ring.append(lane)
            else:
                parcels.append(parcel)

    def result(self, recipient: Recipient, outcome: Outcome | None, now: float) -> None:
        """A delivery has ended; outcome is None if it was not made after all."""
        self.used -= 1

    def advance(self, now: float) -> None:
        """Start what may start."""
        ring, lanes = self._ring, self._lanes
        while ring and self.used < self.total and not self._stopped:
            lane = ring.popleft()
            parcels = lanes[lane]
            parcel = parcels.popleft()
            self.used += 1
            self._orders.append((DELIVER, None, (parcel.pop(),)))
            if parcel:
                parcels.append(parcel)
            if parcels:
                ring.append(lane)
            else:
                del lanes[lane]

    def stop(self) -> None:
        """Start nothing more."""
        self._stopped = True

    def next_time(self) -> float | None:
        """Return when advance() must be called even if nothing happens."""
        return None

    def take_orders(self) -> list:
        orders, self._orders = self._orders, []
        return orders

    def log_lines(self, now: float) -> list[bytes]:
        return []


class Sessions:
    """Deliveries through sessions.  Every session holds a unit of the total, and one more for each recipient in flight
    beyond its first: so neither sessions nor deliveries are ever more than the total.  `connecting` sessions have no
    greeting yet.

    A lane whose last session could not be opened has all its parcels reported with what that session met: they
    would meet the same.

    plan_of(domain) returns (is_strange, destination, name) of a Lane; without it each domain is its own destination.
    """

    def __init__(self, total: int) -> None:
        self.total, self.used, self.connecting = total, 0, 0
        self.plan_of = _plan_of_itself
        self._lanes, self._sessions = {}, {}
        # lanes that want a session and know where to: ordered sets
        self._proven, self._untried, self._tried, self._more = (collections.OrderedDict() for _ in range(4))
        self._is_turn_of_unproven = False
        self._greeted, self._attempted = Remembered(), Remembered()
        self._trials, self._max_trials = 0, max(1, total // 2)
        self._max_more = self._max_trials - self._max_trials // 5  # further sessions to one that has not greeted yet
        self._trials_of = {}  # destination -> how many
        self._questions = Questions()
        self._idle = {}  # session -> since when, longest first
        self._listed = collections.deque()  # (when to forget it, lane without parcels and sessions)
        self._number, self._closing = 0, 0
        self._slow_connects = SlowWaits(b"connecting: %b: sessions %d, seconds %d")
        self._slow_questions = SlowWaits(b"looking up: %b: domains %d, seconds %d")
        self._orders, self._stopped = [], False

    def arrived(self, message, recipients: list, now: float) -> None:
        """Recipients of a message are due.  The list belongs to the engine from now on."""
        for domain, parcel in by_domain(message, recipients):
            lane = self._lane_for(domain)
            lane.add(parcel)
            if lane.idle and not self._stopped:
                self._feed(next(reversed(lane.idle)), now)
            self._seek(lane, now)

    def resolved(self, domain: bytes, candidates: list, now: float) -> None:
        """candidates are what OPEN takes, in the order to try; at least one."""
        lane = self._answered(domain)
        lane.candidates, lane.known_until = candidates, now + KNOWN_SECONDS
        self._seek(lane, now)
        self._rest(lane, now)  # other sessions may have done all that there was to do meanwhile

    def unroutable(self, domain: bytes, report: bytes, now: float) -> None:
        """There is nowhere to deliver to."""
        lane = self._answered(domain)
        self._report_all(lane, Outcome(report, LOOKUP, host=lane.name))
        self._rest(lane, now)

    def trying(self, number: int, host: bytes, now: float) -> None:
        """A session gave up one candidate and tries another."""
        if self._sessions[number].state == CONNECTING:
            self._slow_connects.begin(number, host, now)

    def ready(self, number: int, address: bytes, now: float) -> None:
        """A session has greeted."""
        session = self._sessions[number]
        if session.state == CONNECTING:
            self._connected(session)
            self._prove(session.lane, now)
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
        session = self._sessions.get(recipient.session)
        if session is not None and recipient in session.flying:
            session.has_result = True
            self._landed(session, recipient)
            if not session.flying and session.state == OPENED:
                self._feed(session, now)

    def unsent(self, recipient: Recipient, now: float) -> None:
        """A delivery came back untouched, since its session ended first."""
        session = self._sessions.get(recipient.session)
        if session is None or recipient not in session.flying:
            return
        self._landed(session, recipient)
        recipient.returns += not session.has_result  # else somebody got further: it cannot go on for ever
        if recipient.returns >= RETURNS:
            self._orders.append((REPORT, [recipient], _died(session)))
        else:
            lane = self._lane_for(session.lane.domain)
            lane.give_back(recipient)
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
            self._end_trial(lane)
        if not (lane.connecting or lane.working or lane.leaving):
            lane.limit = None
        self._seek(lane, now)
        self._rest(lane, now)

    def advance(self, now: float) -> None:
        """Grant sessions to lanes in turn, ask what must be asked, end what has idled long enough."""
        if self._stopped:
            return
        while (lane := self._next_lane(now)) is not None and self.used < self.total:
            self._open(lane, now)
        while (lane := self._questions.next_lane(now)) is not None:
            self._ask(lane, now)
        self._close_idle(now)
        while self._listed and self._listed[0][0] <= now:
            lane = self._listed.popleft()[1]
            lane.is_listed = False
            if self._is_unused(lane):
                self._forget(lane)

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
        times = [part.next_time() for part in (self._questions, self._slow_connects, self._slow_questions)]
        times += [self._listed[0][0]] if self._listed else []
        for since in self._idle.values():
            times.append(since + IDLE_SECONDS)
            break
        return min((when for when in times if when is not None), default=None)

    def take_orders(self) -> list:
        orders, self._orders = self._orders, []
        return orders

    def log_lines(self, now: float) -> list[bytes]:
        """Return what the log should have about sessions that connect, and names that are looked up, for long."""
        return self._slow_connects.lines(now) + self._slow_questions.lines(now)

    # lanes, and which way they go

    def _lane_for(self, domain):
        """Return the lane of a domain: another one if control/smtproutes sends its mail another way by now."""
        lane, plan = self._lanes.get(domain), self.plan_of(domain)
        if lane is not None and (lane.is_asked or plan == (lane.is_strange, lane.destination, lane.name)):
            return lane
        new = self._lanes[domain] = Lane(domain, *plan)
        if lane is not None:
            self._hand_over(lane, new)
        return new

    def _hand_over(self, old, new):
        """Move what waits from an old lane to a new one; deliveries that have started end where they are."""
        new.parcels, new.returned, new.transactions = old.parcels, old.returned, old.transactions
        old.parcels, old.returned, old.transactions = collections.deque(), (), 0
        if old.ring is not None:
            del old.ring[old]
            old.ring = None
        for session in list(old.idle):
            self._close(session)

    # destinations: questions about them, and whether they have greeted

    def _ask(self, lane, now):
        self._orders.append((RESOLVE, lane.domain))
        if lane.name:
            self._slow_questions.begin(lane.domain, lane.name, now)

    def _answered(self, domain):
        lane = self._lanes[domain]  # an asked lane is never forgotten
        lane.is_asked = False
        self._questions.answered(lane)
        self._slow_questions.end(domain)
        return lane

    def _is_proven(self, lane, now):
        greeted = self._greeted.time(lane.destination)
        return greeted is not None and now - greeted < PROVEN_SECONDS

    def _prove(self, lane, now):
        """The lane's destination has greeted: none of its sessions counts as a trial any more."""
        self._greeted.note(lane.destination, now)
        self._attempted.forget(lane.destination)
        self._trials -= self._trials_of.pop(lane.destination, 0)
        if lane.ring is not None and lane.ring is not self._proven:
            del lane.ring[lane]
            self._wait(lane, self._proven)

    def _end_trial(self, lane):
        """A session to a destination that was unproven has ended."""
        count = self._trials_of.get(lane.destination)
        if count is None:
            return  # it has greeted meanwhile
        self._trials -= 1
        self._trials_of[lane.destination] = count - 1
        if count == 1:
            del self._trials_of[lane.destination]
            if lane.ring is self._more:
                del lane.ring[lane]
                self._wait(lane, self._tried)

    # lanes that wait for a session

    def _seek(self, lane, now):
        """See to it that the lane gets a session if it wants one."""
        if self._stopped or lane.is_asked or lane.ring is not None or not lane.wants:
            return
        if lane.candidates is None or lane.known_until <= now:
            lane.is_asked = True
            if lane.name:
                self._questions.wait(lane, lane.is_strange and self._is_proven(lane, now))
            else:
                self._ask(lane, now)
        else:
            self._wait(lane, self._ring_for(lane, now))

    def _ring_for(self, lane, now):
        if self._is_proven(lane, now):
            return self._proven
        if lane.destination in self._trials_of:
            return self._more
        return self._untried if self._attempted.time(lane.destination) is None else self._tried

    def _wait(self, lane, ring):
        ring[lane] = None
        lane.ring = ring

    def _leave_ring(self, lane, now):
        del lane.ring[lane]
        lane.ring = None
        self._rest(lane, now)

    def _head(self, ring, now):
        """Return the lane whose turn it is in a ring, None if none of those in it wants a session."""
        while ring:
            lane = next(iter(ring))
            if lane.wants and lane.candidates is not None:
                return lane
            self._leave_ring(lane, now)
            self._seek(lane, now)  # refused while it waited here; its new mail asks again
        return None

    def _next_lane(self, now):
        """Return the lane that gets the next session, None if none may have one."""
        proven, unproven = self._head(self._proven, now), self._next_unproven(now)
        return (unproven or proven) if self._is_turn_of_unproven else (proven or unproven)

    def _next_unproven(self, now):
        first = self._head(self._untried, now) or self._head(self._tried, now)
        further = self._head(self._more, now)
        if self._trials >= self._max_trials:
            return None
        return first or (further if self._trials < self._max_more else None)

    def _count_waiting(self, now):
        """Return how many lanes wait for nothing but a unit of the total."""
        if not (self._proven or self._untried or self._tried or self._more):
            return 0
        self._next_lane(now)
        first = min(len(self._untried) + len(self._tried), max(0, self._max_trials - self._trials))
        further = min(len(self._more), max(0, self._max_more - self._trials))
        return len(self._proven) + first + further

    def _open(self, lane, now):
        self._number = self._number % 0xFFFFFFFF + 1
        while self._number in self._sessions:
            self._number = self._number % 0xFFFFFFFF + 1
        is_trial = lane.ring is not self._proven
        self._sessions[self._number] = Session(self._number, lane, is_trial)
        lane.connecting += 1
        self.connecting += 1
        self.used += 1
        self._is_turn_of_unproven = not is_trial
        if is_trial:
            self._trials += 1
            self._trials_of[lane.destination] = self._trials_of.get(lane.destination, 0) + 1
            self._attempted.note(lane.destination, now)
        del lane.ring[lane]
        self._wait(lane, self._more if is_trial else self._proven)
        self._slow_connects.begin(self._number, lane.candidates[0][0], now)
        self._orders.append((OPEN, self._number, lane.domain, lane.candidates))

    # sessions

    def _connected(self, session):
        """A session connects no longer, for better or worse."""
        session.lane.connecting -= 1
        self.connecting -= 1
        self._slow_connects.end(session.number)

    def _feed(self, session, now):
        """Give an opened session its next parcel, or let it idle or end."""
        self._wake(session)
        lane = session.lane
        if self._stopped:
            self._close(session)
            return
        others_wait = self._count_waiting(now) > (lane.ring is not None)
        most = SHARED_SESSION_MESSAGES if others_wait else SESSION_MESSAGES
        parcels = lane.returned if lane.returned and not session.messages else lane.parcels
        if parcels and session.messages < most:
            self._deliver(session, lane, parcels)
        elif lane.parcels or (lane.returned and not lane.wants) or others_wait or session.messages >= most:
            self._close(session)
            self._seek(lane, now)
            if lane.ring is not None:
                lane.ring.move_to_end(lane)  # it has had its turn
            self._is_turn_of_unproven = True
        else:
            session.state = IDLE
            lane.idle[session] = None
            self._idle[session] = now

    def _deliver(self, session, lane, parcels):
        parcel = lane.take(parcels, min(PARCEL_RECIPIENTS, self.total - self.used + 1))
        session.flying.update(parcel)
        session.messages += 1
        self._count(session)
        self._orders.append((DELIVER, session.number, parcel))

    def _landed(self, session, recipient):
        session.flying.discard(recipient)
        self._count(session)

    def _count(self, session):
        units = max(1, len(session.flying))
        self.used += units - session.units
        session.units = units

    def _close_idle(self, now):
        """End sessions that have idled long enough, or whose unit another lane waits for."""
        waiting = self._count_waiting(now) if self._idle else 0
        if waiting:
            for session in list(itertools.islice(self._idle, max(0, waiting - self._closing))):
                self._close(session)
        while self._idle:
            session = next(iter(self._idle))
            if self._idle[session] + IDLE_SECONDS > now:
                break
            self._close(session)

    def _close(self, session):
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

    def _wake(self, session):
        if session.state == IDLE:
            session.state = OPENED
            del session.lane.idle[session]
            del self._idle[session]

    # the end

    def _report_all(self, lane, outcome):
        for parcel in lane.take_all():
            self._orders.append((REPORT, parcel, outcome))

    def _is_unused(self, lane):
        has_parcels = lane.parcels or lane.returned
        return not (has_parcels or lane.connecting or lane.working or lane.is_asked or lane.ring is not None)

    def _rest(self, lane, now):
        """Forget a lane that has nothing to do any more, once what it knows is old."""
        if not self._is_unused(lane):
            return
        if lane.candidates is None or lane.known_until <= now:
            if not lane.is_listed:
                self._forget(lane)
        elif not lane.is_listed:
            lane.is_listed = True
            self._listed.append((lane.known_until, lane))

    def _forget(self, lane):
        if self._lanes.get(lane.domain) is lane:  # a session that is still closing may hold on to an older one
            del self._lanes[lane.domain]


def _plan_of_itself(domain):
    return True, domain, domain


def _died(session):
    report = b"ZConnected to %b but connection died. (#4.4.2)\n" % session.address
    return Outcome(report, DIALOGUE, address=session.address)
