"""Warm-up: what a day allows, that it is counted once, and what a restart remembers."""

import pytest

from pyqmail.mail.destinations import state_file
from pyqmail.mail.destinations.rules.policies import PoolMember
from pyqmail.mail.destinations.sources.pools import WARM_UP_DAYS
from pyqmail.mail.destinations.sources.warm_up import WarmUps, budget_of_day, day_of

FROM = 1_800_000_000.0
DAY = 86_400
WARM, PLAIN = PoolMember(b"192.0.2.9", warm_from=FROM), PoolMember(b"192.0.2.1")
DAYS = [
    # day  recipients
    (-1,   0),
    (0,    200),
    (1,    300),
    (2,    450),
    (9,    7_688),
    (19,   443_367),
]  # fmt: skip


@pytest.mark.parametrize("day, recipients", DAYS)
def test_a_day_allows_half_as_many_again_as_the_one_before(day, recipients):
    assert budget_of_day(day) == recipients
    assert WarmUps().left(WARM, b"a.example", FROM + day * DAY) == recipients


def test_days_begin_with_the_date_that_is_written_and_end():
    dates = [FROM - 1, FROM, FROM + DAY - 1, FROM + DAY, FROM + WARM_UP_DAYS * DAY - 1, FROM + WARM_UP_DAYS * DAY]
    assert [day_of(WARM, date) for date in dates] == [-1, 0, 0, 1, WARM_UP_DAYS - 1, None]
    assert day_of(PLAIN, FROM) is None


def test_each_organisation_has_its_own_budget_each_day():
    warm_ups = WarmUps()
    assert not warm_ups.take(WARM, b"a.example", 1, FROM - 1)
    assert all(warm_ups.take(WARM, b"a.example", 20, FROM) for _ in range(10))
    assert not warm_ups.take(WARM, b"a.example", 1, FROM)
    assert warm_ups.take(WARM, b"b.example", 200, FROM)
    assert warm_ups.take(WARM, b"a.example", 300, FROM + DAY) and not warm_ups.take(WARM, b"a.example", 1, FROM + DAY)
    assert all(warm_ups.take(WARM, b"a.example", 10**7, FROM + WARM_UP_DAYS * DAY) for _ in range(9))


def test_what_does_not_fit_leaves_room_for_what_does():
    warm_ups = WarmUps()
    assert not warm_ups.take(WARM, b"a.example", 201, FROM)
    assert warm_ups.take(WARM, b"a.example", 150, FROM) and not warm_ups.take(WARM, b"a.example", 51, FROM)
    assert warm_ups.left(WARM, b"a.example", FROM) == 50


def restarted(warm_ups, date):
    """Return what the next process has, by way of the state file."""
    state = state_file.State(date)
    state.warm_ups = warm_ups.records(date)
    again = WarmUps()
    again.restore(state_file.read(state_file.write(state), date)[0].warm_ups)
    return again


def test_counts_survive_a_restart():
    warm_ups = WarmUps()
    warm_ups.take(WARM, b"a.example", 180, FROM + 10)
    again = restarted(warm_ups, FROM + 20)
    assert again.left(WARM, b"a.example", FROM + 20) == 20 and not again.take(WARM, b"a.example", 21, FROM + 20)


def test_after_a_restart_mail_that_was_tried_finds_its_source_and_no_more_than_that():
    warm_ups = WarmUps()
    warm_ups.take(WARM, b"a.example", 200, FROM + 1000)
    again = restarted(warm_ups, FROM + 2000)
    assert not again.claim(WARM, b"a.example", 1, FROM - 50, FROM + 2000)  # born before the warm-up
    assert not again.claim(WARM, b"a.example", 1, FROM + 1500, FROM + 2000)  # when the day was full
    assert again.claim(WARM, b"a.example", 150, FROM + 500, FROM + 2000)
    assert not again.claim(WARM, b"a.example", 51, FROM + 500, FROM + 2000)  # as many as were counted
    assert again.claim(WARM, b"a.example", 50, FROM + 500, FROM + DAY + 1)
    assert not again.claim(WARM, b"b.example", 1, FROM + 500, FROM + 2000)  # nothing is known of it
    assert again.left(WARM, b"a.example", FROM + 2000) == 0


def test_old_days_are_forgotten_and_nonsense_is_not_taken():
    warm_ups = WarmUps()
    warm_ups.take(WARM, b"a.example", 1, FROM)
    assert warm_ups.records(FROM + 9 * DAY) == []
    bad = state_file.WarmUpRecord(b"192.0.2.9", b"a.example", b"-1")
    warm_ups.restore([bad])
    assert warm_ups.records(FROM) == []
