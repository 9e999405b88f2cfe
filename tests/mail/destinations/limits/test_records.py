"""What a budget has learned survives a restart, when the monotonic clock begins again."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.limits.budgets import SITE, Budget, Pause
from pyqmail.mail.destinations.limits.rates import LearnedRate
from pyqmail.mail.destinations.limits.records import budget_record, restore_budget
from pyqmail.mail.destinations.limits.windows import Window
from pyqmail.mail.destinations.state_file import State, read, write

KEY = (b"site", b"0f3a", b"")
DATE = 1764523000
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["greeted", "accepted", "refused", "failed", "pause", "rate"]),
        st.integers(0, 12),
        st.integers(0, 4000),
    ),
    max_size=30,
)


def live(events):
    """A budget after some events; returns it, its rate, and the time."""
    budget, rate, now, dice = Budget(b"a#mx", SITE, 20), LearnedRate(), 5000.0, random.Random(1)
    budget.window = window = Window()
    for event, number, seconds in events:
        now += seconds
        pause = None
        if event == "greeted":
            window.greeted(now, number, 20)
        elif event == "accepted":
            window.accepted(now, number, 20)
            rate.accepted(now, number)
        elif event == "rate":
            rate.refused(now)
        elif event == "pause":
            pause = Pause(now + 60 * number, b"reputation", b"421 busy")
        else:
            pause = getattr(window, event)(now, number, dice)
        if pause is not None:
            budget.pause(pause)
    budget.refresh(now)
    return budget, rate, now


def seen(budget, now):
    """What a budget lets happen from now on."""
    window = budget.window
    times = [now + seconds for seconds in (0, 50, 600, 3000, 8000)]
    return (
        [window.allowed(time) for time in times],
        [window.facts(time) for time in times],
        round(max(0, budget.paused_until - now)),
        budget.pause_reason if budget.paused_until > now else b"",
    )


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.integers(0, 5000))
def test_a_restart_forgets_nothing(events, down):
    budget, rate, now = live(events)
    state = State(DATE)
    record = budget_record(KEY, budget, rate, now, DATE)
    if record is not None:
        state.add(record)
    again, reason = read(write(state), DATE + down)
    assert reason == ""
    fresh, fresh_rate = Budget(b"a#mx", SITE, 20), LearnedRate()
    fresh.window = Window()
    for one in again.budgets:
        restore_budget(fresh, fresh_rate, one, 7.0, DATE + down)
    assert seen(fresh, 7.0) == seen(budget, now + down)
    assert fresh_rate.rate == pytest.approx(rate.rate, abs=1e-5)


def test_a_budget_that_learned_nothing_has_no_record():
    budget = Budget(b"a", SITE, 20)
    assert budget_record(KEY, budget, None, 5.0, DATE) is None
    budget.window = Window()
    assert budget_record(KEY, budget, LearnedRate(), 5.0, DATE) is None


def test_a_cap_without_a_window_comes_back_with_its_owner():
    budget, fresh = Budget(b"a", SITE, 20), Budget(b"a", SITE, 20)
    budget.learned, budget.learned_owner = 7, b"421 too many"
    restore_budget(fresh, None, budget_record(KEY, budget, None, 5.0, DATE), 1.0, DATE + 9)
    assert (fresh.cap, fresh.learned_owner) == (7, b"421 too many")
