"""Rates: no window lets more pass than it may; what a server teaches is kept, and rises again."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.limits.rates import LOWEST_RATE, UNMEASURED, Gcra, LearnedRate

TIMES = st.lists(st.floats(0, 100), min_size=1, max_size=60).map(sorted)


@settings(max_examples=200, deadline=None)
@given(TIMES, st.sampled_from([0.1, 0.5, 3.0]), st.integers(1, 10))
def test_no_window_passes_more_than_its_burst_and_its_share(times, interval, burst):
    """gcra-window: at most B + T / I in any window of length T."""
    rate = Gcra(interval, burst)
    passed = []
    for time in times:
        while rate.is_free(time):
            rate.take(time)
            passed.append(time)
        assert rate.next_time() > time
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - start) / interval + 1e-6


@settings(max_examples=200, deadline=None)
@given(TIMES, st.sampled_from([0.25, 0.5, 4.0]), st.integers(1, 10), st.integers(1, 5))
def test_what_passes_one_by_one_passes_at_once(times, interval, burst, count):
    one, together = Gcra(interval, burst), Gcra(interval, burst)
    for time in (float(round(time)) for time in times):
        room = together.room(time)
        passed = 0
        while passed < count and one.is_free(time):
            one.take(time)
            passed += 1
        assert passed == min(count, room)
        together.take(time, passed)
        assert (one.tat, one.is_free(time)) == (together.tat, together.room(time) > 0) or not passed


def test_a_rate_that_was_never_used_is_free_at_any_time():
    rate = Gcra(10.0, 3)
    assert (rate.is_free(-1e9), rate.room(0.0), rate.next_time()) == (True, 3, float("-inf"))


# what is learned


def accept(rate, start, seconds, a_second):
    """Accept recipients evenly; return whether the rate rose meanwhile."""
    rose = [rate.accepted(start + number, a_second) for number in range(seconds)]
    return any(rose)


def test_nothing_learned_lets_everything_pass():
    rate = LearnedRate()
    accept(rate, 0, 60, 100)
    assert (rate.rate, rate.gcra.is_free(60), rate.gcra.room(60)) == (0.0, True, UNMEASURED)


def test_a_refusal_keeps_a_share_of_the_last_minute():
    rate = LearnedRate()
    accept(rate, 0, 120, 4)
    assert rate.refused(120) == 60
    assert rate.bad_rate == pytest.approx(4, rel=0.1)
    assert rate.rate == pytest.approx(0.7 * rate.bad_rate)
    assert rate.gcra.interval == pytest.approx(1 / rate.rate)
    assert rate.refused(121) == 0.0  # what was on its way says nothing new


def test_a_refusal_before_anything_passed_leaves_one_a_minute():
    rate = LearnedRate()
    rate.refused(0)
    assert (rate.rate, rate.gcra.burst) == (LOWEST_RATE, 1)


def test_pauses_double_while_the_ban_lasts_and_begin_again_later():
    """The same ban: what was measured stays."""
    rate, now, pauses = LearnedRate(), 100.0, []
    accept(rate, 40, 60, 2)
    for _ in range(9):
        pauses.append(rate.refused(now))
        now = rate.paused_until + 1
    assert pauses == [60, 120, 240, 480, 960, 1920, 3840, 7200, 7200]
    assert rate.rate == pytest.approx(1.4, rel=0.1)
    assert rate.refused(rate.paused_until + 601) == 60


def test_a_refusal_soon_after_a_pause_is_measured_by_the_time_since():
    """10 recipients in 10 s after the pause: one a second, not ten a minute."""
    rate = LearnedRate()
    accept(rate, 0, 60, 4)
    rate.refused(60)
    start = rate.paused_until
    accept(rate, start, 10, 1)
    rate.refused(start + 10)
    assert rate.rate == pytest.approx(0.7, rel=0.3)


def test_it_rises_by_a_twentieth_each_ten_minutes_that_it_holds_mail_back():
    rate = LearnedRate()
    accept(rate, 0, 60, 10)
    rate.refused(60)
    first = rate.rate
    assert not accept(rate, 200, 400, 7)
    assert accept(rate, 600, 100, 7)
    assert rate.rate == pytest.approx(1.05 * first)
    for start in range(700, 20000, 100):
        accept(rate, start, 100, 10)
    assert rate.rate == pytest.approx(0.95 * rate.bad_rate)


def test_it_does_not_rise_while_little_is_sent():
    rate = LearnedRate()
    accept(rate, 0, 60, 10)
    rate.refused(60)
    assert not accept(rate, 200, 5000, 1)


def test_after_a_clean_day_it_rises_to_what_is_written_and_goes():
    rate = LearnedRate(configured=12.0)
    accept(rate, 0, 60, 10)
    rate.refused(60)
    for start in range(86500, 100000, 100):
        accept(rate, start, 100, 15)
    assert (rate.rate, rate.bad_rate, rate.gcra.is_free(100000)) == (0.0, 0.0, True)


def test_what_was_learned_comes_back():
    rate = LearnedRate()
    rate.restore(2.0, 3.0, -5000.0)
    assert (rate.gcra.interval, rate.bad_rate) == (0.5, 3.0)
    rate.gcra.take(0.0, 10)
    assert not rate.gcra.is_free(0.0)


class Banning:
    """A server that takes 200 in any minute, and bans for 600 s who sends more; each try may begin the ban again."""

    def __init__(self, *, is_extended):
        self.is_extended, self.times, self.banned, self.bans, self.tries = is_extended, deque(), -1.0, 0, 0

    def takes(self, now):
        while self.times and now - self.times[0] >= 60:
            self.times.popleft()
        if now < self.banned:
            self.tries += 1
            self.banned = now + 600 if self.is_extended else self.banned
            return False
        if len(self.times) >= 200:
            self.bans, self.banned = self.bans + 1, now + 600
            return False
        self.times.append(now)
        return True


@pytest.mark.parametrize("is_extended, seconds", [(False, 4600), (True, 5600)])
def test_a_ban_is_met_once(is_extended, seconds):
    """Scenario 9 at this level: 10,000 recipients, ideally 3000 s and the ban."""
    rate, now, sent, server = LearnedRate(), 0.0, 0, Banning(is_extended=is_extended)
    while sent < 10000:
        now = max(now + 0.05, rate.gcra.next_time(), rate.paused_until)
        rate.gcra.take(now)
        if server.takes(now):
            sent += 1
            rate.accepted(now)
        else:
            rate.refused(now)
    assert (server.bans, server.tries <= 4) == (1, True)
    assert now <= seconds
