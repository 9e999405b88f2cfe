"""Who is one too many: limits by address, by network, by rate and by load, and what a client in excess is told.

Each limit is an option and a variable that a rule may set, which then counts instead: MAXCONNIP, MAXCONNC, MAXLOAD,
DIEMSG as the patch of the qmail toasters has them, and MAXCONNRATE.  0 allows nobody.
"""

import os

from pyqmail.base.numbers import leading_number


class Excess:
    """A client is one too many: remark is appended to its `deny` line, reply is what it gets, with CR LF or empty."""

    __slots__ = ("remark", "reply")

    def __init__(self, remark: bytes, reply: bytes):
        self.remark, self.reply = remark, reply


class Limits:
    """settings: variable name -> text, for what the command line or the environment limits."""

    NAMES = (b"MAXLOAD", b"MAXCONNC", b"MAXCONNIP", b"MAXCONNRATE")
    REPLY = b"DIEMSG"

    def __init__(self, settings: dict[bytes, bytes]):
        self.settings = settings

    def excess(self, client, variables) -> Excess | None:
        """Return how the client is one too many, None if it is not.  variables: (name, value) pairs of its rule."""
        settings = self.settings
        if variables:
            settings = {**settings, **dict(variables)}
        if not settings:
            return None
        for name in reversed(self.NAMES):  # the closest to the client is told
            if name in settings and self._count(name, client) > leading_number(settings[name]):
                reply = settings.get(self.REPLY, b"")
                return Excess(b" %b:%d" % (name, leading_number(settings[name])), reply and reply + b"\r\n")
        return None

    def _count(self, name, client):
        if name == b"MAXLOAD":
            return int(os.getloadavg()[0] * 100)
        same_address, same_network, recent = client.counts
        return {b"MAXCONNIP": same_address, b"MAXCONNC": same_network, b"MAXCONNRATE": recent}[name]
