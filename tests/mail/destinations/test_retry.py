"""Retry times to the second."""

import random

import pytest

from pyqmail.mail.destinations.retry import LOCAL_CONSTANT, REMOTE_CONSTANT, next_date, retry_time
from pyqmail.mail.destinations.rules.policies import Retry

BIRTH = 1_700_000_000


@pytest.mark.parametrize(
    "constant, ages",
    [
        (REMOTE_CONSTANT, [0, 400, 1600, 3600, 6400, 10000, 14400]),
        (LOCAL_CONSTANT, [0, 100, 400, 900, 1600, 2500]),
    ],
)
def test_attempts_at_the_original_ages(constant, ages):
    now = BIRTH
    for age in ages[1:]:
        now = retry_time(BIRTH, now, constant)
        assert now - BIRTH == age


@pytest.mark.parametrize("constant, count, last", [(REMOTE_CONSTANT, 40, 608400), (LOCAL_CONSTANT, 79, 608400)])
def test_attempts_in_a_lifetime(constant, count, last):
    ages = [0]
    while ages[-1] <= 604800:
        ages.append(retry_time(0, ages[-1], constant))
    assert (len(ages), ages[-1]) == (count, last)


@pytest.mark.parametrize(
    "birth, now, due",
    [
        (BIRTH, BIRTH - 50, BIRTH + 400),  # a birth to come
        (BIRTH, BIRTH + 399, BIRTH + 39**2),  # not quite 20 squared
        (0, 65536**2 + 5, (65535 + 20) ** 2),  # sixteen bits
    ],
)
def test_retry_time(birth, now, due):
    assert retry_time(birth, now, REMOTE_CONSTANT) == due


WRITTEN = [
    # try=                                   the attempts after which it waits, and how long at least
    (Retry((300.0,), 2.0, 4000.0), [(1, 300), (2, 600), (3, 1200), (4, 2400), (5, 4000), (6, 4000), (500, 4000)]),
    (Retry((60.0, 300.0, 3600.0)), [(1, 60), (2, 300), (3, 3600), (4, 3600), (99, 3600)]),
    (Retry((1800.0,)), [(1, 1800), (2, 1800)]),
]


@pytest.mark.parametrize("retry, waits", WRITTEN)
def test_a_written_time_counts_from_the_end_of_the_attempt_and_is_spread(retry, waits):
    chance = random.Random(1)
    for tries, seconds in waits:
        dates = [next_date(retry, BIRTH, tries, BIRTH + 5000.5, REMOTE_CONSTANT, chance) for _ in range(200)]
        assert BIRTH + 5000.5 + seconds <= min(dates) < max(dates) <= BIRTH + 5000.5 + seconds * 1.05
        assert len(set(dates)) > 100


def test_without_one_it_is_the_formula_to_the_second():
    chance = random.Random(1)
    for age, due in ((0, 400), (400.9, 1600), (1599.9, 1600 - 1600 + 59**2), (-50, 400)):
        assert next_date(None, BIRTH, 7, BIRTH + age, REMOTE_CONSTANT, chance) == BIRTH + due
