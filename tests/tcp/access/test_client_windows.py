"""Windows beside an oracle that keeps every event; memory; floods.  The time is given."""

import random
import tracemalloc

import pytest

from pyqmail.tcp.access.client_windows import BUCKETS, MAX_BUCKETS, MAX_TABLES, SHARED_PLACES, ClientWindows

SECOND = 10**9
PATTERNS = 1000


class Oracle:
    """All events that were admitted, with their times in nanoseconds: what the definition says of the next."""

    def __init__(self, limit, period):
        self.limit, self.period, self.times = limit, period * SECOND, []

    def allows(self, now, is_admitted):
        """Return whether the answer at this time is one that the definition allows."""
        if is_admitted:
            self.times.append(now)
            return sum(when >= now - self.period for when in self.times) <= self.limit
        return sum((now - when) * BUCKETS <= self.period * (BUCKETS + 1) for when in self.times) >= self.limit


def pattern(seed):
    """Return (limit, period in seconds, times in nanoseconds): bursts, steady ones, silences, at a limit's edge."""
    chance = random.Random(seed)
    limit, period = chance.choice([1, 2, 3, 7, 20, 61, 100]), chance.choice([1, 2, 7, 59, 60, 61, 3600, 86400])
    now, times = chance.randrange(10**15), []
    for _ in range(chance.randrange(20, 150)):
        now += int(period * SECOND * chance.choice([0, 0, 1e-9, 0.5 / limit, 1 / limit, 1 / 60, 1, 61 / 60, 3])
                   * chance.choice([1, 1, chance.random()]))  # fmt: skip
        times.append(now)
    return limit, period, times


def test_answers_are_those_of_the_definition():
    for seed in range(PATTERNS):
        limit, period, times = pattern(seed)
        windows, oracle = ClientWindows(), Oracle(limit, period)
        for now in times:
            assert oracle.allows(now, windows.admit("x", b"192.0.2.1", limit, period, now)), seed


def test_answers_stay_within_the_definition_while_others_come_and_go():
    windows, chance, now = ClientWindows(), random.Random(1), 0
    oracles = [Oracle(5, 60) for _ in range(20)]
    for _ in range(20_000):
        now += chance.randrange(SECOND // 2)
        one = chance.randrange(20)
        assert oracles[one].allows(now, windows.admit("x", one, 5, 60, now))


def test_a_client_that_comes_at_the_very_limit_for_an_hour_is_never_refused():
    windows, limit, period = ClientWindows(), 20, 60
    step = period * SECOND * (BUCKETS + 1) // BUCKETS // limit + 1
    assert all(windows.admit("x", b"a", limit, period, now) for now in range(0, 3600 * SECOND, step))


def test_a_client_that_never_stops_gets_its_limit_and_no_more():
    windows = ClientWindows()
    admitted = sum(windows.admit("x", b"a", 20, 60, now) for now in range(0, 3600 * SECOND, SECOND // 10))
    assert 59 * 20 <= admitted <= 60 * 20


def test_names_and_periods_are_counted_apart_and_a_limit_may_change():
    windows = ClientWindows()
    assert windows.admit("x", b"a", 1, 60, 0) and not windows.admit("x", b"a", 1, 60, 1)
    assert windows.admit("y", b"a", 1, 60, 1) and windows.admit("x", b"b", 1, 60, 1)
    assert windows.admit("x", b"a", 2, 60, 2) and not windows.admit("x", b"a", 2, 60, 3)
    assert not windows.admit("x", b"a", 1, 60, 4)
    assert windows.admit("x", b"a", 1, 61, 5)


def test_nothing_is_kept_of_what_no_period_reaches():
    windows = ClientWindows()
    for now in range(0, 10_000 * SECOND, 7 * SECOND):
        windows.admit("x", now, 5, 60, now)
        assert len(windows) <= 2 * 61 // 7 + 2
    windows.forget_old(20_000 * SECOND)
    assert len(windows) == 0


def test_a_flood_of_clients_pushes_nobody_out_and_has_a_bound():
    windows = ClientWindows(max_buckets=1000)
    assert [windows.admit("x", b"good", 2, 60, 0) for _ in range(3)] == [True, True, False]
    for number in range(20_000):
        windows.admit("x", b"%d" % number, 1, 60, SECOND)
    assert len(windows) <= 1000 + SHARED_PLACES
    assert not windows.admit("x", b"good", 2, 60, 2 * SECOND)
    windows.forget_old(200 * SECOND)
    assert len(windows) == 0 and windows.admit("x", b"late", 1, 60, 200 * SECOND)


def test_who_comes_when_there_is_no_room_gets_no_more_than_its_limit():
    windows = ClientWindows(max_buckets=0)
    oracle = Oracle(3, 60)
    for now in range(0, 300 * SECOND, SECOND):
        if windows.admit("x", b"a", 3, 60, now):
            assert oracle.allows(now, True)
    assert 9 <= len(oracle.times) <= 15 and len(windows) <= 1


def test_there_are_so_many_tables_and_no_more():
    windows = ClientWindows()
    for period in range(1, 10 * MAX_TABLES):
        windows.admit("x", b"a", 1, period, 0)
    assert len(windows) == MAX_TABLES


@pytest.mark.parametrize("count, limit_bytes", [(100_000, 20 << 20)])
def test_so_many_addresses_with_one_event_each_have_so_many_bytes(count, limit_bytes):
    assert count <= MAX_BUCKETS
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        windows = ClientWindows()
        for number in range(count):
            place = b"10.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255)
            assert windows.admit("clientrate", place, 10, 60, SECOND * 60 * number // count)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(windows) == count and used <= limit_bytes, used
