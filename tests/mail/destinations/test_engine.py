"""The scheduler's engines, with given times; and random runs against what must always hold."""

import random

import pytest

from pyqmail.mail.destinations.old import engine as scheduler
from pyqmail.mail.destinations.old import lanes, questions
from pyqmail.mail.destinations.old.engine import Sessions
from pyqmail.mail.destinations.old.immediate import Immediate
from pyqmail.mail.destinations.old.lanes import Recipient
from pyqmail.mail.destinations.old.orders import CLOSE, DELIVER, OPEN, REPORT, RESOLVE
from pyqmail.mail.destinations.old.parcels import by_domain, by_message
from pyqmail.mail.destinations.outcome import CONNECT, DIALOGUE, LOOKUP, Outcome

WHERE = [(b"mx", b"192.0.2.1", 25)]


class Owner:
    is_alone = False


def parcel(count=1, owner=None, start=0):
    owner = owner or Owner()
    return [Recipient(owner, start + i, b"u%d@x" % i) for i in range(count)]


class Play:
    """Feeds an engine and keeps the orders; sessions bound to recipients as the manager does."""

    def __init__(self, total):
        self.engine = Sessions(total)
        self.now = 1000.0

    def orders(self):
        self.engine.advance(self.now)
        got = self.engine.take_orders()
        for order in got:
            if order[0] == DELIVER:
                for recipient in order[2]:
                    recipient.session = order[1]
        return got

    def arrive(self, domain, some):
        for recipient in some:
            recipient.address = b"u@" + domain
        self.engine.arrived(some[0].owner, some, self.now)

    def result(self, recipient):
        self.engine.result(recipient, Outcome(b"K\n"), self.now)

    def __getattr__(self, name):
        return lambda *arguments: getattr(self.engine, name)(*arguments, self.now)


def test_from_arrival_to_the_end_of_a_session():
    play, some = Play(5), parcel()
    play.arrive(b"x", some)
    assert play.orders() == [(RESOLVE, b"x")]
    play.resolved(b"x", WHERE)
    assert play.orders() == [(OPEN, 1, b"x", WHERE)]
    play.ready(1, b"192.0.2.1")
    assert play.orders() == [(DELIVER, 1, some)]
    play.result(some[0])
    assert play.orders() == [] and play.engine.next_time() == play.now + scheduler.IDLE_SECONDS
    more = parcel()
    play.arrive(b"x", more)  # the session that idles takes it
    assert play.orders() == [(DELIVER, 1, more)]
    play.result(more[0])
    play.now += scheduler.IDLE_SECONDS
    assert play.orders() == [(CLOSE, 1)]
    play.closed(1)
    assert play.orders() == [] and play.engine.used == 0
    play.now += scheduler.KNOWN_SECONDS
    play.orders()
    assert play.engine.next_time() is None and not play.engine._lanes.by_domain


def test_mail_goes_another_way_as_soon_as_smtproutes_says_so():
    play, some, more, last = Play(5), parcel(), parcel(), parcel()
    play.engine.plan_of = lambda domain: (False, b"old:25", b"")
    play.arrive(b"x", some)
    assert play.orders() == [(RESOLVE, b"x")]
    play.resolved(b"x", WHERE)
    play.orders()
    play.ready(1, b"192.0.2.1")
    assert play.orders() == [(DELIVER, 1, some)]
    play.engine.plan_of = lambda domain: (False, b"new:25", b"")
    play.arrive(b"x", more)  # the session that works is none for it, and what is known of the domain neither
    assert play.orders() == [(RESOLVE, b"x")]
    elsewhere = [(b"new", b"192.0.2.2", 25)]
    play.resolved(b"x", elsewhere)
    assert play.orders() == [(OPEN, 2, b"x", elsewhere)]
    play.unsent(some[0])  # and what comes back from there goes the new way
    play.closed(1)
    assert play.orders() == [(OPEN, 3, b"x", elsewhere)]
    for number, its in ((2, some), (3, more)):
        play.ready(number, b"192.0.2.2")
        assert play.orders() == [(DELIVER, number, its)]
    play.result(some[0])
    play.result(more[0])
    play.engine.plan_of = lambda domain: (True, domain, domain)
    play.arrive(b"x", last)  # nor are those that idle
    assert sorted(play.orders()) == [(CLOSE, 2), (CLOSE, 3), (RESOLVE, b"x")]
    play.closed(2)
    play.closed(3)
    play.resolved(b"x", WHERE)
    assert play.orders() == [(OPEN, 4, b"x", WHERE)]


def test_no_more_sessions_than_parcels_or_units():
    play = Play(6)
    for _ in range(2):
        play.arrive(b"x", parcel())
    for _ in range(9):
        play.arrive(b"y", parcel())
    play.orders()
    play.resolved(b"x", WHERE)
    play.resolved(b"y", WHERE)
    opened = [order[2] for order in play.orders()]
    assert opened == [b"x", b"y", b"x"]
    assert play.engine.used == 3 and play.orders() == []  # half of the total: nobody has greeted yet
    play.ready(1, b"a")
    play.ready(2, b"a")
    assert [order[0] for order in play.orders()] == [DELIVER, DELIVER, OPEN, OPEN, OPEN]
    assert play.engine.used == 6 and play.orders() == []


def test_a_refused_lane_is_deferred_whole_and_asked_again():
    play = Play(6)
    parcels = [parcel() for _ in range(3)]
    for one in parcels:
        play.arrive(b"x", one)
    play.orders()
    play.resolved(b"x", WHERE)
    assert [order[0] for order in play.orders()] == [OPEN] * 3
    play.failed(1, Outcome(b"Zno\n", CONNECT))
    play.failed(2, Outcome(b"Zno\n", CONNECT))
    assert play.orders() == []  # the third may still succeed
    last = Outcome(b"Zreally no\n", CONNECT)
    play.failed(3, last)
    assert play.orders() == [(REPORT, one, last) for one in parcels]
    for number in (1, 2, 3):
        play.closed(number)
    assert play.engine.used == 0
    play.arrive(b"x", parcel())
    assert play.orders() == [(RESOLVE, b"x")]


def test_new_mail_for_a_lane_that_was_refused_while_it_waited_for_a_unit_asks_again():
    play = Play(1)
    for _ in range(2):
        play.arrive(b"x", parcel())
    play.orders()
    play.resolved(b"x", WHERE)
    assert play.orders() == [(OPEN, 1, b"x", WHERE)]  # the second parcel waits for a unit
    play.failed(1, Outcome(b"Zno\n", CONNECT))
    play.arrive(b"x", parcel())
    assert [order[0] for order in play.orders()] == [REPORT, REPORT, RESOLVE]
    play.resolved(b"x", WHERE)
    play.closed(1)
    assert play.orders() == [(OPEN, 2, b"x", WHERE)]


def test_a_refused_session_costs_nothing_while_another_works():
    play = Play(6)
    parcels = [parcel() for _ in range(3)]
    for one in parcels:
        play.arrive(b"x", one)
    play.orders()
    play.resolved(b"x", WHERE)
    play.orders()
    play.ready(1, b"a")
    for number in (2, 3):
        play.failed(number, Outcome(b"Ztoo many\n", CONNECT))
        play.closed(number)
    assert play.orders() == [(DELIVER, 1, parcels[0])]  # and no new OPEN
    play.result(parcels[0][0])
    assert play.orders() == [(DELIVER, 1, parcels[1])]


def test_unroutable():
    play, some = Play(5), parcel(2)
    play.arrive(b"x", some)
    play.orders()
    play.unroutable(b"x", b"Dno host\n")
    [(kind, reported, outcome)] = play.orders()
    assert (kind, reported) == (REPORT, some) and not play.engine._lanes.by_domain
    assert (outcome.report, outcome.stage, outcome.host) == (b"Dno host\n", LOOKUP, b"x")


def test_recipients_of_one_message_go_together_within_the_total():
    play, some = Play(20), parcel(50)
    play.arrive(b"x", some)
    play.orders()
    play.resolved(b"x", WHERE)
    play.orders()
    play.ready(1, b"a")
    [(_, _, taken)] = play.orders()
    assert len(taken) == 20 and play.engine.used == 20
    for recipient in taken:
        play.result(recipient)
    [(_, _, taken)] = [order for order in play.orders() if order[0] == DELIVER]
    assert len(taken) == 20


def test_verp_recipients_go_alone():
    play, owner = Play(20), Owner()
    owner.is_alone = True
    play.arrive(b"x", parcel(3, owner))
    play.orders()
    play.resolved(b"x", WHERE)
    play.orders()
    play.ready(1, b"a")
    assert [len(order[2]) for order in play.orders() if order[0] == DELIVER] == [1]


def test_unsent_is_tried_again_a_few_times():
    play, some = Play(1), parcel()
    play.arrive(b"x", some)
    play.orders()
    play.resolved(b"x", WHERE)
    for number in range(1, scheduler.RETURNS + 1):
        assert play.orders() == [(OPEN, number, b"x", WHERE)]
        play.ready(number, b"192.0.2.1")
        assert play.orders() == [(DELIVER, number, some)]
        play.unsent(some[0])
        play.closed(number)
    [(kind, reported, outcome)] = play.orders()
    assert (kind, reported, outcome.stage, outcome.address) == (REPORT, some, DIALOGUE, b"192.0.2.1")
    assert outcome.report == b"ZConnected to 192.0.2.1 but connection died. (#4.4.2)\n"
    assert play.engine.used == 0


def test_what_a_used_session_gives_back_is_for_a_new_one():
    play, first, second, third = Play(2), parcel(), parcel(2), parcel()
    play.arrive(b"x", first)
    play.orders()
    play.resolved(b"x", WHERE)
    assert play.orders() == [(OPEN, 1, b"x", WHERE)]
    play.ready(1, b"a")
    assert play.orders() == [(DELIVER, 1, first)]
    play.result(first[0])
    play.arrive(b"x", list(second))
    assert play.orders() == [(DELIVER, 1, second)]
    play.arrive(b"x", third)
    assert play.orders() == []  # the units of what flies are all there are
    for recipient in second:
        play.unsent(recipient)
    assert play.orders() == [(OPEN, 2, b"x", WHERE)]
    play.closed(1)
    play.ready(2, b"a")
    assert play.orders() == [(DELIVER, 2, second)]  # together, and before what has not been tried
    for recipient in second:
        play.result(recipient)
    assert play.orders()[-1] == (DELIVER, 2, third)


def test_a_used_session_does_not_take_what_came_back_and_makes_room_for_a_new_one():
    play, some = Play(9), [parcel()[0] for _ in range(4)]
    for recipient in some:
        play.arrive(b"x", [recipient])
    play.orders()
    play.resolved(b"x", WHERE)
    assert play.orders() == [(OPEN, number, b"x", WHERE) for number in (1, 2, 3, 4)]
    play.ready(1, b"a")
    play.ready(2, b"a")
    for number in (3, 4):
        play.failed(number, Outcome(b"Zno more of you\n", CONNECT))  # two sessions at once are what the server bears
        play.closed(number)
    assert play.orders() == [(DELIVER, 1, [some[0]]), (DELIVER, 2, [some[1]])]
    play.result(some[0])
    assert play.orders() == [(DELIVER, 1, [some[2]])]
    play.unsent(some[2])
    assert play.orders() == []
    play.result(some[1])
    assert play.orders() == [(DELIVER, 2, [some[3]])]
    play.result(some[3])
    assert play.orders() == [(CLOSE, 2)]
    play.closed(2)
    assert play.orders() == [(OPEN, 5, b"x", WHERE)]
    play.ready(5, b"a")
    assert play.orders() == [(DELIVER, 5, [some[2]])]


def test_a_session_that_is_refused_while_another_leaves_waits_until_that_has_left():
    """A server that takes one connection counts it until it is closed."""
    play, some = Play(9), parcel()
    play.arrive(b"x", parcel())
    play.orders()
    play.resolved(b"x", WHERE)
    play.orders()
    play.ready(1, b"a")
    (deliver,) = play.orders()
    play.result(deliver[2][0])
    play.now += scheduler.IDLE_SECONDS
    assert play.orders() == [(CLOSE, 1)]
    play.arrive(b"x", some)
    assert play.orders() == [(OPEN, 2, b"x", WHERE)]
    play.failed(2, Outcome(b"Zone is enough\n", CONNECT))
    play.closed(2)
    assert play.orders() == []
    play.closed(1)
    assert play.orders() == [(OPEN, 3, b"x", WHERE)]
    refusal = Outcome(b"Znot now\n", CONNECT)
    play.failed(3, refusal)
    assert play.orders() == [(REPORT, some, refusal)]


def test_recipients_that_come_back_while_others_get_further_are_not_given_up():
    """A server may take one recipient over each connection."""
    play, some = Play(9), parcel(8)
    play.arrive(b"x", list(some))
    play.orders()
    play.resolved(b"x", WHERE)
    left = some
    for number in range(1, 9):
        assert play.orders() == [(OPEN, number, b"x", WHERE)]
        play.ready(number, b"a")
        assert play.orders() == [(DELIVER, number, left)]
        play.result(left[0])
        for recipient in left[1:]:
            play.unsent(recipient)
        play.closed(number)
        left = left[1:]
    assert play.orders() == [] and play.engine.used == 0


def test_verp_recipients_that_came_back_stay_alone():
    play, owner = Play(9), Owner()
    owner.is_alone = True
    first, second = parcel(1, owner), parcel(1, owner)
    for number, some in ((1, first), (2, second)):
        play.arrive(b"x", some)
        if number == 1:
            play.orders()
            play.resolved(b"x", WHERE)
        play.orders()
        play.ready(number, b"a")
        play.orders()
    play.unsent(first[0])
    play.unsent(second[0])
    assert play.orders() == [(OPEN, 3, b"x", WHERE), (OPEN, 4, b"x", WHERE)]


def test_a_session_that_ends_without_a_word_defers_what_it_had():
    play, some = Play(1), parcel()
    play.arrive(b"x", some)
    play.orders()
    play.resolved(b"x", WHERE)
    play.orders()
    play.ready(1, b"a")
    play.orders()
    play.closed(1)
    assert play.orders()[0][:2] == (REPORT, some)


def test_an_idle_session_gives_way():
    play, some = Play(1), parcel()
    play.arrive(b"x", some)
    play.orders()
    play.resolved(b"x", WHERE)
    play.orders()
    play.ready(1, b"a")
    play.orders()
    play.result(some[0])
    play.orders()
    play.arrive(b"y", parcel())
    assert play.orders() == [(RESOLVE, b"y")]
    play.resolved(b"y", WHERE)
    assert play.orders() == [(CLOSE, 1)]
    play.closed(1)
    assert play.orders() == [(OPEN, 2, b"y", WHERE)]


def test_a_busy_session_gives_way_after_a_while():
    play = Play(1)
    for _ in range(50):
        play.arrive(b"x", parcel())
    play.orders()
    play.resolved(b"x", WHERE)
    play.orders()
    play.arrive(b"y", parcel())
    play.orders()
    play.resolved(b"y", WHERE)
    play.ready(1, b"a")
    for _ in range(scheduler.SHARED_SESSION_MESSAGES):
        [order] = play.orders()
        assert order[0] == DELIVER
        play.result(order[2][0])
    assert play.orders() == [(CLOSE, 1)]
    play.closed(1)
    assert play.orders() == [(OPEN, 2, b"y", WHERE)]


def test_stop_lets_what_flies_land():
    play = Play(5)
    parcels = [parcel() for _ in range(2)]
    for one in parcels:
        play.arrive(b"x", one)
    play.orders()
    play.resolved(b"x", WHERE)
    play.orders()
    play.ready(1, b"a")
    play.orders()
    play.engine.stop()
    assert play.orders() == [(CLOSE, 2)]
    play.result(parcels[0][0])
    assert play.orders() == [(CLOSE, 1)]


def test_questions_are_limited():
    play = Play(5)
    for i in range(questions.MAX_YOUNG_QUESTIONS + 10):
        play.arrive(b"d%d" % i, parcel())
    assert len(play.orders()) == questions.MAX_YOUNG_QUESTIONS
    play.unroutable(b"d0", b"Z\n")
    assert [order[0] for order in play.orders()].count(RESOLVE) == 1


@pytest.mark.parametrize("group, domains", [(by_message, [b"x", b"x"]), (by_domain, [b"Big.example", b"x"])])
def test_immediate_takes_turns(group, domains):
    engine = Immediate(3, group)
    for domain, some in zip(domains, (parcel(5, start=100), parcel(1, start=200)), strict=True):
        for recipient in some:
            recipient.address = b"u@" + domain
        engine.arrived(some[0].owner, some, 0)
    engine.advance(0)
    orders = engine.take_orders()
    assert [order[2][0].offset for order in orders] == [100, 200, 101] and engine.used == 3
    engine.result(orders[0][2][0], None, 0)
    engine.advance(0)
    assert [order[2][0].offset for order in engine.take_orders()] == [102]
    assert engine.next_time() is None


def test_immediate_total_zero_holds():
    engine = Immediate(0)
    engine.arrived("a", parcel(), 0)
    engine.arrived("b", [], 0)
    engine.advance(0)
    assert engine.take_orders() == []


def check_lanes(engine):
    """Each lane stands where it says, and counts what it has."""
    turns = engine._turns
    rings = turns.proven, turns.untried, turns.tried, turns.more
    assert all(lane.ring is ring for ring in rings for lane in ring)
    for lane in engine._lanes.by_domain.values():
        assert lane.ring is None or lane in lane.ring
        parcels = [*lane.parcels, *lane.returned]
        alone = sum(len(one) for one in parcels if one[0].owner.is_alone)
        together = sum(-(-len(one) // lanes.PARCEL_RECIPIENTS) for one in parcels if not one[0].owner.is_alone)
        assert lane.transactions == alone + together
    assert turns.trials == sum(turns.trials_of.values()) and all(turns.trials_of.values())


@pytest.mark.parametrize("seed", range(20))
def test_random_runs_lose_nothing_and_keep_the_total(seed):
    chance = random.Random(seed)
    total = chance.choice([1, 2, 5, 20])
    play = Play(total)
    engine = play.engine
    wanted, ended, asked, opened, ready, flying = set(), set(), [], [], {}, {}
    route = [b"a"]
    engine.plan_of = lambda domain: (True, domain + route[0], domain)

    def obey():
        for order in play.orders():
            if order[0] == RESOLVE:
                asked.append(order[1])
            elif order[0] == OPEN:
                opened.append(order[1])
            elif order[0] == DELIVER:
                flying.setdefault(order[1], []).extend(order[2])
            elif order[0] == CLOSE:
                ready.pop(order[1], None)
                if order[1] in opened:
                    opened.remove(order[1])
                play.closed(order[1])
            else:
                ended.update(order[1])
        assert 0 <= engine.used <= total
        assert 0 <= engine._turns.trials <= max(1, total // 2) and 0 <= engine.connecting <= engine.used
        assert sum(map(len, flying.values())) <= total
        check_lanes(engine)

    def event():
        kind = chance.random()
        if asked and kind < 0.3:
            domain = asked.pop(chance.randrange(len(asked)))
            play.resolved(domain, WHERE) if chance.random() < 0.9 else play.unroutable(domain, b"Z\n")
        elif opened and kind < 0.6:
            number = opened.pop(chance.randrange(len(opened)))
            if chance.random() < 0.7:
                ready[number] = True
                play.ready(number, b"a")
            else:
                play.failed(number, Outcome(b"Z\n", CONNECT))
                play.closed(number)
        elif flying:
            number = chance.choice(list(flying))
            some = flying[number]
            if chance.random() < 0.1:
                for recipient in flying.pop(number):
                    play.unsent(recipient)
                    # what is reported in place of a return has ended
                play.closed(number)
                ready.pop(number, None)
            else:
                recipient = some.pop()
                if not some:
                    del flying[number]
                ended.add(recipient)
                play.result(recipient)
        else:
            play.now += 3
            route[0] = chance.choice([b"a", b"a", b"b"])

    for _ in range(200):
        owner = Owner()
        owner.is_alone = chance.random() < 0.3
        some = parcel(chance.choice([1, 1, 1, 3, 30]), owner)
        wanted.update(some)
        play.arrive(b"d%d" % chance.randrange(8), some)
        obey()
        for _ in range(chance.randrange(4)):
            event()
            obey()
    for _ in range(100000):
        if len(ended) == len(wanted) and not engine._sessions and not engine._lanes.by_domain:
            break
        event()
        obey()
        if not asked and not opened and not flying:
            play.now += 100
            obey()
    assert ended == wanted
    assert engine._turns.trials == engine.connecting == engine._closing == 0
    assert engine.used == 0 and not engine._sessions and not engine._lanes.by_domain and engine.next_time() is None
