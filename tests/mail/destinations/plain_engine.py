"""A scheduler that remembers nothing: so many sessions a domain, addresses in turn, a minute's wait after trouble.

It is here to test the model world, by what is known of such senders.
"""

import errno
import itertools
from collections import deque

from pyqmail.mail.destinations.orders import CLOSE, DELIVER, DONE, MORE, OPEN, RESOLVE, Opening

WAIT_SECONDS = 60.0


class PlainLane:
    def __init__(self, domain):
        self.domain, self.places, self.ready, self.sessions, self.asked, self.wait_until = (
            domain,
            None,
            deque(),
            0,
            0,
            0.0,
        )


class PlainEngine:
    """opens_sessions=False: an agent for each recipient."""

    def __init__(
        self, total, rules, *, random, now, date, lifetime, timeouts, opens_sessions=True, sessions=10, hedge=0.0
    ):
        self.most, self.random, self.hedge, self.opens_sessions = sessions, random, hedge, opens_sessions
        self.used, self.orders, self.lanes, self.sessions, self.flights = 0, [], {}, {}, {}
        self.left, self.numbers, self.late = {}, itertools.count(1), []

    def arrived(self, number, sender, size, birth, recipients, *, now, is_alone=False, is_bulk=False, due=0):
        self.left[number] = self.left.get(number, 0) + len(recipients)
        for offset, domain in recipients:
            lane = self.lanes.get(domain)
            if lane is None:
                lane = self.lanes[domain] = PlainLane(domain)
                self.orders.append((RESOLVE, domain))
            lane.ready.append((number, offset))
            self._seek(lane, now)

    def resolved(self, domain, hosts, ttl, is_stale, *, now):
        lane = self.lanes[domain]
        lane.places = [(name, address) for _, name, addresses in hosts for address in addresses]
        self._seek(lane, now)

    def trouble(self, domain, reason, now):
        self.orders.append((RESOLVE, domain))

    def nowhere(self, domain, outcome, now):
        """They wait for ever."""

    def _seek(self, lane, now):
        if now < lane.wait_until or (self.opens_sessions and not lane.places):
            return
        while lane.ready and lane.sessions < self.most and len(lane.ready) > (lane.asked if self.opens_sessions else 0):
            lane.sessions += 1
            self.used += 1
            if not self.opens_sessions:
                self._deliver(None, lane)
                continue
            session, places = next(self.numbers), deque(lane.places)
            places.rotate(-self.random.randrange(len(places)))
            lane.asked += 1
            self.sessions[session] = (lane, places)
            self.orders.append((OPEN, session, self._opening(*places.popleft())))

    def _opening(self, name, address):
        return Opening(
            name, address, connect_seconds=30.0, greeting_seconds=30.0, reply_seconds=60.0, hedge_seconds=self.hedge
        )

    def waiting(self, session, now):
        _, places = self.sessions[session]
        if places:
            self.orders.append((MORE, session, self._opening(*places.popleft())))

    def ready(self, session, host, address, limits, now):
        lane = self.sessions[session][0]
        lane.asked -= 1
        if lane.ready:
            self._deliver(session, lane)
        else:
            self.orders.append((CLOSE, session))

    def _deliver(self, session, lane):
        number, offset = lane.ready.popleft()
        handle = next(self.numbers)
        self.flights[handle] = (session, lane, number, offset)
        self.orders.append((DELIVER, session, number, [(handle, offset)]))

    def failed(self, session, outcome, now):
        lane, places = self.sessions[session]
        if outcome.code == errno.ECANCELED:  # another address won
            return
        if places:
            self.orders.append((MORE, session, self._opening(*places.popleft())))
        elif lane.asked:
            lane.asked -= 1
            lane.wait_until = now + WAIT_SECONDS
            self.late.append((lane.wait_until, lane))
            self.orders.append((CLOSE, session))

    refused = failed

    def result(self, handle, outcome, *, carried=0, accepted=0, now):
        session, lane, number, offset = self.flights.pop(handle)
        if outcome.letter == b"Z":
            lane.ready.append((number, offset))
            lane.wait_until = now + WAIT_SECONDS
            self.late.append((lane.wait_until, lane))
        else:
            self.left[number] -= 1
            if not self.left[number]:
                self.orders.append((DONE, number))
        if session is None:
            self._ended(lane, now)
        elif lane.ready and now >= lane.wait_until:
            self._deliver(session, lane)
        else:
            self.orders.append((CLOSE, session))
        return outcome.letter

    def unsent(self, handle, now):
        _, lane, number, offset = self.flights.pop(handle)
        lane.ready.appendleft((number, offset))

    def closed(self, session, outcome, *, carried=0, now):
        self._ended(self.sessions.pop(session)[0], now)

    def _ended(self, lane, now):
        lane.sessions -= 1
        self.used -= 1
        self._seek(lane, now)

    def lost(self, sessions, now):
        for handle, (session, lane, number, offset) in list(self.flights.items()):
            if session in sessions:
                del self.flights[handle]
                lane.ready.append((number, offset))
        for session in sessions:
            self._ended(self.sessions.pop(session)[0], now)

    def advance(self, date, now):
        due, self.late = [lane for when, lane in self.late if when <= now], [one for one in self.late if one[0] > now]
        for lane in due:
            self._seek(lane, now)

    def next_time(self):
        return min((when for when, _ in self.late), default=None)

    def take_orders(self):
        orders, self.orders = self.orders, []
        return orders

    def log_lines(self, now):
        return []
