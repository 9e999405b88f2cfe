"""Counts over the columns are what a slow count over the rows is."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqmail.mail.destinations.scheduling.core import IN_FLIGHT, ON_WHEEL
from pyqmail.mail.destinations.views import tallies
from pyqmail.mail.destinations.views.age_bands import BANDS
from pyqmail.mail.destinations.views.recent import ACCEPTED_DELIVERY, DEFERRED_DELIVERY, REFUSED_SESSION, RecentCounts
from pyqmail.mail.destinations.waiting.rows import MailRows

DATE = 1764523021
AGES = st.one_of(
    st.integers(0, 90000),
    st.integers(-100, 100_000_000),
    st.sampled_from([edge + near for edge in (*BANDS, 65536, 131072, 196608) for near in (-1, 0, 1, 255, 256)]),
)
PARCELS = st.one_of(st.just([1]), st.lists(st.integers(1, 4), max_size=3))
MESSAGES = st.lists(st.tuples(AGES, PARCELS, st.integers(0, 5), st.booleans()), max_size=30)


def rows_of(messages):
    """Messages of (age, recipients of each parcel, sender, is it removed again)."""
    rows, date = MailRows(), DATE
    for number, (age, parcels, sender, is_removed) in enumerate(messages, 1):
        message = rows.add_message(number, sender, 1000, max(0, date - age), 0)
        for lane, count in enumerate(parcels, 1):
            parcel = rows.add_parcel(message, lane, range(count))
            rows.p_flags[parcel] |= (ON_WHEEL, IN_FLIGHT)[lane % 2] * (lane > 1)
        if is_removed:
            for parcel in list(rows.parcels(message)):
                rows.remove_parcel(parcel)
            rows.remove_message(message)
    return rows


def slow(rows):
    """Yield (lane, birth, sender, is marked) of each recipient."""
    for parcel in filter(None, rows.r_parcel):
        message = rows.p_message[parcel]
        yield rows.p_lane[parcel], rows.m_birth[message], rows.m_sender[message], rows.p_flags[parcel]


def slow_bands(births):
    found = [0] * (len(BANDS) + 1)
    for birth in births:
        found[sum(DATE - birth >= edge for edge in BANDS)] += 1
    return found


def slow_tally(recipients):
    recipients = list(recipients)
    return (
        sum(bool(flags & IN_FLIGHT) for *_, flags in recipients),
        sum(bool(flags & ON_WHEEL) for *_, flags in recipients),
        slow_bands(birth for _, birth, _, _ in recipients),
    )


@pytest.mark.parametrize("many", [0, 40_000])
@settings(max_examples=200, deadline=None)
@given(messages=MESSAGES)
def test_the_quick_counts_are_the_slow_ones(messages, many):
    """Also when each group counts as a large one."""
    rows = rows_of(messages)
    recipients = list(slow(rows))
    sizes = tallies.sizes_of(rows)
    assert tallies.tally_all(rows, sizes, DATE) == slow_tally(recipients)
    assert +tallies.senders(rows) == Counter(sender for _, _, sender, _ in recipients)
    totals = [40_000 - many] * 2
    lanes, by_sender = [[1], [2, 3]], [[0], [1, 2]]
    assert tallies.tally_groups(rows, rows.p_lane, lanes, totals, sizes, DATE) == [
        slow_tally(one for one in recipients if one[0] in group) for group in lanes
    ]
    owners = tallies.senders_of_parcels(rows)
    assert tallies.tally_groups(rows, owners, by_sender, totals, sizes, DATE) == [
        slow_tally(one for one in recipients if one[2] in group) for group in by_sender
    ]


# what happened in the last minute


def test_the_last_minute_is_counted_and_what_is_older_is_not():
    recent = RecentCounts()
    for second in range(200):
        recent.add(b"a", ACCEPTED_DELIVERY, 1000.0 + second)
    recent.add(b"b", DEFERRED_DELIVERY, 1199.0)
    recent.add(b"b", REFUSED_SESSION, 1199.0)
    recent.add(b"b", REFUSED_SESSION, 1199.0)
    found = recent.totals(1199.0)
    assert found[b"b"] == [0, 1, 0, 2]
    assert 55 <= found[b"a"][ACCEPTED_DELIVERY] <= 60
    assert recent.totals(1300.0) == {}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 500), max_size=50).map(sorted), st.floats(0, 200))
def test_counts_are_those_of_a_minute_to_five_seconds(times, later):
    recent = RecentCounts()
    for time in times:
        recent.add(b"a", ACCEPTED_DELIVERY, time)
    now = max([0.0, *times]) + later
    count = recent.totals(now).get(b"a", [0])[0]
    assert sum(now - time < 55 for time in times) <= count <= sum(now - time <= 60 for time in times)
