"""Words for people: times, and what strangers wrote."""

import pytest

from pyqmail.mail.destinations.faults.hosts import Host
from pyqmail.mail.destinations.limits.budgets import GROUP, SITE, TOTAL, UNPROVEN, Budget
from pyqmail.mail.destinations.limits.windows import Window
from pyqmail.mail.destinations.views import limit_texts, reasons


@pytest.mark.parametrize(
    "seconds, text",
    [
        (-1, "0s"),
        (0.2, "1s"),
        (119, "1m59s"),
        (7199.5, "2h00m"),
        (11100, "3h05m"),
        (187200, "2d04h"),
    ],
)
def test_durations(seconds, text):
    assert limit_texts.time_left(seconds) == text


def test_what_a_stranger_wrote_is_one_short_line():
    assert limit_texts.shown(b"421 a_b\r\n\x1b[2J\xff " + b"x" * 1000) == "421 a_b ?[2J? " + "x" * 185


@pytest.mark.parametrize(
    "name, kind, text",
    [
        (b"total", TOTAL, "total"),
        (b"unproven", UNPROVEN, "sites that have not greeted"),
        (b"@yahoo", GROUP, "@yahoo"),
        (b"x.example", GROUP, "group x.example"),
        (b"a#mx", SITE, "site a#mx"),
    ],
)
def test_names_of_budgets(name, kind, text):
    assert limit_texts.name_of(Budget(name, kind)) == text


def full(learned, ceiling=0, owner=b"@y:c=9 (line 3)"):
    budget = Budget(b"@y", GROUP, 9, owner=owner)
    budget.used, budget.learned, budget.learned_owner = 9, learned, b"421 busy"
    if ceiling:
        budget.window = Window()
        budget.window.ceiling, budget.window.greeted_at = ceiling, 0.0
    return budget


@pytest.mark.parametrize(
    "budget, text",
    [
        (full(None), "full: @y 9/9 (@y:c=9 (line 3))"),
        (full(None, owner=b""), "full: @y 9/9"),
        (full(9), "full: @y 9/9 (@y:c=9 (line 3))"),
        (full(5, 5), "full: @y 9/5 (ceiling 5: 421 busy)"),
        (full(5), "full: @y 9/5 (learned: 421 busy)"),
    ],
)
def test_the_number_that_is_used_up_is_told_with_who_set_it(budget, text):
    assert limit_texts.full_text(budget, 5.0) == text


def test_what_is_remembered_against_a_host():
    host = Host(b"mx")
    assert (reasons.host_state(None, 5.0), reasons.host_state(host, 5.0)) == ("", "")
    host.ceiling = 4
    assert reasons.host_state(host, 5.0) == "ceiling 4"
    host.off_until = 65.0
    assert reasons.host_state(host, 5.0) == "off for 1m00s more, ceiling 4"
