"""n and m: believed when the same number shows again."""

import pytest

from pyqmail.mail.destinations.faults.learned import LearnedMessages, LearnedRecipients

RUNS = [
    # what showed, r: refused, c: closed, w: withdrawn      n, and when it changed
    ("r10 r10",                                             10, [1]),
    ("r10 r7 r10 r10",                                      10, [3]),
    ("r10 w r10",                                           0, []),  # refused on a fresh connection, too
    ("r10 w r10 r10",                                       10, [3]),
    ("c20 c20",                                             0, []),
    ("c20 c20 c20 c20",                                     20, [2]),
    ("c20 c19 c20 c20",                                     0, []),
    ("c20 r20 c20 r20",                                     20, [3]),
    ("c20 c20 c20 c5 c5 c5",                                5, [2, 5]),  # the server has changed
    ("s20",                                                 20, [0]),
    ("s20 s20",                                             20, [0]),
    ("r0 r0 c0 c0 c0 s0",                                   0, []),  # nothing was carried: no limit of a connection
]  # fmt: skip


@pytest.mark.parametrize("shown, value, changes", RUNS)
def test_messages_of_a_connection(shown, value, changes):
    learned, seen = LearnedMessages(), []
    for place, one in enumerate(shown.split()):
        if one == "w":
            learned.withdraw()
        elif {"r": learned.refused, "c": learned.closed, "s": learned.stated}[one[0]](int(one[1:])):
            seen.append(place)
    assert (learned.value, seen) == (value, changes)


def test_recipients_of_a_transaction_are_believed_downwards():
    learned = LearnedRecipients()
    assert [learned.refused(accepted) for accepted in (0, 5, 5, 9, 3)] == [False, True, False, False, True]
    assert learned.value == 3
