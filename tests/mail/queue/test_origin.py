"""Who hands a message in, in the words of its Received line."""

import pytest

from pyqmail.base.failure import Temporary
from pyqmail.mail.queue.origin import Origin, invokers, received_line


class Users:
    """A home that is not private, with these uids."""

    def __init__(self, **uids):
        self.uids = uids

    def owner(self):
        return None

    def uid(self, user):
        return self.uids[user]


WHO = [
    (7790, b"Received: (qmail 1 invoked by alias); 1 Jan 1970 00:00:00 -0000\n"),
    (7791, b"Received: (qmail 1 invoked from network); 1 Jan 1970 00:00:00 -0000\n"),
    (7796, b"Received: (qmail 1 invoked for bounce); 1 Jan 1970 00:00:00 -0000\n"),
    (0, b"Received: (qmail 1 invoked by uid 0); 1 Jan 1970 00:00:00 -0000\n"),
]


@pytest.mark.parametrize("uid, line", WHO)
def test_the_received_line_says_who(uid, line):
    assert received_line(Origin(uid, 1, 0), invokers(Users(alias=7790, qmaild=7791, qmails=7796))) == line


def test_users_are_tested_in_the_originals_order():
    assert invokers(Users(alias=5, qmaild=5, qmails=5)) == {5: b"by alias"}


def test_in_a_private_home_a_uid_is_a_uid(home):
    assert invokers(home) == {}


def test_a_missing_user_is_said():
    with pytest.raises(Temporary, match="unable to find user qmaild"):
        invokers(Users(alias=1))
