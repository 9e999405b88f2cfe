"""Domains that do not exist, and domains whose name servers do not answer."""

import pytest

from pyqmail.mail.destinations.faults.domains import DomainFaults

MISSING = [
    # when it was missing                     what is final
    ([0, 1800, 3600], [False, False, True]),
    ([0, 10, 20, 3599, 3600], [False] * 4 + [True]),  # three times, but not yet an hour
    ([0, 7200], [False, False]),  # an hour, but not yet three times
    ([0, 7200, 7201], [False, False, True]),
    ([0, 8 * 86400, 8 * 86400 + 4000, 8 * 86400 + 5000], [False, False, False, True]),  # another occasion
]


@pytest.mark.parametrize("times, final", MISSING)
def test_three_times_over_an_hour(times, final):
    faults = DomainFaults()
    assert [faults.missing(b"a.example", float(now)) for now in times] == final
    assert faults.missing(b"b.example", 9e6) is False


def test_a_domain_that_is_found_begins_again():
    faults = DomainFaults()
    faults.missing(b"a.example", 0.0)
    faults.missing(b"a.example", 1800.0)
    faults.found(b"a.example")
    assert faults.missing(b"a.example", 3600.0) is False


def test_troubles_wait_from_a_minute_to_an_hour():
    faults, now, waits = DomainFaults(), 0.0, []
    for _ in range(9):
        waits.append(faults.trouble(b"a.example", now))
        now += waits[-1]
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert faults.is_known_to_fail(b"a.example") and not faults.is_known_to_fail(b"b.example")
    assert faults.trouble(b"b.example", now) == 60
    faults.found(b"a.example")
    assert not faults.is_known_to_fail(b"a.example") and faults.trouble(b"a.example", now) == 60
    faults.missing(b"b.example", now)  # that is an answer
    assert not faults.is_known_to_fail(b"b.example")


def test_strangers_fill_it_to_its_limit_only():
    faults = DomainFaults(10)
    for number in range(1000):
        faults.missing(b"a%d.example" % number, 0.0)
        faults.trouble(b"b%d.example" % number, 0.0)
    assert (len(faults._missing), len(faults._troubles)) == (10, 10)
