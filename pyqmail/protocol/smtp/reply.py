"""Replies of an SMTP server, cut out of its bytes.  RFC 5321 section 4.2"""

TEXT_LIMIT = 5000
REPLY_LIMIT = 65536  # bytes of one reply, all its lines
MALFORMED = 0  # the code of what is no reply
LEAVING = 421
_LIMIT_DIGITS = 6  # RFC 9422 section 4

Reply = tuple[int, bytes]  # code, text


class ReplyParser:
    """Takes the server's bytes in any pieces; next_reply() returns (code, text).

    A line is three digits and text; a fourth byte `-` means that another line follows, with the same digits.  The text
    is all lines, codes included, CR left out, no more than TEXT_LIMIT bytes.  Anything else, or more than REPLY_LIMIT
    bytes, has the code MALFORMED, and nothing comes after it.
    """

    __slots__ = ("_held", "_searched", "_code", "_text", "_size", "_is_broken")

    def __init__(self) -> None:
        self._held, self._searched = bytearray(), 0  # no LF in so many bytes of what is held
        self._code: int | None = None
        self._text, self._size, self._is_broken = b"", 0, False

    def receive(self, data: bytes) -> None:
        if not self._is_broken:
            self._held += data

    def next_reply(self) -> Reply | None:
        """Return the next reply; None while there is no complete one."""
        while not self._is_broken:
            end = self._held.find(b"\n", self._searched) + 1
            if self._size + (end or len(self._held)) > REPLY_LIMIT:
                return self._break(bytes(self._held[:TEXT_LIMIT]))
            if not end:
                self._searched = len(self._held)
                return None
            line = bytes(self._held[:end])
            del self._held[:end]
            self._searched, self._size = 0, self._size + end
            code = parse_code(line)
            if code is None or self._code not in (None, code):
                return self._break(line)
            self._add(line)
            self._code = code
            if line[3:4] != b"-":
                reply = code, self._text
                self._code, self._text, self._size = None, b"", 0
                return reply
        return None

    @property
    def is_empty(self) -> bool:
        """True if nothing has come since the last complete reply."""
        return not self._held and self._code is None and not self._is_broken

    def _add(self, line: bytes) -> None:
        if len(self._text) < TEXT_LIMIT:
            self._text = (self._text + line.replace(b"\r", b""))[:TEXT_LIMIT]

    def _break(self, line: bytes) -> Reply:
        self._is_broken = True
        self._add(line)
        self._held.clear()
        return MALFORMED, self._text


def parse_code(line: bytes) -> int | None:
    """Return the code a line begins with; None if it has none."""
    return int(line[:3]) if line[:3].isdigit() and not line[3:4].isdigit() and len(line) > 3 else None


def parse_keywords(text: bytes) -> set[bytes]:
    """Return the extensions that a reply to EHLO announces, in upper case.  RFC 5321 section 4.1.1.1"""
    return {line[4:].split(b" ", 1)[0] for line in text.upper().split(b"\n")[1:]}


def parse_limits(text: bytes) -> tuple[int, int]:
    """Return (messages a connection, recipients a message) that a reply to EHLO allows; 0 for what it does not say.

    Source: MAILMAX and RCPTMAX of the LIMITS keyword, RFC 9422 sections 3 and 4
    """
    found = {b"MAILMAX": 0, b"RCPTMAX": 0}
    for line in text.upper().split(b"\n")[1:]:
        words = line[4:].split()
        for limit in words[1:] if words[:1] == [b"LIMITS"] else ():
            name, _, number = limit.partition(b"=")
            if name in found and number.isdigit() and len(number) <= _LIMIT_DIGITS:
                found[name] = int(number)
    return found[b"MAILMAX"], found[b"RCPTMAX"]
