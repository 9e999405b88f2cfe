"""When a service starts again.  The timer is tested with the program, tests/programs/test_pysupervise_files.py."""

import pytest

from pyqmail.supervise.timing import RestartBackoff

ENDS = [
    # maximum, (seconds it ran, seconds to wait) of each run
    (0, [(1.02, 0), (1.02, 0), (9, 0)]),
    (1, [(1.02, 0), (1.02, 0)]),
    (8, [(1, 0), (1, 1), (1, 3), (1, 7), (1, 7)]),
    (6, [(1, 0), (1, 1), (1, 3), (1, 5), (1, 5)]),
    (8, [(1, 0), (1, 1), (1, 3), (8, 0), (1, 1)]),
    (60, [(1, 0), (3, 0), (3, 1), (3, 5)]),
]


@pytest.mark.parametrize("max_seconds, runs", ENDS)
def test_the_waits(max_seconds, runs):
    backoff = RestartBackoff()
    assert [backoff.pause_seconds(ran, max_seconds) for ran, _ in runs] == [wait for _, wait in runs]


def test_what_is_shown():
    backoff = RestartBackoff()
    shown = []
    for _ in range(5):
        backoff.pause_seconds(1.02, 6)
        shown.append(backoff.seconds)
    assert shown == [1, 2, 4, 6, 6]
