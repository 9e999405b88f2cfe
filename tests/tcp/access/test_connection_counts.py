"""Counting clients by address, network and period; the clock is given."""

import pytest

from pyqmail.tcp.access.connection import TCP, TCP6, UNIX, Connection
from pyqmail.tcp.access.connection_counts import ConnectionCounts
from tests.costs import lines_run


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counts(clock):
    return ConnectionCounts(60, clock)


def client(ip, uid=None):
    if uid is not None:
        return Connection(UNIX, b"unix", b"", b"/x", b"", credentials=b"7 %d 9" % uid)
    return Connection(TCP6 if b":" in ip else TCP, ip, b"4711", b"", b"25")


@pytest.fixture
def enter(counts):
    def enter(ip, uid=None):
        one = client(ip, uid)
        counts.count_in(one)
        return one

    return enter


PLACES = [
    # clients                                                     counts of the last: address, network, period
    ([b"192.0.2.1"],                                              (1, 1, 1)),
    ([b"192.0.2.1", b"192.0.2.1"],                                (2, 2, 2)),
    ([b"192.0.2.1", b"192.0.2.2"],                                (1, 2, 1)),
    ([b"192.0.2.1", b"192.0.3.1"],                                (1, 1, 1)),
    ([b"1.1.1.11", b"1.1.11.1"],                                  (1, 1, 1)),
    ([b"2001:db8::1", b"2001:db8:0:0:ffff::1"],                   (1, 2, 2)),
    ([b"2001:db8::1", b"2001:db8:0:1::1"],                        (1, 1, 1)),
    ([b"::1", b"0.0.0.1"],                                        (1, 1, 1)),
    ([b"10.0.0.1", b"3130:2e30:2e30:2e31::1"],                    (1, 1, 1)),  # the bytes of the text 10.0.0.1
]  # fmt: skip


@pytest.mark.parametrize("clients, expected", PLACES)
def test_clients_are_counted_by_address_and_network(enter, clients, expected):
    assert [enter(ip) for ip in clients][-1].counts == expected


def test_unix_clients_are_counted_by_uid(enter):
    assert [enter(b"", uid).counts for uid in (1, 2, 1)] == [(1, 1, 1), (1, 1, 1), (2, 2, 2)]


def test_who_leaves_is_counted_out_but_not_of_the_period(enter, counts):
    first, second = enter(b"192.0.2.1"), enter(b"192.0.2.2")
    counts.count_out(first)
    assert enter(b"192.0.2.1").counts == (1, 2, 2)
    counts.count_out(second)
    assert enter(b"192.0.2.9").counts == (1, 2, 1)


def test_a_period_begins_with_a_first_connection_and_another_after_its_end(enter, clock):
    assert enter(b"192.0.2.1").counts[2] == 1
    clock.now += 59.9
    assert enter(b"192.0.2.1").counts[2] == 2
    clock.now += 0.1
    assert enter(b"192.0.2.1").counts[2] == 1
    clock.now += 59.9
    assert enter(b"192.0.2.1").counts[2] == 2


def test_nothing_is_kept_of_clients_that_left_and_periods_that_ended(enter, counts, clock):
    for number in range(1000):
        counts.count_out(enter(b"192.0.2.%d" % (number % 250)))
        clock.now += 1
    clock.now += 60
    counts.count_out(enter(b"192.0.2.255"))
    kept = [len(value) for value in vars(counts).values() if hasattr(value, "__len__")]
    assert sorted(kept) == [0, 0, 1, 1]


def test_many_periods_that_end_together_cost_no_more_than_they_did(enter, counts, clock):
    count = 100_000
    for number in range(count):
        counts.count_out(enter(b"10.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255)))
    clock.now += 60
    # thousands of times as many if each looked at all that had ended before
    entered, lines = lines_run(lambda: enter(b"192.0.2.1"), 50 * count)
    assert entered.counts == (1, 1, 1) and lines > 0
