"""How a delivery ended, or the attempt to open a session: what a scheduler may learn from.

An Outcome is made once, where the report of a spawner arrives.  It keeps what the wire said and reads the rest from the
words of the report, but only when somebody asks: most outcomes are logged and forgotten.

stage says how far the delivery got, and so who may be at fault:

    LOOKUP      no host was found: the name servers, or the domain
    CONNECT     no connection: the host, or the network; code is the errno, 0 if that is unknown
    GREETING    the server refused before it greeted: the server; code is that of its reply, as below
    NAME        it refused our name
    SENDER      it refused the envelope sender: the sender, or what the connection has carried before
    RECIPIENTS  it refused the recipient
    DATA        it refused DATA: the sender, the message, or the connection
    MESSAGE     it answered after the message; a success ends here
    DIALOGUE    the connection was lost, or the server was silent, before it took the message; code is ETIMEDOUT if it
                never greeted us and was silent, 421 if it left unasked between two messages
    DOUBTFUL    so it was after the message, before the reply: it may have been delivered
    LOCAL       a delivery on this machine
    MAILDIR     so, to Maildirs alone, and done: the next to that recipient may well be made together with others
    HERE        this machine could not deliver: no message file, no descriptor, a control file cannot be read
    UNKNOWN     the words of the report tell none of these

Source of the words: qmail-remote and qmail-rspawn of qmail; protocol/smtp/report.py composes them.
"""

LOOKUP, CONNECT, GREETING, NAME, SENDER = "lookup", "connect", "greeting", "helo", "sender"
RECIPIENTS, DATA, MESSAGE, DIALOGUE, DOUBTFUL = "recipients", "data", "message", "dialogue", "doubtful"
LOCAL, MAILDIR, HERE, UNKNOWN = "local", "maildir", "here", "unknown"

_CONNECTED, _GIVING_UP, _SAID = b"Connected to ", b"Giving up on ", b"Remote host said: "
# what the first line of a report says about the address
_STAGES = {
    _GIVING_UP: RECIPIENTS,
    b"greeting failed.": GREETING,
    b"my name was rejected.": NAME,
    b"sender was rejected.": SENDER,
    b"does not like recipient.": RECIPIENTS,
    b"failed on DATA command.": DATA,
    b"failed after I sent the message.": MESSAGE,
    b"accepted message.": MESSAGE,
    b"connection died. (#4.4.2)": DIALOGUE,
    b"connection died. Possible duplicate! (#4.4.2)": DOUBTFUL,
}
# what its enhanced code says, if no server was quoted.  RFC 3463 section 3
_STAGES_BY_CODE = {
    b"4.4.1": CONNECT,
    b"4.1.2": LOOKUP,
    b"5.1.2": LOOKUP,
    b"5.4.4": LOOKUP,
    b"5.4.6": LOOKUP,
    b"5.1.7": SENDER,  # a line break in the address
    b"5.1.3": RECIPIENTS,  # so, or without a domain
    b"5.6.2": MESSAGE,  # its last line has no end
}
_SYSTEM = b".3."  # x.3.x: the status of a mail system, here ours


class Outcome:
    """report is what the spawner reported: its letter (K success, Z deferral, D failure) and text.

    What the wire does not say is left out: an empty stage is read from the report when it is asked for, and so are the
    code of the server's reply and the server's address.  host is empty if it is unknown.
    """

    __slots__ = ("report", "host", "_stage", "_code", "_address")

    def __init__(self, report: bytes, stage: str = "", code: int = 0, host: bytes = b"", address: bytes = b"") -> None:
        self.report, self.host, self._stage, self._code, self._address = report, host, stage, code, address

    @property
    def letter(self) -> bytes:
        """K, Z or D; anything else is a mangled report, and counts as a deferral.  Empty for an empty report."""
        return self.report[:1]

    @property
    def text(self) -> bytes:
        """The report without its letter."""
        return self.report[1:]

    @property
    def stage(self) -> str:
        if not self._stage:
            self._read_report()
        return self._stage

    @property
    def code(self) -> int:
        """The code of the server's reply; the errno at CONNECT and HERE, and ETIMEDOUT at DIALOGUE; 0 without one."""
        return self._code or _reply_code(self.reply)

    @property
    def enhanced(self) -> bytes:
        """The enhanced code, `4.4.2`: the server's, or else the one of the report itself; empty without any."""
        return _enhanced_of_reply(self.reply) or self._own_enhanced()

    @property
    def address(self) -> bytes:
        """The address of the server it was about; empty if the report names none."""
        if not self._address and not self._stage:
            self._read_report()
        return self._address

    def _read_report(self) -> None:
        address, situation = _split(self._first_line())
        if situation in _STAGES:
            self._stage, self._address = _STAGES[situation], self._address or address
            return
        own = self._own_enhanced()
        self._stage = HERE if own[1:4] == _SYSTEM else _STAGES_BY_CODE.get(own, UNKNOWN)

    def _first_line(self) -> bytes:
        return self.report[1:].partition(b"\n")[0]

    @property
    def reply(self) -> bytes:
        """What the report quotes of the server; a program of this machine may write what it likes: empty then."""
        return b"" if self._stage in (LOCAL, MAILDIR) else self.report.partition(_SAID)[2]

    def _own_enhanced(self) -> bytes:
        """Return x.y.z of the `(#x.y.z)` that ends the report's own words."""
        own = self.report.partition(_SAID)[0].rpartition(b"(#")[2].partition(b")")[0]
        return own if _is_enhanced(own) else b""


def _split(line: bytes) -> tuple[bytes, bytes]:
    """Return (address, what is said about it) of a report's first line."""
    if line.startswith(_GIVING_UP):
        return line[len(_GIVING_UP) :].removesuffix(b"."), _GIVING_UP
    if line.startswith(_CONNECTED):
        address, _, situation = line[len(_CONNECTED) :].partition(b" but ")
    else:
        address, _, situation = line.partition(b" ")
    return address, situation


def _reply_code(reply: bytes) -> int:
    return int(reply[:3]) if len(reply) >= 3 and reply[:3].isdigit() else 0


def _enhanced_of_reply(reply: bytes) -> bytes:
    if not _reply_code(reply):
        return b""
    words = reply[4:16].split(None, 1)
    return words[0] if words and _is_enhanced(words[0]) else b""


def _is_enhanced(text: bytes) -> bool:
    """Return whether text is class, subject and detail of RFC 3463 section 2."""
    numbers = text.split(b".")
    return len(numbers) == 3 and numbers[0] in (b"2", b"4", b"5") and all(number.isdigit() for number in numbers)
