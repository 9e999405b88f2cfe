"""It is us: when many are silent at once, how it is tested, and what is no sign of it."""

import random

import pytest

from pyqmail.mail.destinations.faults.network import FROZEN, OK, SUSPECT, NetworkGuard


def org(number):
    return b"org%d.example" % number


def alive(guard, count, now):
    for number in range(count):
        guard.answered(org(number), now)


def silence(guard, numbers, now, step=0.0):
    """Let organisations be silent one after the other; return the states."""
    return [guard.failed(org(number), now + step * place) for place, number in enumerate(numbers)]


def test_twenty_organisations_within_15_seconds():
    guard = NetworkGuard()
    alive(guard, 100, 0.0)
    assert silence(guard, range(19), 100.0, 0.5) == [OK] * 19
    assert silence(guard, [18, 18, 5], 110.0) == [OK] * 3  # the same ones again
    assert silence(guard, [50], 111.0) == [SUSPECT] and guard.since == 111.0
    assert guard.log_lines() == [b"network: suspected: 20 organisations silent in 15"] and guard.log_lines() == []


NO_SIGNS = [
    # silent ones, seconds between two, how many others answer meanwhile
    (60, 1.0, 0),  # never 20 within 15 s
    (40, 0.1, 3),
    (400, 0.01, 30),  # a mailing of which most is dead
]


@pytest.mark.parametrize("count, step, answers", NO_SIGNS)
def test_what_is_no_sign(count, step, answers):
    guard = NetworkGuard()
    alive(guard, 100, 0.0)
    for number in range(answers):
        guard.answered(org(1000 + number), 99.0)
    assert set(silence(guard, range(2000, 2000 + count), 100.0, step)) == {OK}


def late(guard, numbers, now):
    """Let session starts wait longer than is usual; return the states."""
    return [guard.waits(org(number), now) for number in numbers]


def test_twenty_that_were_alive_and_keep_us_waiting():
    guard = NetworkGuard()
    alive(guard, 100, 97.0)
    assert late(guard, range(19), 100.0) == [OK] * 19
    assert late(guard, [18, 200, 201], 100.0) == [OK] * 3  # the same one again; strangers
    assert late(guard, [19], 100.5) == [SUSPECT]


def test_who_is_slow_while_others_answer_is_no_sign():
    guard = NetworkGuard()
    alive(guard, 100, 97.0)
    alive(guard, 3, 98.5)
    assert set(late(guard, range(3, 30), 100.0)) == {OK}


def test_who_was_slow_and_answers_is_no_sign_any_more():
    guard = NetworkGuard()
    alive(guard, 100, 90.0)
    late(guard, range(15), 100.0)
    alive(guard, 15, 100.1)
    assert set(late(guard, range(15, 34), 103.0)) == {OK}


def test_an_organisation_that_was_alive_two_hours_ago_may_be_slow():
    guard = NetworkGuard()
    alive(guard, 100, 0.0)
    assert set(late(guard, range(30), 7200.0)) == {OK}


def suspected():
    guard = NetworkGuard()
    alive(guard, 100, 0.0)
    silence(guard, range(200, 220), 100.0)
    assert guard.state == SUSPECT
    guard.log_lines()
    return guard


def test_tests_go_to_those_that_were_alive():
    guard, chance = suspected(), random.Random(1)
    tests = guard.tests_wanted(100.0, chance)
    assert len(set(tests)) == 8 and set(tests) <= {org(number) for number in range(100)}
    assert guard.tests_wanted(101.9, chance) == [] and guard.next_time() == 102.0
    again = guard.tests_wanted(102.0, chance)
    assert len(set(again)) == 8 and not set(again) & set(tests)


def test_one_answer_among_the_first_tests_and_it_was_the_list():
    guard = suspected()
    tests = guard.tests_wanted(100.0, random.Random(1))
    for organisation in tests[:7]:
        assert guard.failed(organisation, 105.0) == SUSPECT
    assert guard.answered(tests[7], 105.0) == OK
    assert guard.log_lines() == [b"network: not suspected any more: an answer after 5"]
    assert set(silence(guard, range(300, 400), 110.0)) == {OK}  # no suspicion for 5 min
    assert silence(guard, range(400, 420), 405.1)[-1] == SUSPECT


def test_none_of_the_first_tests_and_we_are_frozen_until_anybody_answers():
    guard, chance = suspected(), random.Random(1)
    for organisation in guard.tests_wanted(100.0, chance):
        guard.failed(org(777), 104.0)  # no test: a session that was on its way
        guard.failed(organisation, 105.0)
    assert guard.state == FROZEN and guard.since == 100.0
    assert guard.log_lines() == [b"network: frozen: 20 organisations silent in 15"]
    for second in range(106, 700, 2):
        tests = guard.tests_wanted(float(second), chance)
        assert len(tests) == 8
        assert {guard.failed(organisation, second + 1.5) for organisation in tests} == {FROZEN}
    assert guard.answered(org(5), 712.0) == OK
    assert guard.log_lines() == [b"network: thawed after 612"] and guard.next_time() is None
    assert guard.tests_wanted(713.0, chance) == []
    assert silence(guard, range(500, 520), 720.0)[-1] == SUSPECT  # it may fail again at once


def test_where_nobody_was_alive_the_silent_are_tested_more_and_more_rarely():
    """A network that never worked for those that were tried must not stay frozen for others."""
    guard, chance = NetworkGuard(), random.Random(1)
    silence(guard, range(30), 0.0)
    assert guard.state == SUSPECT
    tested, times = [], []
    for second in range(0, 400, 2):
        tests = guard.tests_wanted(float(second), chance, [b"new.example", b"newer.example"])
        assert tests[:2] == [b"new.example", b"newer.example"] and len(tests) in (2, 8)
        tested += tests
        times += [second] if len(tests) == 8 else []
        for organisation in tests:
            guard.failed(organisation, second + 1.0)
    assert {org(number) for number in range(20)} <= set(tested)
    assert times[:6] == [0, 2, 6, 14, 30, 62] and times[-1] - times[-2] == 60


def test_those_of_the_last_hour_are_tested_before_those_of_the_day():
    guard, chance = suspected(), random.Random(1)
    guard.failed(org(1), 101.0)
    tests = guard.tests_wanted(5000.0, chance)
    assert len(tests) == 8 and set(tests) <= {org(number) for number in range(100)}
    guard.answered(org(7), 6000.0)
    silence(guard, range(300, 320), 6400.0)
    assert guard.state == SUSPECT and guard.tests_wanted(6400.0, chance) == [org(7)]


def test_false_alarms_come_more_and_more_rarely():
    guard, now, quiet = suspected(), 100.0, []
    for _ in range(6):
        guard.answered(org(5), now)
        start = now
        while guard.state == OK:
            now += 10.0
            silence(guard, range(300, 320), now)
        quiet.append(now - start)
    assert quiet == [300, 600, 1200, 2400, 3600, 3600]


def test_who_is_silent_is_known():
    guard = suspected()
    assert guard.is_silent(org(200)) and not guard.is_silent(org(5)) and not guard.is_silent(b"new.example")


def test_a_test_that_cannot_be_opened_tells_nothing():
    guard, chance = suspected(), random.Random(1)
    first = guard.tests_wanted(100.0, chance)
    for organisation in first[:3]:
        guard.drop_test(organisation)
    for organisation in first[3:]:
        guard.failed(organisation, 101.0)
    assert guard.state == SUSPECT
    for organisation in guard.tests_wanted(102.0, chance)[:3]:
        guard.failed(organisation, 103.0)
    assert guard.state == FROZEN


def test_a_small_host_takes_all_that_it_tried_in_ten_minutes():
    guard = NetworkGuard()
    alive(guard, 5, 0.0)
    assert silence(guard, [0, 1, 2, 3], 400.0, 10.0) == [OK] * 4  # the fifth answered 7 min ago
    assert silence(guard, [4], 500.0) == [SUSPECT]
    assert guard.log_lines() == [b"network: suspected: 5 organisations silent in 600"]


SMALL = [
    ([0, 1], OK),  # fewer than 3
    ([0, 0, 0, 1, 1], OK),
    ([0, 1, 2], SUSPECT),
]


@pytest.mark.parametrize("numbers, state", SMALL)
def test_at_least_three_of_a_small_host(numbers, state):
    assert silence(NetworkGuard(), numbers, 0.0, 1.0)[-1] == state


def test_a_host_that_tried_many_today_is_no_small_one():
    guard = NetworkGuard()
    alive(guard, 25, 0.0)
    assert set(silence(guard, range(19), 7200.0)) == {OK}
    assert silence(NetworkGuard(), range(3), 7200.0)[-1] == SUSPECT


def test_names_and_units_stand_in_the_lines():
    guard = NetworkGuard(b"resolver", b"zones")
    silence(guard, range(20), 0.0)
    assert guard.log_lines()[0].startswith(b"resolver: suspected: 3 zones silent in 600")


def test_what_strangers_fill_is_bounded():
    guard = NetworkGuard()
    for number in range(30_000):
        guard.answered(org(number), float(number))
        guard.failed(org(100_000 + number), float(number))
    assert max(len(getattr(guard, name)) for name in ("_silent", "_alive", "_answered", "_day", "_recent")) <= 20_000
