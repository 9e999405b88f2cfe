"""Destinations that do not answer beside those that do: the scheduler in virtual time."""

import heapq
import itertools

import pytest

from pyqmail.mail.destinations.old import engine as scheduler
from pyqmail.mail.destinations.old import questions, remembered
from pyqmail.mail.destinations.old.engine import Sessions
from pyqmail.mail.destinations.old.lanes import Recipient
from pyqmail.mail.destinations.old.orders import DELIVER, OPEN, REPORT, RESOLVE
from pyqmail.mail.destinations.old.remembered import Remembered
from pyqmail.mail.destinations.outcome import CONNECT, Outcome

DAY = 86400
DEAD = 60.0  # until a look-up or a connection is given up


class Owner:
    def __init__(self, is_alone=False):
        self.is_alone = is_alone


class World:
    """Servers and name servers for an engine, by the first letters of a domain.

    good: answers at once; slow: delivers in half a second; silent: never greets; late: greets after 30 s; dead: its
    name servers do not answer.  A domain that begins with `routed` needs no question, `relayed` one about relay.test.
    """

    def __init__(self, total):
        self.engine, self.now = Sessions(total), 1000.0
        self.engine.plan_of = self._plan
        self._events, self._count = [], itertools.count()
        self.delivered, self.reported, self.lines = {}, {}, []  # address -> when
        self.done = set()
        self.asked, self.max_asked, self.opened, self.max_silent = set(), 0, {}, 0
        self.asked_per_second = {}

    def _plan(self, domain):
        if domain.startswith(b"routed"):
            return False, b"192.0.2.1:25", b""
        if domain.startswith(b"relayed"):
            return False, b"relay.test:25", b"relay.test"
        if domain.startswith(b"deadrelay"):
            return False, domain[4:10] + b":25", domain[4:10]
        return True, domain, domain

    def arrive(self, domain, count=1, is_alone=False):
        owner = Owner(is_alone)
        self.engine.arrived(owner, [Recipient(owner, i, b"u%d@%b" % (i, domain)) for i in range(count)], self.now)

    def after(self, seconds, work, *arguments):
        heapq.heappush(self._events, (self.now + seconds, next(self._count), work, arguments))

    def run(self, seconds):
        """Let time pass."""
        until = self.now + seconds
        while True:
            self._obey()
            times = [self._events[0][0]] if self._events else []
            when = self.engine.next_time()
            times += [] if when is None else [max(when, self.now)]
            if not times or min(times) > until:
                self.now = until
                return
            self.now = min(times)
            while self._events and self._events[0][0] <= self.now:
                _, _, work, arguments = heapq.heappop(self._events)
                work(*arguments, self.now)

    def _obey(self):
        orders = True
        while orders:
            self.engine.advance(self.now)
            orders = self.engine.take_orders()
            for order in orders:
                getattr(self, f"_{order[0]}")(*order[1:])
            assert self.engine.used <= self.engine.total
        self.lines += self.engine.log_lines(self.now)
        silent = sum(not self._greets(domain) for domain in self.opened.values())
        self.max_silent = max(self.max_silent, silent)

    def _greets(self, domain):
        return not domain.startswith((b"silent", b"late"))

    def _resolve(self, domain):
        if not domain.startswith(b"routed"):
            self.asked.add(domain)
            self.max_asked = max(self.max_asked, len(self.asked))
            second = int(self.now)
            self.asked_per_second[second] = self.asked_per_second.get(second, 0) + 1
        if domain.startswith(b"dead"):
            self.after(DEAD, self._answer, domain, False)
        elif domain.startswith(b"routed"):
            self._answer(domain, True, self.now)
        else:
            self.after(0.01, self._answer, domain, True)

    def _answer(self, domain, is_found, now):
        self.asked.discard(domain)
        if is_found:
            self.engine.resolved(domain, [(b"mx." + domain, b"192.0.2.1", 25)], now)
        else:
            self.engine.unroutable(domain, b"Zno\n", now)

    def _open(self, number, domain, candidates):
        self.opened[number] = domain
        if domain.startswith(b"silent"):
            self.after(DEAD, self._fail, number)
        else:
            self.after(30 if domain.startswith(b"late") else 0.01, self._greet, number)

    def _greet(self, number, now):
        if number in self.opened:
            self.engine.ready(number, b"a", now)

    def _fail(self, number, now):
        if number in self.opened:
            self.engine.failed(number, Outcome(b"Zsilent\n", CONNECT), now)
            self._end(number, now)

    def _deliver(self, number, recipients):
        seconds = 0.5 if self.opened[number].startswith(b"slow") else 0.05
        for recipient in recipients:
            recipient.session = number
            self.after(seconds, self._accept, recipient)

    def _accept(self, recipient, now):
        assert recipient not in self.done
        self.done.add(recipient)
        self.delivered[recipient.address] = now
        self.engine.result(recipient, Outcome(b"K\n"), now)

    def _close(self, number):
        self.after(0.01, self._end, number)

    def _end(self, number, now):
        if self.opened.pop(number, None) is not None:
            self.engine.closed(number, now)

    def _report(self, recipients, report):
        for recipient in recipients:
            self.reported[recipient.address] = self.now

    def seconds_to(self, domain):
        """Send a mail and return how long it took to be delivered; None if it was not within 5 minutes."""
        self.arrive(domain)
        began, address = self.now, b"u0@" + domain
        self.delivered.pop(address, None)
        while address not in self.delivered and self.now < began + 300:
            self.run(0.01)
        return self.now - began if address in self.delivered else None


@pytest.mark.parametrize("domain", [b"routed.example", b"relayed.example", b"good.example"])
def test_3000_dead_zones_hold_up_neither_a_route_nor_a_known_destination(domain):
    world = World(100)
    if domain.startswith(b"good"):
        assert world.seconds_to(domain) < 1
        world.run(scheduler.KNOWN_SECONDS + 10)  # it is asked about again
    for i in range(3000):
        world.arrive(b"dead%d.example" % i)
    world.run(0.1)
    assert world.seconds_to(domain) <= 1


def test_a_new_destination_behind_3000_dead_zones_is_asked_about_in_seconds():
    world = World(100)
    for i in range(3000):
        world.arrive(b"dead%d.example" % i)
    world.run(0.1)
    assert world.seconds_to(b"good.example") < 3000 / questions.MAX_YOUNG_QUESTIONS + 2
    assert max(world.asked_per_second.values()) <= 2 * questions.MAX_YOUNG_QUESTIONS


def test_questions_have_a_bound_and_known_destinations_a_share():
    world = World(100)
    assert world.seconds_to(b"good.example") < 1
    world.run(scheduler.KNOWN_SECONDS + 10)
    for i in range(10000):
        world.arrive(b"dead%d.example" % i)
    world.run(DEAD - 5)
    assert world.max_asked == questions.MAX_QUESTIONS - questions.MAX_YOUNG_QUESTIONS
    assert world.seconds_to(b"good.example") <= 1
    assert world.max_asked <= questions.MAX_QUESTIONS
    world.run(400)
    assert len(world.reported) == 10000 and not world.asked  # each had its answer


def test_a_dead_relay_is_one_question_for_all_its_domains_and_many_have_the_same_bound():
    world = World(100)
    for i in range(10000):
        world.arrive(b"deadrelay.domain%d.example" % i)
    world.run(1)
    assert len(world.engine._questions._relays) == 1 and world.seconds_to(b"good.example") <= 1
    world.run(100)
    assert len(world.reported) == 10000 and not world.engine._questions._relays


@pytest.mark.parametrize("count", [2000, 100])
@pytest.mark.parametrize("is_alone", [False, True])
def test_2000_silent_destinations_do_not_hold_up_one_that_has_greeted(count, is_alone):
    world = World(100)
    assert world.seconds_to(b"good.example") < 1
    for i in range(count):
        world.arrive(b"silent%d.example" % i, 20, is_alone)
    for _ in range(20):
        world.run(7)
        assert world.seconds_to(b"good.example") <= 1
    assert 0 < world.max_silent <= 50


def test_what_has_greeted_has_the_places_that_silent_ones_leave():
    world = World(100)
    world.arrive(b"slow.example", 1)
    world.run(2)
    for i in range(200):
        world.arrive(b"silent%d.example" % i)
    world.arrive(b"slow.example", 400, True)
    world.run(4.5)  # 400 half seconds over the 50 places that the silent ones leave
    assert len(world.done) == 401


def test_silent_ones_that_wait_do_not_make_good_sessions_end():
    """Only who could have the unit makes others give way."""
    world = World(10)
    assert world.seconds_to(b"good.example") < 1
    for i in range(100):
        world.arrive(b"silent%d.example" % i)
    opened = []
    world.engine.take_orders()
    for _ in range(30):
        assert world.seconds_to(b"good.example") <= 1
        opened += [number for number, domain in world.opened.items() if domain == b"good.example"]
    assert len(set(opened)) <= 2


def test_never_tried_before_tried():
    world = World(4)
    for i in range(10):
        world.arrive(b"silent%d.example" % i)
    world.run(DEAD * 6)
    assert len(world.reported) == 10
    order = []
    for i in range(10):
        world.arrive(b"silent%d.example" % i)  # tried, and came first
    world.run(1)
    world.arrive(b"good.example")
    began = world.now
    world.run(DEAD + 5)
    assert world.delivered[b"u0@good.example"] < began + DEAD + 1, order


def test_one_silent_destination_leaves_places_for_new_ones():
    world = World(20)
    world.arrive(b"silent.example", 100, True)
    for _ in range(20):
        world.arrive(b"silent.example")
    world.run(1)
    assert len(world.opened) == 8
    for i in range(5):
        assert world.seconds_to(b"good%d.example" % i) <= 1
    assert world.seconds_to(b"slow.example") <= 1


@pytest.mark.parametrize("total", [1, 2, 3])
def test_half_of_few_lets_unknown_destinations_through(total):
    world = World(total)
    world.arrive(b"good.example")
    world.run(1)
    assert world.delivered
    for i in range(3):
        world.arrive(b"silent%d.example" % i)
    world.run(1)
    assert world.max_silent == 1
    world.arrive(b"other.example")
    world.run(DEAD * 5)
    assert b"u0@other.example" in world.delivered and len(world.reported) == 3


def test_a_greeting_counts_for_a_day():
    world = World(4)
    world.arrive(b"late.example", 4, True)
    world.run(1)
    assert len(world.opened) == 2
    world.run(40)
    assert len(world.done) == 4
    world.run(DAY - 100)
    world.arrive(b"late.example", 4, True)
    world.run(1)
    assert len(world.opened) == 4
    world.run(100)
    world.run(DAY + 1)
    world.arrive(b"late.example", 4, True)
    world.run(1)
    assert len(world.opened) == 2


def test_a_relay_is_one_destination():
    world = World(10)
    world.arrive(b"routed-one.example")
    world.run(5)
    for i in range(10):
        world.arrive(b"routed%d.example" % i)
    assert len(orders := [order for order in _next_orders(world) if order[0] == OPEN]) == 10, orders


def _next_orders(world):
    found = []
    while True:
        world.engine.advance(world.now)
        orders = world.engine.take_orders()
        if not orders:
            return found
        found += orders
        for order in orders:
            if order[0] == RESOLVE:
                world._resolve(order[1])


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(remembered, "MAX_REMEMBERED", 3)
    known = Remembered()
    for i in range(10):
        known.note(b"%d" % i, i)
    known.note(b"7", 11)
    known.note(b"11", 12)
    assert len(known) == 3 and known.time(b"8") is None and known.time(b"7") == 11 and known.time(b"9") == 9


# recipients of one message


@pytest.mark.parametrize("total", [20, 100])
def test_verp_recipients_of_one_domain_are_as_parallel_as_the_total_allows(total):
    world = World(total)
    began = world.now
    world.arrive(b"slow.example", 20, True)
    world.run(10)
    assert len(world.done) == 20 and max(world.delivered.values()) - began <= 1.2


def test_several_verp_messages_at_one_domain_and_others_beside_them():
    world = World(40)
    world.run(1)
    began = world.now
    for _ in range(3):
        world.arrive(b"slow.example", 1)
    world.run(2)
    began = world.now
    world.arrive(b"slow1.example", 40, True)
    world.arrive(b"good.example")
    world.run(10)
    assert max(world.delivered.values()) - began <= 2 and world.delivered[b"u0@good.example"] - began <= 1


def test_a_parcel_that_was_cut_for_want_of_units_goes_on_when_there_are_some():
    world = World(10)
    world.arrive(b"slow.example", 45)
    world.run(20)
    assert len(world.done) == 45


@pytest.mark.parametrize("is_alone", [False, True])
def test_many_recipients_in_one_parcel_are_never_copied_for_each_other(is_alone):
    """10,000 recipients must not make 10,000 copies of what is left."""
    world = World(20)
    world.arrive(b"good.example", 10000, is_alone)
    lane = world.engine._lanes.by_domain[b"good.example"]
    [rest] = lane.parcels
    world.run(2)
    assert lane.parcels[0] is rest and 0 < len(rest) < 10000
    world.run(60)
    assert len(world.done) == 10000 and lane.transactions == 0


def test_a_server_that_takes_few_sessions_gets_no_more():
    """What is refused while others work costs nobody a try, and ends the attempts."""
    engine, now = Sessions(50), 0.0
    owner = Owner(True)
    engine.arrived(owner, [Recipient(owner, i, b"u%d@x" % i) for i in range(20)], now)
    engine.advance(now)
    engine.resolved(b"x", [(b"mx", b"a", 25)], now)
    engine.advance(now)
    opened = [order[1] for order in engine.take_orders() if order[0] == OPEN]
    assert len(opened) == 20
    for number in opened[:5]:
        engine.ready(number, b"a", now)
    for number in opened[5:]:
        engine.failed(number, Outcome(b"Ztoo many\n", CONNECT), now)
        engine.closed(number, now)
    flying, delivered = [], 0
    while True:
        engine.advance(now)
        orders = engine.take_orders()
        assert not [order for order in orders if order[0] in (OPEN, REPORT)]
        for order in orders:
            if order[0] == DELIVER:
                flying += [(order[1], recipient) for recipient in order[2]]
        if not flying:
            break
        number, recipient = flying.pop(0)
        recipient.session, delivered = number, delivered + 1
        engine.result(recipient, Outcome(b"K\n"), now)
    assert delivered == 20


# what the log shows


def test_a_slow_connection_has_a_line_of_its_own_once_a_minute():
    world = World(100)
    world.arrive(b"silent.example", 20, True)
    world.run(4.9)
    assert not world.lines
    world.run(0.2)
    assert world.lines == [b"connecting: mx.silent.example: sessions 20, seconds 5"]
    world.run(50)
    assert len(world.lines) == 1
    world.arrive(b"silent.example")
    world.run(200)
    assert [line.split(b":")[0] for line in world.lines] == [b"connecting"] * len(world.lines)
    assert 1 <= len(world.lines) <= 4


def test_a_slow_look_up_has_a_line_of_its_own():
    world = World(100)
    world.arrive(b"dead.example", 3)
    world.arrive(b"dead\xff to remote \n.example")
    world.run(6)
    assert sorted(world.lines) == [
        b"looking up: dead.example: domains 1, seconds 5",
        b"looking up: dead__to_remote_/.example: domains 1, seconds 5",
    ]
    world.run(60)
    assert len(world.lines) == 2  # given up


def test_no_line_about_what_is_quick():
    world = World(100)
    for i in range(50):
        world.arrive(b"slow%d.example" % i, 2)
    world.run(100)
    assert not world.lines and len(world.done) == 100 and world.engine.next_time() is None


def test_another_host_is_another_line():
    engine = Sessions(10)
    engine.arrived("a message", [Recipient(Owner(), 0, b"u@x")], 0)
    engine.advance(0)
    engine.resolved(b"x", [(b"mx1", b"a", 25), (b"mx2", b"b", 25)], 0)
    engine.advance(0)
    assert engine.log_lines(5) == [b"connecting: mx1: sessions 1, seconds 5"]
    engine.trying(1, b"mx2", 60)
    assert engine.log_lines(64.9) == [] and engine.next_time() == 65
    assert engine.log_lines(66) == [b"connecting: mx2: sessions 1, seconds 6"]
    engine.ready(1, b"b", 67)
    assert engine.log_lines(500) == [] and engine.connecting == 0
    engine.trying(1, b"mx3", 68)  # it crossed the greeting
    assert engine.log_lines(500) == []


def test_many_slow_ones_have_their_lines_a_hundred_a_second():
    world = World(2000)
    for i in range(250):
        world.arrive(b"silent%d.example" % i)
    world.run(5.1)
    assert len(world.lines) == 100
    world.run(3)
    assert len(set(world.lines)) == len(world.lines) == 250
    assert not any(b" from " in line or b" to remote " in line or b" to local " in line for line in world.lines)


def test_connecting_counts_until_the_greeting_or_the_end():
    world = World(10)
    world.arrive(b"silent.example", 3, True)
    world.arrive(b"late.example", 1)
    world.run(1)
    assert world.engine.connecting == 4
    world.run(35)
    assert world.engine.connecting == 3
    world.run(60)
    assert world.engine.connecting == 0
    world.arrive(b"silent.example", 2, True)
    world.run(1)
    assert world.engine.connecting == 2
    world.engine.stop()
    world._obey()
    assert world.engine.connecting == 0 and world.engine.next_time() is None
    world.run(10)
    assert world.engine.used == 0
