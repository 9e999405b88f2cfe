"""One budget: what makes it free, when time alone may, and what its rates and pauses do."""

import math

import pytest

from pyqmail.mail.destinations.limits.budgets import SITE, TOTAL, UNLIMITED, Budget, Pause, SharedBudget
from pyqmail.mail.destinations.limits.rates import Gcra, WrittenRate
from pyqmail.mail.destinations.limits.windows import Window


@pytest.mark.parametrize(
    "limit, learned, cap", [(10, None, 10), (10, 3, 3), (10, 12, 10), (UNLIMITED, None, UNLIMITED), (10, 0, 0)]
)
def test_the_cap_is_the_smaller_of_both(limit, learned, cap):
    budget = Budget(b"a", SITE)
    budget.limit = limit
    budget.learned = learned
    assert (budget.cap, budget.limit, budget.learned) == (cap, limit, learned)
    budget.learned = None
    assert budget.cap == limit


def test_it_is_free_while_units_are_left():
    budget = Budget(b"a", SITE, 2)
    budget.take(0.0)
    assert (budget.is_free(0.0), budget.free_time(0.0)) == (True, -math.inf)
    budget.take(0.0)
    assert (budget.is_free(0.0), budget.free_time(0.0)) == (False, math.inf)


def test_a_pause_is_only_ever_extended():
    budget = Budget(b"a", SITE, 2)
    assert budget.pause(Pause(10.0, b"reputation", b"421 busy"))
    assert not budget.pause(Pause(5.0, b"other"))
    assert (budget.is_free(9.0), budget.is_free(10.0), budget.free_time(0.0)) == (False, True, 10.0)
    assert (budget.pause_reason, budget.pause_text) == (b"reputation", b"421 busy")
    budget.lift()
    assert (budget.is_free(0.0), budget.pause_reason) == (True, b"")


def test_a_pause_that_ends_leaves_the_rate():
    budget = Budget(b"a", SITE, 9, connect_rates=(Gcra(100.0, 1),))
    budget.take(0.0)
    budget.pause(Pause(500.0, b"test"))
    budget.lift()
    assert budget.free_time(0.0) == 100.0


def test_a_session_passes_the_rates_of_sessions_and_a_recipient_those_of_recipients():
    budget = Budget(b"a", SITE, 9, connect_rates=(Gcra(1.0, 2),), recipient_rates=(Gcra(1.0, 10), Gcra(60.0, 5)))
    assert budget.recipients_allowed(0.0) == 5
    budget.take(0.0)
    assert (budget.is_free(0.0), budget.recipients_allowed(0.0)) == (True, 5)
    budget.take(0.0)
    assert (budget.is_free(0.0), budget.is_free(1.0)) == (False, True)
    budget.send(5, 1.0)
    assert (budget.recipients_allowed(1.0), budget.is_free(1.0), budget.free_time(1.0)) == (0, False, 61.0)
    assert Budget(b"b", SITE).recipients_allowed(0.0) == UNLIMITED


def test_a_written_rate_is_shared_until_something_passes():
    written = WrittenRate(1.0, 1)
    one, other = Budget(b"a", SITE, 9, connect_rates=(written,)), Budget(b"b", SITE, 9, connect_rates=(written,))
    one.take(5.0)
    assert (one.is_free(5.0), other.is_free(5.0), other.connect_rates) == (False, True, (written,))
    one.take(6.0)
    assert one.free_time(6.0) == 7.0


def test_a_written_rate_of_recipients_is_one_until_something_passes():
    written = WrittenRate(1.0, 3)
    budget = Budget(b"a", SITE, 9, recipient_rates=(written,))
    assert budget.recipients_allowed(0.0) == 3
    budget.send(2, 0.0)
    assert (budget.recipients_allowed(0.0), written.room(0.0)) == (1, 3)


def test_time_frees_a_budget_whose_ceiling_may_be_tried_again():
    budget = Budget(b"a", SITE, 10)
    budget.window = window = Window()
    window.greeted(0.0, 0, 10)
    window.refused(0.0, 1, None)
    budget.refresh(0.0)
    budget.take(0.0)
    assert (budget.is_free(0.0), budget.free_time(0.0)) == (False, 600.0)
    budget.refresh(600.0)
    assert budget.is_free(600.0)


@pytest.mark.parametrize("total, shared", [(1, 0), (2, 1), (9, 8), (10, 9), (20, 18), (100, 90), (2000, 1800)])
def test_a_tenth_of_the_total_is_for_who_has_no_session(total, shared):
    budget = Budget(b"total", TOTAL, 7)
    other = SharedBudget(budget)
    budget.limit = total
    assert other.cap == shared
