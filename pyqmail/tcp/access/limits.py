"""Who is one too many: limits by address, by network, by rate and by load, and what a client in excess is told.

Each limit is an option and a variable that a rule may set, which then counts instead: MAXCONNIP, MAXCONNC, MAXLOAD and
DIEMSG, and one DIEMSG for each limit, as the limits patch of ucspi-tcp has them, and MAXCONNRATE.  0 allows nobody; as
in the patch it does not limit the load.
"""

import os

from pyqmail.base.numbers import leading_number

_LOAD = b"MAXLOAD"
# in the order in which they are looked at: the first that is exceeded is told
NAMES = (_LOAD, b"MAXCONNIP", b"MAXCONNC", b"MAXCONNRATE")
_OF_CLIENTS = NAMES[1:]
REPLY = b"DIEMSG"
VARIABLES = (*NAMES, REPLY, *(REPLY + b"_" + name for name in NAMES))
_MAX_REPLY_BYTES = 510  # as SMTP's: with the banner it fits in an empty send buffer, so nobody has to wait


class Excess:
    """A client is one too many: remark is appended to its `deny` line, reply is what it gets, with CR LF or empty."""

    __slots__ = ("remark", "reply")

    def __init__(self, remark: bytes, reply: bytes):
        self.remark, self.reply = remark, reply


class Limits:
    """settings: variable name -> text, for what the command line or the environment limits.  load() is the load.

    exempt: the name of a variable, or None; whose rule sets it is held by no limit but that of the load and its rule's
    own.
    """

    def __init__(self, settings: dict[bytes, bytes], load=lambda: os.getloadavg()[0], exempt: bytes | None = None):
        self._settings, self._load, self._exempt = settings, load, exempt

    def change(self, settings: dict[bytes, bytes]) -> None:
        """Let these count from now on."""
        self._settings = {**self._settings, **settings}

    def excess(self, client, variables) -> Excess | None:
        """Return how the client is one too many, None if it is not.  variables: (name, value) pairs of its rule."""
        settings = self._settings
        if variables:
            own = dict(variables)
            if self._exempt in own:
                settings = {name: text for name, text in settings.items() if name not in _OF_CLIENTS}
            settings = {**settings, **own}
        if not settings:
            return None
        for name in NAMES:
            if name in settings:
                most, count = leading_number(settings[name]), self._count(name, client)
                if count > most and (most or name != _LOAD):
                    remark = b" LOAD:%d" % count if name == _LOAD else b" %b:%d" % (name, most)
                    reply = settings.get(REPLY + b"_" + name) or settings.get(REPLY, b"")
                    return Excess(remark, reply and reply[:_MAX_REPLY_BYTES] + b"\r\n")
        return None

    def _count(self, name, client):
        if name == _LOAD:
            return int(self._load() * 100)
        same_address, same_network, recent = client.counts
        return {b"MAXCONNIP": same_address, b"MAXCONNC": same_network, b"MAXCONNRATE": recent}[name]
