"""Connection limits by address, network, rate and load, and the reply sent when one is exceeded.

Each limit is an option, and a variable that a rule may set, which then counts instead: MAXCONNIP, MAXCONNC, MAXLOAD and
DIEMSG, and a DIEMSG for each limit, as in the limits patch of ucspi-tcp, and MAXCONNRATE.  A limit of 0 admits no
client; as in the patch, it does not limit the load.
"""

import os

from pyqmail.base.numbers import leading_number

_LOAD = b"MAXLOAD"
# in the order in which they are tested: the first that is exceeded is reported
NAMES = (_LOAD, b"MAXCONNIP", b"MAXCONNC", b"MAXCONNRATE")
_OF_CLIENTS = NAMES[1:]
REPLY = b"DIEMSG"
VARIABLES = (*NAMES, REPLY, *(REPLY + b"_" + name for name in NAMES))
_MAX_REPLY_BYTES = 510  # as in SMTP: with the banner it fits into an empty send buffer, so that writing cannot wait


class Excess:
    """A limit is exceeded: remark is appended to the `deny` line; the client gets reply, with CR LF, or empty."""

    __slots__ = ("remark", "reply")

    def __init__(self, remark: bytes, reply: bytes):
        self.remark, self.reply = remark, reply


class Limits:
    """settings: variable name -> text, of the limits from the command line or the environment.  load() is the load.

    exempt: the name of a variable, or None.  A client whose rule sets it is exempt from all limits but that of the load
    and those of its rule.
    """

    def __init__(self, settings: dict[bytes, bytes], load=lambda: os.getloadavg()[0], exempt: bytes | None = None):
        self._settings, self._load, self._exempt = settings, load, exempt

    def change(self, settings: dict[bytes, bytes]) -> None:
        """Use these settings from now on."""
        self._settings = {**self._settings, **settings}

    @property
    def names(self) -> set[bytes]:
        """The variables of the limits that hold for clients without rules of their own."""
        return set(self._settings)

    def excess(self, client, variables) -> Excess | None:
        """Return which limit the client exceeds, None if none.  variables: (name, value) pairs of its rule."""
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
