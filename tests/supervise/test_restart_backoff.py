"""The backoff of restarts."""

import pytest

from pyqmail.supervise.restart_backoff import RestartBackoff

ENDS = [
    # longest seconds, (seconds it ran, seconds to wait) of each run
    (0, [(1.02, 0), (1.02, 0), (9, 0)]),
    (1, [(1.02, 0), (1.02, 0)]),
    (8, [(1, 0), (1, 1), (1, 3), (1, 7), (1, 7)]),
    (6, [(1, 0), (1, 1), (1, 3), (1, 5), (1, 5)]),
    (8, [(1, 0), (1, 1), (1, 3), (8, 0), (1, 1)]),
    (60, [(1, 0), (3, 0), (3, 1), (3, 5)]),
]


@pytest.mark.parametrize("longest, runs", ENDS)
def test_the_waits(longest, runs):
    backoff = RestartBackoff()
    assert [backoff.pause_seconds(ran, longest) for ran, _ in runs] == [wait for _, wait in runs]


def test_what_is_shown():
    backoff = RestartBackoff()
    shown = []
    for _ in range(5):
        backoff.pause_seconds(1.02, 6)
        shown.append(backoff.seconds)
    assert shown == [1, 2, 4, 6, 6]
