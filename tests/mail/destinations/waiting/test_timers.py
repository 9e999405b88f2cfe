"""Dates that no wheel has room for: the date of the machine was wrong once, or the lifetime has no end."""

import random

import pytest

from pyqmail.mail.destinations.engine import Engine
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.sites import last_two_labels
from pyqmail.mail.destinations.waiting.timers import LAST_SECOND, Clock

DATE = 1_795_910_400.0


@pytest.mark.parametrize("date, second", [(DATE + 60, 60), (DATE + 1e12, LAST_SECOND), (0.0, 0), (-1e12, 0)])
def test_the_second_of_a_date(date, second):
    assert Clock(0.0, DATE).second_of_date(date, 0.0) == second


@pytest.mark.parametrize("birth", [0, int(DATE), int(DATE) + 10**10])
@pytest.mark.parametrize("lifetime", [604800, (1 << 32) - 1])
def test_a_message_of_another_century_is_taken_like_any_other(birth, lifetime):
    engine = Engine(
        *(10, RuleSet.of_text(b"")),
        registrable=last_two_labels,
        random=random.Random(1),
        now=0.0,
        date=DATE,
        lifetime=lifetime,
        timeouts=(60.0, 60.0, 60.0),
    )
    engine.arrived(1, b"s.example", 100, birth, [(0, b"a.example")], now=0.0)
    engine.advance(DATE, 0.0)
    assert ("resolve", b"a.example") in [order[:2] for order in engine.take_orders()] or birth == 0
    assert engine.next_time() is not None or not engine.waiting_count
