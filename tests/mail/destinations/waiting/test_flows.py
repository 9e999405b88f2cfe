"""The order within a lane: nothing is lost or counted twice, and shares are as promised."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyqmail.mail.destinations.waiting.flows import BULK, NORMAL, TURN_RECIPIENTS, URGENT, WEIGHTS, FlowRows, LaneQueue
from pyqmail.mail.destinations.waiting.rows import IS_ALONE, MailRows

EVERYTHING = 10**6


class QueueMachine(RuleBasedStateMachine):
    """Two queues of one engine.  ready[queue]: parcels in it; out: parcels taken; their offsets are in the rows."""

    def __init__(self):
        super().__init__()
        self.rows = MailRows()
        self.flows = FlowRows(self.rows)
        self.queues = [LaneQueue(self.flows, 0), LaneQueue(self.flows, 2**30 - 1)]
        self.ready, self.out, self.count, self.recipients = [set(), set()], [set(), set()], 0, 0

    @rule(
        queue=st.integers(0, 1),
        sender=st.sampled_from((0, 1, 2, 2**32 - 1)),
        klass=st.integers(0, 2),
        sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
        is_alone=st.booleans(),
    )
    def add_message(self, queue, sender, klass, sizes, is_alone):
        self.count += 1
        message = self.rows.add_message(self.count, sender, 1000, 0, IS_ALONE if is_alone else 0)
        for size in sizes:
            self.recipients += size
            parcel = self.rows.add_parcel(message, queue, range(size))
            self.rows.p_flags[parcel] |= len(sizes) > 1
            self.queues[queue].add(parcel, klass, sender)
            self.ready[queue].add(parcel)

    @precondition(lambda self: any(self.ready))
    @rule(queue=st.integers(0, 1), most=st.integers(1, 20))
    def take(self, queue, most):
        parcel = self.queues[queue].take(most)
        if not self.ready[queue]:
            assert not parcel
            return
        alone = self.rows.m_flags[self.rows.p_message[parcel]] & IS_ALONE
        assert 1 <= self.rows.count(parcel) <= (1 if alone else most)
        assert self.rows.p_lane[parcel] == queue
        if parcel in self.ready[queue]:
            self.ready[queue].remove(parcel)
        else:
            assert parcel not in self.out[queue]
        self.out[queue].add(parcel)

    @precondition(lambda self: any(self.ready))
    @rule(queue=st.integers(0, 1), sender=st.sampled_from((0, 1, 2, 2**32 - 1)), most=st.integers(1, 20))
    def take_flow(self, queue, sender, most):
        taken = self.queues[queue].take_flow(sender, most)
        theirs = {parcel for parcel in self.ready[queue] if self.rows.m_sender[self.rows.p_message[parcel]] == sender}
        assert len(set(taken)) == len(taken) and set(taken) <= theirs
        assert len(taken) >= min(most, len(theirs))
        self.ready[queue] -= set(taken)
        self.out[queue] |= set(taken)

    @precondition(lambda self: any(self.out))
    @rule(data=st.data(), queue=st.integers(0, 1), at_head=st.booleans(), klass=st.integers(0, 2))
    def give_back(self, data, queue, at_head, klass):
        if self.out[queue]:
            parcel = data.draw(st.sampled_from(sorted(self.out[queue])))
            self.out[queue].remove(parcel)
            sender = self.rows.m_sender[self.rows.p_message[parcel]]
            self.queues[queue].add(parcel, klass, sender, at_head=at_head)
            self.ready[queue].add(parcel)

    @precondition(lambda self: any(self.ready))
    @rule(data=st.data(), queue=st.integers(0, 1), count=st.integers(1, 30))
    def strike(self, data, queue, count):
        for _ in range(min(count, len(self.ready[queue]))):
            parcel = data.draw(st.sampled_from(sorted(self.ready[queue])))
            self.ready[queue].remove(parcel)
            self.recipients -= self.rows.count(parcel)
            message = self.rows.p_message[parcel]
            self.queues[queue].strike(parcel)
            if not self.rows.m_left[message]:
                self.rows.remove_message(message)

    @rule(queue=st.integers(0, 1))
    def drain(self, queue):
        found = self.queues[queue].drain()
        assert len(found) == len(set(found)) and set(found) == self.ready[queue]
        self.out[queue] |= self.ready[queue]
        self.ready[queue] = set()

    @rule()
    def finish(self):
        for out in self.out:
            for parcel in sorted(out):
                message = self.rows.p_message[parcel]
                self.recipients -= self.rows.count(parcel)
                self.rows.remove_parcel(parcel)
                if not self.rows.m_left[message]:
                    self.rows.remove_message(message)
            out.clear()

    @invariant()
    def each_is_in_one_place(self):
        rows = self.rows
        places = [*self.ready, *self.out]
        assert rows.parcel_count == sum(map(len, places))
        assert (
            rows.recipient_count == self.recipients == sum(rows.count(parcel) for place in places for parcel in place)
        )
        for queue, ready in zip(self.queues, self.ready, strict=True):
            assert queue.parcels == len(ready)
            assert queue.transactions(1) == sum(map(rows.count, ready))
            alone = [parcel for parcel in ready if rows.m_flags[rows.p_message[parcel]] & IS_ALONE]
            assert queue.transactions(EVERYTHING) == sum(map(rows.count, alone)) + len(ready) - len(alone)
        if not any(self.ready):
            assert len(self.flows) == 0

    def teardown(self):
        for queue, ready in zip(self.queues, self.ready, strict=True):
            while ready:
                parcel = queue.take(EVERYTHING)
                ready.discard(parcel)
                assert parcel
            assert queue.parcels == 0 or self.only_single_recipients_are_left(queue)

    def only_single_recipients_are_left(self, queue):
        return all(self.rows.m_flags[self.rows.p_message[parcel]] & IS_ALONE for parcel in queue.drain())


TestQueue = QueueMachine.TestCase


class Lane:
    """A queue with messages made by number; take() returns (message number, recipients)."""

    def __init__(self):
        self.rows = MailRows()
        self.queue = LaneQueue(FlowRows(self.rows), 1)

    def add(self, number, count=1, *, sender=0, klass=NORMAL, size=0, flags=0):
        message = self.rows.add_message(number, sender, size, 0, flags)
        self.queue.add(self.rows.add_parcel(message, 1, range(count)), klass, sender)

    def take(self, most=50):
        parcel = self.queue.take(most)
        if not parcel:
            return None
        number, count = self.rows.m_number[self.rows.p_message[parcel]], self.rows.count(parcel)
        self.rows.remove_parcel(parcel)
        return number, count

    def served(self, takes, most=50):
        return [self.take(most) for _ in range(takes)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(20, 400))
def test_classes_share_as_their_weights(costs, takes):
    lane = Lane()
    for klass in (URGENT, NORMAL, BULK):
        lane.add(klass + 1, 13_000, klass=klass, sender=klass)
    got = [0, 0, 0]
    for turn in range(takes):
        number, count = lane.take(costs[turn % len(costs)])
        got[number - 1] += count
    shares = [amount / weight for amount, weight in zip(got, WEIGHTS, strict=True)]
    # a class is ahead by one transaction at most, and behind by its quantum
    assert max(shares) - min(shares) <= 1 + max(costs) / min(WEIGHTS)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.integers(10, 300))
def test_flows_share_alike_whatever_their_messages(sizes, takes):
    lane = Lane()
    for sender, size in enumerate(sizes):
        for message in range(size):
            lane.add(1000 * sender + message + 1, 2200 // size + 7, sender=sender)
    got = [0] * len(sizes)
    for _ in range(takes):
        number, count = lane.take(7)
        got[number // 1000] += count
    assert max(got) - min(got) <= 2 * TURN_RECIPIENTS + 7


def test_a_new_flow_goes_before_those_that_wait():
    lane = Lane()
    for sender in range(200):
        lane.add(sender + 1, 1000, sender=sender)
    lane.served(400, 10)
    lane.add(999, sender=999)
    assert lane.take(10) == (999, 1)


def test_a_sender_who_comes_again_and_again_is_not_new_each_time():
    lane = Lane()
    lane.add(1, 10_000, sender=1)
    got = []
    for number in range(2, 202):
        lane.add(number, 5, sender=2)
        got.append(lane.take(5)[0])
    assert 90 <= got.count(1) <= 110


def test_messages_of_a_sender_take_turns():
    lane = Lane()
    lane.add(1, 50_000)
    lane.served(3)
    lane.add(2, 60)
    lane.add(3)
    assert [number for number, _ in lane.served(5)] in ([1, 2, 3, 1, 2], [2, 3, 1, 2, 1])


def test_parcels_of_a_message_are_one_in_its_turn():
    lane = Lane()
    rows, queue = lane.rows, lane.queue
    message = rows.add_message(1, 0, 0, 0, 0)
    whole = rows.add_parcel(message, 1, range(1000))
    pieces = [rows.cut(whole, 10) for _ in range(99)] + [whole]
    for piece in pieces:  # all were deferred, and come back
        queue.add(piece, NORMAL, 0)
    lane.add(2, 30)
    assert [number for number, _ in lane.served(6, 10)] == [1, 2, 1, 2, 1, 2]


def test_what_came_back_untouched_goes_first():
    lane = Lane()
    for number in (1, 2, 3):
        lane.add(number)
    parcel = lane.queue.take(50)
    lane.queue.add(parcel, NORMAL, 0, at_head=True)
    assert [number for number, _ in lane.served(3)] == [1, 2, 3]


@pytest.mark.parametrize("most, takes", [(50, [50, 10]), (60, [60]), (7, [7] * 8 + [4])])
def test_a_parcel_is_cut(most, takes):
    lane = Lane()
    lane.add(1, 60)
    assert [count for _, count in lane.served(len(takes), most)] == takes
    assert lane.take() is None


def test_a_message_alone_goes_one_by_one():
    lane = Lane()
    lane.add(1, 4, flags=IS_ALONE)
    lane.add(2, 4)
    assert lane.queue.transactions(50) == 5
    assert sorted(lane.served(5)) == [(1, 1)] * 4 + [(2, 4)]


def test_large_messages_cost_more():
    lane = Lane()
    lane.add(1, 1000, klass=NORMAL, size=900_000, sender=1)  # each costs 10
    lane.add(2, 1000, klass=BULK, sender=2)
    numbers = [number for number, _ in lane.served(130, 1)]
    assert 25 <= numbers.count(1) <= 35


def test_many_struck_parcels_are_freed_at_once():
    lane = Lane()
    parcels = []
    for number in range(1, 2048):
        message = lane.rows.add_message(number, number % 7, 0, 0, 0)
        parcels.append(lane.rows.add_parcel(message, 1, [0]))
        lane.queue.add(parcels[-1], number % 3, number % 7)
    for parcel in parcels[:1900]:
        lane.queue.strike(parcel)
    for number in range(3000, 4500):
        lane.add(number)
    assert len(lane.rows.p_next) <= 2049
    assert len([1 for _ in range(1647) if lane.take()]) == 1647
    assert lane.take() is None
