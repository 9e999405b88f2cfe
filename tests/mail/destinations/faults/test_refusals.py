"""When a refusal is the organisation's."""

import pytest

from pyqmail.mail.destinations.faults.refusals import OrganisationRefusals

RUNS = [
    # (when, where)                                     the one that speaks of the organisation
    ([(0, b"a"), (10, b"b"), (20, b"c")], [2]),
    ([(0, b"a"), (10, b"a"), (20, b"b")], [2]),
    ([(0, b"a"), (10, b"a"), (20, b"a")], []),  # one place is that place's affair
    ([(0, b"a"), (30, b"b"), (61, b"c")], []),
    ([(0, b"a"), (30, b"b"), (61, b"c"), (62, b"a")], [3]),
    ([(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), (4, b"e"), (5, b"f")], [2, 5]),
    ([(0, b"a")] * 100 + [(1, b"b")], [100]),
]


@pytest.mark.parametrize("refusals, organisation", RUNS)
def test_three_in_a_minute_on_two_places(refusals, organisation):
    kept = OrganisationRefusals()
    assert [place for place, (now, where) in enumerate(refusals) if kept.refused(where, float(now))] == organisation


def test_it_is_dropped_once_the_minute_is_over():
    kept = OrganisationRefusals()
    assert kept.is_empty(0.0)
    kept.refused(b"a", 5.0)
    assert not kept.is_empty(64.0) and kept.is_empty(65.0)
