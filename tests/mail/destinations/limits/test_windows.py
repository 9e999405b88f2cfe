"""The window of a door: how it opens, its ceiling, deaths; and the figures of same-server and breathing-limit."""

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.limits.states import CAPPED, DEAD, OPEN_SITE, UNPROVEN_SITE, rows, state_of
from pyqmail.mail.destinations.limits.windows import DAY, Window

FAR = float("inf")


def dice():
    return random.Random(1)


def opened(now=0.0, **words):
    window = Window(**words)
    window.greeted(now, 0, 100)
    return window


def test_one_session_until_the_first_greeting():
    window = Window(initial=5)
    assert (window.allowed(0.0), window.is_unproven(0.0)) == (1, True)
    assert window.greeted(0.0, 0, 100)
    assert (window.allowed(0.0), window.is_unproven(0.0)) == (5, False)


def test_it_opens_only_while_all_of_it_is_used():
    window = opened()
    assert [window.accepted(0.0, 1, 100) for _ in range(9)] == [False] * 9
    assert [window.accepted(0.0, 2, 100) for _ in range(2)] == [False, True]
    assert window.allowed(0.0) == 3


def test_it_never_opens_beyond_the_limit():
    window = opened()
    for _ in range(100):
        window.accepted(0.0, window.allowed(0.0), 7)
    assert window.allowed(0.0) == 7


def test_a_refusal_with_others_up_is_the_ceiling():
    window = opened()
    assert window.refused(10.0, 5, dice()) is None
    assert (window.allowed(10.0), window.next_time(10.0)) == (5, 610.0)
    assert (window.allowed(610.0), window.next_time(610.0)) == (6, FAR)


def test_the_same_number_again_closes_it_twice_as_long_up_to_two_hours():
    window, now, closed = opened(), 0.0, []
    for _ in range(6):
        window.refused(now, 5, dice())
        closed.append(window.closed_until - now)
        window.refused(now + 1, 5, dice())  # was on its way: says nothing new
        now = window.closed_until
    assert closed == [600, 1200, 2400, 4800, 7200, 7200]
    window.refused(now, 4, dice())
    assert window.closed_until - now == 600


def test_a_higher_number_that_is_greeted_raises_the_ceiling_in_doubling_steps():
    window = opened()
    window.refused(0.0, 5, dice())
    now, seen = 600.0, []
    for _ in range(4):
        assert window.greeted(now, window.allowed(now) - 1, 100)
        seen.append((window.ceiling, window.closed_until - now))
        now = window.closed_until
    assert seen == [(6, 60), (8, 60), (12, 60), (20, 60)]


def test_a_ceiling_at_the_limit_is_forgotten():
    window = opened()
    window.refused(0.0, 9, dice())
    window.greeted(600.0, 9, 10)
    assert (window.ceiling, window.allowed(600.0) >= 10) == (0, True)


def test_sessions_on_their_way_that_are_greeted_correct_the_ceiling():
    """20 were opened at once: the first refusal comes before the others are greeted."""
    window = opened(initial=20)
    window.refused(0.0, 1, dice())
    for up in range(1, 5):
        window.greeted(0.1, up, 20)
    for _ in range(14):
        window.refused(0.2, 5, dice())
    assert (window.ceiling, window.closed_seconds) == (5, 600)


def test_the_floor_holds():
    window = opened(floor=3)
    window.refused(0.0, 1, dice())
    assert window.allowed(0.0) == 3


def test_refused_with_none_up_is_a_pause_and_no_death():
    window, now, waits = opened(), 0.0, []
    for _ in range(8):
        pause = window.refused(now, 0, dice())
        assert window.refused(now + 1, 0, dice()) is None
        waits.append(pause.until - now)
        now = pause.until
    nominal = [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert [a <= b <= 1.1 * a for a, b in zip(nominal, waits, strict=True)] == [True] * 8
    assert (window.dead_since, window.allowed(now)) == (None, 2)
    window.greeted(now, 0, 10)
    assert window.refused(now, 0, dice()).until - now <= 66


@pytest.mark.parametrize("is_proven, dead_after, failures", [(True, 3, 3), (False, 3, 1), (True, 5, 5), (False, 1, 1)])
def test_dead_after_so_many_starts(is_proven, dead_after, failures):
    window = opened(dead_after=dead_after) if is_proven else Window(dead_after=dead_after)
    for _ in range(failures - 1):
        assert window.failed(1.0, 0, dice()) is None
    pause = window.failed(1.0, 0, dice())
    assert 54 <= pause.until - 1.0 <= 66
    assert (window.dead_since, window.allowed(pause.until)) == (1.0, 1)


@pytest.mark.parametrize("is_proven", [True, False])
def test_dead_0_is_never(is_proven):
    window = opened(dead_after=0) if is_proven else Window(dead_after=0)
    assert [window.failed(float(now), 0, dice()) for now in range(50)] == [None] * 50


def test_a_failure_while_others_are_up_counts_for_nothing():
    window = opened()
    assert [window.failed(1.0, 1, dice()) for _ in range(9)] == [None] * 9
    assert window.failures == 0


def test_probes_come_later_and_later_and_a_greeting_begins_anew():
    window, now, waits = opened(), 1.0, []
    window.size = 50.0
    window.failed(now, 0, dice())
    window.failed(now, 0, dice())
    for _ in range(7):
        pause = window.failed(now, 0, dice())
        assert window.failed(now + 1, 0, dice()) is None
        waits.append(pause.until - now)
        now = pause.until
    nominal = [60, 120, 240, 480, 960, 1800, 1800]
    assert [0.9 * a <= b <= 1.1 * a for a, b in zip(nominal, waits, strict=True)] == [True] * 7
    assert window.greeted(now, 0, 100)
    assert (window.dead_since, window.allowed(now)) == (None, 2)
    window.answered()
    assert (window.failures, window.probes) == (0, 0)


def test_a_server_that_greets_and_hangs_up_is_dead_after_three_and_later_probes():
    """greets-and-closes"""
    window, waits, now = Window(), [], 0.0
    for _ in range(5):
        window.greeted(now, 0, 10)
        pause = window.failed(now, 0, dice())
        waits.append(round((pause.until - now) / 60) if pause else 0)
        now = pause.until if pause else now + 1
    assert waits == [0, 0, 1, 2, 4]


def test_what_was_our_own_fault_is_taken_back():
    window = opened()
    for now in (1.0, 2.0, 3.0):
        window.failed(now, 0, dice())
    assert not window.forgive(3.5)
    assert window.forgive(0.5)
    assert (window.dead_since, window.failures, window.allowed(4.0)) == (None, 0, 2)


def test_a_death_before_our_own_trouble_stays_but_its_probe_is_forgotten():
    window = opened()
    for now in (1.0, 2.0, 3.0):
        pause = window.failed(now, 0, dice())
    window.failed(pause.until, 0, dice())
    assert not window.forgive(pause.until - 1)
    assert (window.dead_since, window.probes) == (3.0, 1)


def test_after_a_day_without_a_greeting_one_session_and_a_small_window():
    window = opened()
    window.size = 50.0
    window.refused(0.0, 40, dice())
    assert window.allowed(DAY + 1.0) == 1
    window.greeted(DAY + 1.0, 0, 100)
    assert (window.allowed(DAY + 1.0), window.ceiling) == (4, 40)


EVENTS = st.tuples(
    st.sampled_from(["greeted", "accepted", "answered", "refused", "failed", "forgive"]),
    st.integers(0, 12),
    st.integers(0, 4000),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.integers(1, 20), st.integers(1, 6), st.integers(1, 4))
def test_whatever_happens_it_lets_something_through_and_stays_within_its_ceiling(events, limit, initial, floor):
    window, now, random_numbers = Window(min(initial, limit), floor), 0.0, dice()
    for event, number, seconds in events:
        now += seconds
        if event == "greeted":
            window.greeted(now, number, limit)
        elif event == "accepted":
            window.accepted(now, number, limit)
        elif event == "answered":
            window.answered()
        elif event == "forgive":
            window.forgive(now - number)
        else:
            pause = getattr(window, event)(now, number, random_numbers)
            assert pause is None or now < pause.until <= now + 1.1 * 3600
        allowed, later = window.allowed(now), window.next_time(now)
        assert allowed >= 1
        if window.ceiling:
            assert allowed <= window.ceiling + 1
            assert window.ceiling >= min(floor, window.ceiling)
        if later < FAR:
            assert later > now
            assert window.allowed(later) >= allowed
        assert state_of(window.facts(now)) in (UNPROVEN_SITE, OPEN_SITE, CAPPED, DEAD)


def test_the_state_that_is_shown_is_the_first_that_holds():
    assert state_of(()) == OPEN_SITE
    assert state_of(("capped", "paused")) == "paused"
    assert state_of(opened().facts(1.0)) == OPEN_SITE
    assert state_of(Window().facts(1.0)) == UNPROVEN_SITE
    assert [row[0] for row in rows()][-1] == OPEN_SITE
    assert all(all(row) for row in rows())


# against a server that takes so many sessions


class Server:
    """Always work, or so many deliveries; sessions of `batch` deliveries; the server takes `takes(now)` sessions."""

    def __init__(self, window, takes, limit=20, *, seconds=2.0, batch=10, work=None):
        self.window, self.takes, self.limit, self.seconds, self.batch = window, takes, limit, seconds, batch
        self.work = work
        self.up = self.refusals = self.delivered = self.started = 0
        self.paused, self.events, self.number, self.dice = -1.0, [], 0, dice()
        self.refused_at, self.by_hour = [], {}

    def run(self, until):
        now = 0.0
        while now < until and (self.work is None or self.delivered < self.work):
            self.open(now)
            if not self.events:
                now = min(until, max(self.paused, self.window.next_time(now)))
                continue
            now, _, left = heapq.heappop(self.events)
            if left >= 0:
                self.deliver(now, left)
        return now

    def open(self, now):
        while now >= self.paused and self.up < min(self.limit, self.window.allowed(now)) and self.has_work():
            if self.up >= self.takes(now):
                self.refusals += 1
                self.refused_at.append(now)
                pause = self.window.refused(now, self.up, self.dice)
                self.paused = pause.until if pause else self.paused
                self.push(self.window.next_time(now), -1)
                continue
            self.window.greeted(now, self.up, self.limit)
            self.up += 1
            self.begin(now, self.batch)
        self.push(self.window.next_time(now), -1)

    def has_work(self):
        return self.work is None or self.started < self.work

    def begin(self, now, left):
        self.started += 1
        self.push(now + self.seconds, left - 1)

    def push(self, time, left):
        if time < FAR:
            self.number += 1
            heapq.heappush(self.events, (time, self.number, left))

    def deliver(self, now, left):
        self.delivered += 1
        self.by_hour[int(now // 3600)] = self.by_hour.get(int(now // 3600), 0) + 1
        self.window.accepted(now, self.up, self.limit)
        if left and self.has_work() and self.up <= self.takes(now):
            self.begin(now, left)
        else:
            self.up -= 1


@pytest.mark.parametrize("initial, refusals", [(2, 1), (5, 2), (20, 15)])
def test_a_server_that_takes_five_is_found_out_once(initial, refusals):
    """same-server: 1000 deliveries of 2 s; ideal 400 s."""
    server = Server(Window(initial), lambda now: 5, work=1000)
    end = server.run(10000.0)
    assert server.refusals <= refusals
    assert end <= 410


def test_a_limit_that_breathes_costs_few_refusals():
    """breathing-limit: 10, 3 from hour 8 to 16, 10 again; at most 30 refusals a day, full again 2 h 15 min after."""
    server = Server(Window(), lambda now: 3 if 8 <= now / 3600 < 16 else 10, limit=20)
    server.run(86400.0)
    assert server.refusals <= 30
    possible = 3600 / 2.0
    for hour in (*range(1, 8), *range(19, 24)):
        assert server.by_hour[hour] >= 0.95 * 10 * possible
    for hour in range(9, 16):
        assert server.by_hour[hour] >= 0.95 * 3 * possible


def test_a_window_that_budgets_share_is_left_as_it_is_by_who_learns():
    shared = Window(initial=3, floor=2, dead_after=4)
    assert shared.own() is shared
    shared.is_shared = True
    own = shared.own()
    assert (own.initial, own.floor, own.dead_after, own.is_shared) == (3, 2, 4, False)
    own.greeted(0.0, 0, 100)
    assert (own.allowed(0.0), shared.allowed(0.0)) == (3, 1)
