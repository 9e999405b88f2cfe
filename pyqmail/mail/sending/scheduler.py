"""The scheduler of deliveries: a pure engine.  Events in by method, orders out by take_orders(), the time an argument.

A *recipient* is one record of a message's channel file; a *parcel* a list of recipients of one message that have one
lane; a *lane* all parcels that go the same way: those for one domain.  Lanes take turns, and the messages in a lane.

Sessions grants sessions against the total and binds a parcel to a session only once that has greeted.  Immediate
is for channels without sessions, where a delivery is a session of exactly one recipient.

    order                              what to do
    (RESOLVE, domain)                  find candidates; then resolved() or unroutable()
    (OPEN, session, domain, candidates)  connect; then ready() or failed(), and closed() in any case
    (DELIVER, session, recipients)     start them; then result() or unsent() for each
    (CLOSE, session)                   say goodbye; closed() follows
    (REPORT, recipients, report)       they end with this report without having been tried on their own
"""

import collections
import itertools

RESOLVE, OPEN, DELIVER, CLOSE, REPORT = "resolve", "open", "deliver", "close", "report"

QUESTIONS = 256  # open at once
KNOWN_SECONDS = 60.0  # how long candidates are used without asking again
IDLE_SECONDS = 2.0  # a session that has nothing to do is kept so long, if nobody waits for its unit
PARCEL_RECIPIENTS = 100  # in one transaction; RFC 5321 section 4.5.3.1.8 promises as many
SESSION_MESSAGES = 100
SHARED_SESSION_MESSAGES = 10  # while another lane waits for a unit
RETURNS = 3  # how often a recipient comes back from sessions that did nothing before it counts as deferred

CONNECTING, OPENED, IDLE, CLOSING = "connecting", "opened", "idle", "closing"


class Recipient:
    """One recipient to deliver to.

    owner is its pass, with `is_alone` True if every recipient needs a transaction of its own; offset where its record
    stands in the channel file.  slot, number and session are the caller's, for the delivery it becomes.
    """

    __slots__ = ("owner", "offset", "address", "slot", "number", "session", "returns")

    def __init__(self, owner, offset: int, address: bytes) -> None:
        self.owner, self.offset, self.address = owner, offset, address
        self.slot = self.number = self.session = None
        self.returns = 0


class Immediate:
    """Deliveries without sessions.  `used` of `total` run; recipients of one parcel start one by one, lanes in turn."""

    def __init__(self, total: int) -> None:
        self.total, self.used = total, 0
        self._lanes = {}  # key -> parcels, none of them empty
        self._ring = collections.deque()  # the keys of lanes that have parcels
        self._orders, self._stopped = [], False

    def arrived(self, lane, parcel: list, now: float) -> None:
        """A parcel is due.  It belongs to the engine from now on."""
        parcel.reverse()  # so that taking the first is cheap
        parcels = self._lanes.get(lane)
        if parcels is None:
            self._lanes[lane] = collections.deque((parcel,))
            self._ring.append(lane)
        else:
            parcels.append(parcel)

    def result(self, recipient: Recipient, now: float) -> None:
        """A delivery has ended."""
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


class Lane:
    """What goes to one domain: its parcels, where to (None while unknown), and how many sessions are in which state.

    returned are parcels that came back untouched from a session that had carried mail: only a new session takes them,
    so that what the server says of them is not what it says of the session.
    """

    __slots__ = (
        *("domain", "parcels", "returned", "candidates", "known_until", "is_asked", "is_waiting", "is_listed"),
        *("idle", "connecting", "working", "limit"),
    )

    def __init__(self, domain: bytes) -> None:
        self.domain, self.parcels, self.returned = domain, collections.deque(), collections.deque()
        self.candidates, self.known_until = None, 0.0
        self.is_asked = self.is_waiting = self.is_listed = False
        self.idle = {}  # sessions, an ordered set
        self.connecting = self.working = 0  # working: greeted and not closing
        self.limit = None  # once a session failed while others work: as many as work

    @property
    def wants(self) -> bool:
        """True if another session would find something to do."""
        return len(self.parcels) + len(self.returned) > self.connecting and (
            self.limit is None or self.connecting + self.working < self.limit
        )


class Session:
    __slots__ = ("number", "lane", "state", "address", "flying", "messages", "units", "has_result")

    def __init__(self, number: int, lane: Lane) -> None:
        self.number, self.lane, self.state, self.address = number, lane, CONNECTING, b""
        self.flying = set()  # recipients in delivery
        self.messages, self.units, self.has_result = 0, 1, False


class Sessions:
    """Deliveries through sessions.  Every session holds a unit of the total, and one more for each recipient in flight
    beyond its first: so neither sessions nor deliveries are ever more than the total.

    A lane whose last session could not be opened has all its parcels reported with what that session met: they
    would meet the same.
    """

    def __init__(self, total: int) -> None:
        self.total, self.used = total, 0
        self._lanes, self._sessions = {}, {}
        self._ring = collections.deque()  # lanes that want a session and know where to
        self._unasked, self._questions = collections.deque(), 0
        self._idle = {}  # session -> since when, longest first
        self._listed = collections.deque()  # (when to forget it, lane without parcels and sessions)
        self._number, self._closing = 0, 0
        self._orders, self._stopped = [], False

    def arrived(self, domain: bytes, parcel: list, now: float) -> None:
        """A parcel is due.  It belongs to the engine from now on."""
        lane = self._lanes.get(domain)
        if lane is None:
            lane = self._lanes[domain] = Lane(domain)
        lane.parcels.append(parcel)
        if lane.idle and not self._stopped:
            self._feed(next(reversed(lane.idle)), now)
        else:
            self._seek(lane, now)

    def resolved(self, domain: bytes, candidates: list, now: float) -> None:
        """candidates are what OPEN takes, in the order to try; at least one."""
        lane = self._answered(domain)
        lane.candidates, lane.known_until = candidates, now + KNOWN_SECONDS
        self._seek(lane, now)

    def unroutable(self, domain: bytes, report: bytes, now: float) -> None:
        """There is nowhere to deliver to."""
        lane = self._answered(domain)
        self._report_all(lane, report)
        self._rest(lane, now)

    def ready(self, number: int, address: bytes, now: float) -> None:
        """A session has greeted."""
        session = self._sessions[number]
        if session.state == CONNECTING:
            session.lane.connecting -= 1
            session.lane.working += 1
            session.state, session.address = OPENED, address
            self._feed(session, now)

    def failed(self, number: int, report: bytes, now: float) -> None:
        """A session could not be opened."""
        session = self._sessions[number]
        lane, was = session.lane, session.state
        if was != CONNECTING:
            return
        lane.connecting -= 1
        session.state = CLOSING
        self._closing += 1
        if lane.connecting or lane.working:
            lane.limit = max(1, lane.connecting + lane.working)
        else:
            lane.candidates = None  # the next attempt asks again
            self._report_all(lane, report)

    def result(self, recipient: Recipient, now: float) -> None:
        """A delivery has ended."""
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
            _return(session.lane, recipient)
            self._seek(session.lane, now)

    def closed(self, number: int, now: float) -> None:
        """A session is gone, for whatever reason; deliveries it never reported are deferred."""
        session = self._sessions.pop(number)
        lane = session.lane
        if session.flying:
            self._orders.append((REPORT, list(session.flying), _died(session)))
        if session.state == CONNECTING:
            lane.connecting -= 1
        elif session.state == CLOSING:
            self._closing -= 1
        else:
            lane.working -= 1
            self._wake(session)
        self.used -= session.units
        if not lane.connecting and not lane.working:
            lane.limit = None
        self._seek(lane, now)
        self._rest(lane, now)

    def advance(self, now: float) -> None:
        """Grant sessions to lanes in turn, ask what must be asked, end what has idled long enough."""
        if self._stopped:
            return
        ring = self._ring
        while ring:
            lane = ring[0]
            if not lane.wants:
                self._leave_ring(now)
            elif lane.candidates is None:  # refused while it waited here; its new mail asks again
                self._leave_ring(now)
                self._seek(lane, now)
            elif self.used < self.total:
                self._open(lane)
                ring.rotate(-1)
            else:
                break
        while self._unasked and self._questions < QUESTIONS:
            self._questions += 1
            self._orders.append((RESOLVE, self._unasked.popleft().domain))
        if ring and self._idle:
            for session in list(itertools.islice(self._idle, max(0, len(ring) - self._closing))):
                self._close(session)
        while self._idle:
            session = next(iter(self._idle))
            if self._idle[session] + IDLE_SECONDS > now:
                break
            self._close(session)
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
        times = [self._listed[0][0]] if self._listed else []
        for since in self._idle.values():
            times.append(since + IDLE_SECONDS)
            break
        return min(times, default=None)

    def take_orders(self) -> list:
        orders, self._orders = self._orders, []
        return orders

    def _answered(self, domain):
        self._questions -= 1
        lane = self._lanes[domain]  # an asked lane is never forgotten
        lane.is_asked = False
        return lane

    def _seek(self, lane, now):
        """See to it that the lane gets a session if it wants one."""
        if self._stopped or lane.is_asked or lane.is_waiting or not lane.wants:
            return
        if lane.candidates is None or lane.known_until <= now:
            lane.is_asked = True
            self._unasked.append(lane)
        else:
            lane.is_waiting = True
            self._ring.append(lane)

    def _open(self, lane):
        self._number = self._number % 0xFFFFFFFF + 1
        while self._number in self._sessions:
            self._number = self._number % 0xFFFFFFFF + 1
        self._sessions[self._number] = Session(self._number, lane)
        lane.connecting += 1
        self.used += 1
        self._orders.append((OPEN, self._number, lane.domain, lane.candidates))

    def _feed(self, session, now):
        """Give an opened session its next parcel, or let it idle or end."""
        self._wake(session)
        lane = session.lane
        if self._stopped:
            self._close(session)
            return
        others_wait = self._others_wait(lane, now)
        most = SHARED_SESSION_MESSAGES if others_wait else SESSION_MESSAGES
        parcels = lane.returned if lane.returned and not session.messages else lane.parcels
        if parcels and session.messages < most:
            self._deliver(session, parcels)
        elif lane.parcels or (lane.returned and not lane.wants) or others_wait or session.messages >= most:
            self._close(session)
            self._seek(lane, now)
            if self._ring and self._ring[0] is lane:
                self._ring.rotate(-1)  # it has had its turn
        else:
            session.state = IDLE
            lane.idle[session] = None
            self._idle[session] = now

    def _deliver(self, session, parcels):
        parcel = parcels.popleft()
        most = 1 if parcel[0].owner.is_alone else min(PARCEL_RECIPIENTS, self.total - self.used + 1)
        if len(parcel) > most:
            parcels.append(parcel[most:])
            parcel = parcel[:most]
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

    def _close(self, session):
        self._wake(session)
        if session.state == CONNECTING:
            session.lane.connecting -= 1
        else:
            session.lane.working -= 1
        session.state = CLOSING
        self._closing += 1
        self._orders.append((CLOSE, session.number))

    def _wake(self, session):
        if session.state == IDLE:
            session.state = OPENED
            del session.lane.idle[session]
            del self._idle[session]

    def _others_wait(self, lane, now):
        ring = self._ring
        while ring and not ring[0].wants:
            self._leave_ring(now)
        return len(ring) > 1 or bool(ring and ring[0] is not lane)

    def _leave_ring(self, now):
        lane = self._ring.popleft()
        lane.is_waiting = False
        self._rest(lane, now)

    def _report_all(self, lane, report):
        for parcels in (lane.returned, lane.parcels):
            for parcel in parcels:
                self._orders.append((REPORT, parcel, report))
            parcels.clear()

    def _is_unused(self, lane):
        has_parcels = lane.parcels or lane.returned
        return not (has_parcels or lane.connecting or lane.working or lane.is_asked or lane.is_waiting)

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


def _return(lane, recipient):
    """Keep a recipient for a new session, together with those of its transaction that came back before it."""
    last, owner = lane.returned[-1] if lane.returned else None, recipient.owner
    if last is not None and last[0].owner is owner and not owner.is_alone:
        last.append(recipient)
    else:
        lane.returned.append([recipient])


def _died(session):
    return b"ZConnected to %b but connection died. (#4.4.2)\n" % session.address
