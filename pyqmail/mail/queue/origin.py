"""Who hands a message in, and what its first line says of that."""

import os

from pyqmail.base.dates import header_date
from pyqmail.base.failure import Temporary
from pyqmail.system.home import USERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyqmail.system.home import Home


class Origin:
    """Who hands a message in: uid, the qp it goes by, the time in Unix seconds."""

    __slots__ = ("uid", "qp", "seconds")

    def __init__(self, uid: int, qp: int, seconds: int) -> None:
        self.uid, self.qp, self.seconds = uid, qp, seconds


def received_line(origin: Origin, known: "Mapping[int, bytes]") -> bytes:
    """Return the first line of a queued message, its newline included; known: see invokers()."""
    who = known.get(origin.uid) or b"by uid %d" % origin.uid
    return b"Received: (qmail %d invoked %b); %b\n" % (origin.qp, who, header_date(origin.seconds))


def invokers(home: "Home") -> dict[int, bytes]:
    """Return uid -> what the Received line says of it; any other uid is `by uid N`.

    Empty in a private home, where one user is everybody.  Raises Temporary if a user is missing.
    """
    if home.owner() is not None:
        return {}
    known: dict[int, bytes] = {}
    for user, words in (("alias", b"by alias"), ("qmaild", b"from network"), ("qmails", b"for bounce")):
        try:
            known.setdefault(home.uid(user), words)
        except LookupError:
            raise Temporary(f"unable to find user {user}") from None
    return known


def qmail_uids(home: "Home", with_ourselves: bool = True) -> set[int]:
    """Return the uids trusted with the queue: root, ourselves, and qmail's users; any other is a stranger's."""
    trusted = {0, os.geteuid()} if with_ourselves else {0}
    for user in USERS:
        try:
            trusted.add(home.uid(user))
        except LookupError:
            pass
    return trusted
