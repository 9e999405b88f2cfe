"""Hosts: penalties, choice by preference and speed, ceilings, habits, and the bound of the table."""

import random
from collections import Counter

import pytest

from pyqmail.mail.destinations.faults.hosts import HostTable

ONE, TWO, BACKUP = (10, b"one", [b"192.0.2.1"]), (10, b"two", [b"192.0.2.2"]), (20, b"backup", [b"192.0.2.9"])
HOSTS = [ONE, TWO, BACKUP]


def everywhere(host, address):
    return True


def choose(table, hosts=HOSTS, tried=(), now=0.0, seed=1, **options):
    return table.choose(hosts, tried, options.pop("room_of", everywhere), now, random.Random(seed), **options)


def test_penalties_grow_with_the_square_to_an_hour():
    table, now, seconds = HostTable(), 0.0, []
    for _ in range(17):
        seconds.append(table.failed(b"one", now, now))
        now += seconds[-1]
    assert seconds[:5] == [15, 60, 135, 240, 375] and seconds[-2:] == [3600, 3600]
    table.greeted(b"one", 0.1, 0, now)
    assert (table.get(b"one").penalty, table.failed(b"one", now, now)) == (0, 15)


def test_many_that_connected_at_once_are_one_failure():
    table = HostTable()
    assert [table.failed(b"one", 0.0, 30.0 + number) for number in range(10)] == [15] + [0] * 9
    assert table.failed(b"one", 46.0, 76.0) == 60  # one that began after it


CHOICES = [
    # failed                  tried                                 the hosts that may be chosen
    ([],                      [],                                   {b"one", b"two"}),
    ([b"one"],                [],                                   {b"two"}),
    ([b"one", b"two"],        [],                                   {b"backup"}),
    ([],                      [b"192.0.2.1", b"192.0.2.2"],         {b"backup"}),
    ([b"one"],                [b"192.0.2.2"],                       {b"backup"}),
    ([b"one"],                [b"192.0.2.2", b"192.0.2.9"],         set()),
    ([b"one", b"two", b"backup"], [],                               set()),
]  # fmt: skip


@pytest.mark.parametrize("failed, tried, hosts", CHOICES)
def test_a_lower_preference_is_tried_when_the_better_are_off_or_tried(failed, tried, hosts):
    table = HostTable()
    for name in failed:
        table.failed(name, 0.0, 0.0)
    assert {name for name, _ in table.usable(HOSTS, tried, 1.0)} == hosts
    chosen = {choose(table, tried=tried, now=1.0, seed=seed) for seed in range(40)} - {None}
    assert {name for name, _ in chosen} == hosts


def test_a_host_that_comes_back_is_tried_by_one_session():
    table = HostTable()
    table.failed(b"one", 0.0, 0.0)
    assert choose(table, [ONE], now=14.9) is None and table.back_time([ONE], 1.0) == 15.0
    assert choose(table, [ONE], now=15.0) == (b"one", b"192.0.2.1")
    assert choose(table, [ONE], now=15.0) is None
    table.greeted(b"one", 0.1, 0, 16.0)
    assert [choose(table, [ONE], now=16.0) for _ in range(2)] == [(b"one", b"192.0.2.1")] * 2


def test_a_probe_tries_a_host_that_is_off():
    table = HostTable()
    table.failed(b"one", 0.0, 0.0)
    assert choose(table, [ONE], now=1.0) is None
    assert choose(table, [ONE], now=1.0, is_probe=True) == (b"one", b"192.0.2.1")


def test_back_time_is_that_of_the_first():
    table = HostTable()
    assert table.back_time(HOSTS, 5.0) == table.back_time([], 5.0) == 5.0
    table.failed(b"one", 0.0, 0.0)
    assert table.back_time(HOSTS, 5.0) == 5.0  # two is on
    table.failed(b"two", 2.0, 2.0)
    assert table.back_time([ONE, TWO], 5.0) == 15.0 and table.back_time([ONE, TWO], 99.0) == 99.0


def test_a_second_address_of_a_host_comes_after_the_first():
    hosts, table = [(10, b"one", [b"192.0.2.1", b"2001:db8::1"])], HostTable()
    assert choose(table, hosts) == (b"one", b"192.0.2.1")
    assert choose(table, hosts, [b"192.0.2.1"]) == (b"one", b"2001:db8::1")
    assert choose(table, hosts, [b"192.0.2.1", b"2001:db8::1"]) is None


def test_a_host_without_room_is_passed_over():
    table = HostTable()
    asked = choose(table, room_of=lambda host, address: (host, address) != (b"one", b"192.0.2.1"))
    assert asked == (b"two", b"192.0.2.2")
    assert choose(table, room_of=lambda host, address: host == b"backup") is None  # the better ones are waited for


def test_a_hedge_stays_at_its_preference():
    table = HostTable()
    table.failed(b"two", 0.0, 0.0)
    assert choose(table, tried=[b"192.0.2.1"], now=1.0, preference=10) is None
    assert choose(table, tried=[b"192.0.2.1"], now=1.0) == (b"backup", b"192.0.2.9")


def test_a_slow_host_is_chosen_in_inverse_proportion():
    """Scenario 20, at this level: a host that greets after 20 s beside two that take 0.2 s."""
    table, chance = HostTable(), random.Random(1)
    hosts = [(10, b"slow", [b"192.0.2.1"]), (10, b"a", [b"192.0.2.2"]), (10, b"b", [b"192.0.2.3"])]
    for name, seconds in ((b"slow", 20.0), (b"a", 0.2), (b"b", 0.2)):
        table.greeted(name, seconds, 0, 0.0)
    chosen = Counter(table.choose(hosts, (), everywhere, 1.0, chance)[0] for _ in range(4000))
    assert 0 < chosen[b"slow"] < 100 and abs(chosen[b"a"] - chosen[b"b"]) < 300


def test_greeting_times_are_a_moving_average():
    table = HostTable()
    table.greeted(b"one", 1.0, 0, 0.0)
    table.greeted(b"one", 3.0, 0, 0.0)
    assert table.get(b"one").greeting_seconds == 1.5


@pytest.mark.parametrize("greeting_seconds, hedge_seconds", [(None, 2.0), (0.1, 2.0), (0.5, 2.0), (3.0, 12.0)])
def test_hedge_seconds(greeting_seconds, hedge_seconds):
    table = HostTable()
    if greeting_seconds is not None:
        table.greeted(b"one", greeting_seconds, 0, 0.0)
    assert table.hedge_seconds(b"one") == hedge_seconds


def test_a_ceiling_is_kept_and_raised_by_one_that_is_greeted_beyond_it():
    table = HostTable()
    host = table.get(b"one")
    assert host.cap(0.0) == 0
    table.refused(b"one", 5, 0.0)
    assert (host.cap(1.0), host.cap(599.0), host.cap(600.0)) == (5, 5, 6)
    table.refused(b"one", 5, 600.0)  # the same again: twice as long
    assert (host.cap(1799.0), host.cap(1800.0)) == (5, 6)
    table.greeted(b"one", 0.1, 4, 1800.0)  # within it: no news
    assert host.cap(1800.0) == 6
    table.greeted(b"one", 0.1, 5, 1800.0)
    assert (host.cap(1801.0), host.cap(1860.0)) == (6, 7)
    table.refused(b"one", 3, 1900.0)
    assert (host.cap(1901.0), host.cap(2500.0)) == (3, 4)
    table.refused(b"two", 0, 0.0)
    assert table.get(b"two").cap(1.0) == 1
    for _ in range(9):
        table.refused(b"one", 3, 3000.0)
    assert host.ceiling_until == 3000.0 + 7200


def test_habits_are_remembered_for_a_day_from_when_they_were_first_seen():
    table = HostTable()
    table.note_habits(b"one", False, False, 0.0)
    assert table.items() == []  # most hosts have none
    table.note_habits(b"one", True, False, 100.0)
    table.note_habits(b"one", True, True, 5000.0)  # it greeted with HELO since it was told to
    host = table.get(b"one")
    assert (host.helo_until, host.single_until) == (100.0 + 86400, 5000.0 + 86400)
    table.note_habits(b"one", True, False, 100.0 + 86400)
    assert host.helo_until == 100.0 + 2 * 86400


def test_what_was_our_fault_is_taken_back():
    table = HostTable()
    table.failed(b"one", 0.0, 10.0)
    table.failed(b"one", 30.0, 50.0)
    table.failed(b"two", 0.0, 10.0)
    table.take_back(40.0)
    assert [(host.name, host.penalty, host.off_until) for host in table.items()] == [
        (b"one", 1, 0.0),
        (b"two", 1, 25.0),
    ]


def test_strangers_fill_the_table_to_its_limit_only():
    table = HostTable(3)
    for number in range(10):
        table.failed(b"host%d" % number, 0.0, 0.0)
        table.get(b"host0" if number < 5 else b"host9")
    assert len(table.items()) == 3
    names = [host.name for host in table.items()]
    assert names[-1] == b"host9" and b"host8" in names


def test_looking_at_candidates_makes_no_host():
    table = HostTable()
    choose(table)
    assert table.items() == [] and table.hedge_seconds(b"one") == 2.0 and table.items() == []
