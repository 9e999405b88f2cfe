"""What a log of pysend, or of qmail-send, says of remote mail: who sent what when, and how each try ended.

Each line begins with a time: a TAI64N label, as multilog writes it; or a date and a time of day, with a blank or `T`
between them, as tai64nlocal and pymultilog write them.  Lines without a time, or with one that no
log has, and those that say nothing here, are counted and left out.  A try whose end is not in the log is left out, too.
Source of the lines: qmail-send; mail/destinations/scheduling/log.py of ours has the others.
"""

from pyqmail.base.addresses import domain_part
from pyqmail.base.tai import TEXT_BYTES, read_text_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_TRIES = 2_000_000  # that are read; later ones are counted
MAX_OPEN = 1_000_000  # messages at once that have not ended; of one more only its tries are known
UNKNOWN_BYTES = 1000  # size of a message that came before the log began
FIRST_TIME, LAST_TIME = 631152000, 4102444800  # 1990 and 2100: another time is none of a log
MAX_GREETING_SECONDS = 100.0  # nobody waits longer: RecordedWorld has timeouts of such length
_MAX_DIGITS = 15  # of a number; one that has more is none
_LETTERS = {b"success": b"K", b"deferral": b"Z", b"failure": b"D"}
_DATE_BYTES = 19  # of `2026-11-29 14:05:00`
_DATE_MARKS = {4: b"-", 7: b"-", 13: b":", 16: b":"}
_DATE_PLACES = (0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19)
_SAID = b"Remote_host_said:_"


class LoggedRecipient:
    """tries: (when it started, how long it took, report with its letter), seconds; a success has only its letter.

    address: of the server that took or refused the mail, empty if none is named.
    """

    __slots__ = ("domain", "tries", "address")

    def __init__(self, domain: bytes) -> None:
        self.domain, self.address = domain, b""
        self.tries: list[tuple[float, float, bytes]] = []


class LoggedMessage:
    """when: Unix seconds.  sender: the domain of its envelope sender.  recipients: by address."""

    __slots__ = ("when", "size", "sender", "recipients")

    def __init__(self, when: float, size: int = UNKNOWN_BYTES, sender: bytes = b"") -> None:
        self.when, self.size, self.sender = when, size, sender
        self.recipients: dict[bytes, LoggedRecipient] = {}


class LogRecords:
    """messages: those with remote recipients.  first, last: times of the log, Unix seconds; None: no line has a time.

    ceilings: (when, name of a site or organisation, sessions at which it refused more).  greetings: site -> seconds.
    refusals: how many lines tell of a refused session.  left_out: tries beyond MAX_TRIES; timeless: lines.
    """

    def __init__(self) -> None:
        self.messages: list[LoggedMessage] = []
        self.first: float | None = None
        self.last = 0.0
        self.ceilings: list[tuple[float, bytes, int]] = []
        self.greetings: dict[bytes, float] = {}
        self.refusals = self.tries = self.left_out = self.timeless = 0
        self._open: dict[bytes, LoggedMessage] = {}  # by number
        self._running: dict[bytes, tuple[LoggedRecipient, float]] = {}  # by number of the delivery

    def read(self, lines: "Iterable[bytes]") -> None:
        """Take note of lines, each with its LF or without."""
        for line in lines:
            when, text = split_time(line.rstrip(b"\n"))
            if when is None or not FIRST_TIME <= when < LAST_TIME:
                self.timeless += 1
                continue
            if self.first is None or when < self.first:
                self.first = when
            self.last = max(self.last, when)
            word = text.partition(b" ")[0]
            if word in _READERS:
                _READERS[word](self, text, when)

    def _note_message(self, text: bytes, when: float) -> None:
        """`info msg 123: bytes 283 from <joe@example.com> qp ...`"""
        number, _, rest = text.removeprefix(b"info msg ").partition(b": bytes ")
        size, _, sender = rest.partition(b" from <")
        if _is_number(size) and len(self._open) < MAX_OPEN:
            domain = domain_part(sender.partition(b"> qp ")[0]).lower()
            self._open[number] = LoggedMessage(when, int(size), domain)

    def _note_end(self, text: bytes, when: float) -> None:
        self._open.pop(text.removeprefix(b"end msg "), None)

    def _note_start(self, text: bytes, when: float) -> None:
        """`starting delivery 8: msg 123 to remote u@example.com`"""
        delivery, _, rest = text.removeprefix(b"starting delivery ").partition(b": msg ")
        number, is_remote, address = rest.partition(b" to remote ")
        if not is_remote:
            return
        if self.tries >= MAX_TRIES:
            self.left_out += 1
            return
        self.tries += 1
        message = self._open.get(number)
        if message is None:
            message = self._open[number] = LoggedMessage(when)
        if not message.recipients:
            self.messages.append(message)
        recipient = message.recipients.get(address)
        if recipient is None:
            domain = domain_part(address).lower() or address.lower()
            recipient = message.recipients[address] = LoggedRecipient(domain)
        self._running[delivery] = recipient, when

    def _note_result(self, text: bytes, when: float) -> None:
        """`delivery 8: success: 192.0.2.25_accepted_message./Remote_host_said:_250_ok/`"""
        delivery, _, rest = text.removeprefix(b"delivery ").partition(b": ")
        word, _, report = rest.partition(b": ")
        letter = _LETTERS.get(word)
        if letter is None or delivery not in self._running:
            return
        recipient, began = self._running.pop(delivery)
        said = b"" if letter == b"K" else _text_of(report)
        recipient.tries.append((began, max(0.0, when - began), letter + said))
        address = report.removeprefix(b"Connected_to_").partition(b"_")[0]
        if address[:1].isdigit():
            recipient.address = address

    def _note_limit(self, text: bytes, when: float) -> None:
        """`site example.com#mx: ceiling 5 for 600: 421_busy`, `... paused 60: refused: ...`, `... greeting 0.2 s`"""
        name, _, rest = text.partition(b" ")[2].partition(b": ")
        words = rest.split(b" ", 4)
        if words[0] == b"ceiling" and words[1:2] and _is_number(words[1]):
            self.ceilings.append((when, name, int(words[1])))
            self.refusals += 1
        elif words[0] == b"paused" and b"refused:" in words:
            self.refusals += 1
        elif b"greeting" in words and words[-1] == b"s":
            self.greetings[name.partition(b" by ")[0]] = _seconds(words[words.index(b"greeting") + 1])


_READERS = {
    b"info": LogRecords._note_message,
    b"end": LogRecords._note_end,
    b"starting": LogRecords._note_start,
    b"delivery": LogRecords._note_result,
    b"site": LogRecords._note_limit,
    b"org": LogRecords._note_limit,
}


def split_time(line: bytes) -> tuple[float | None, bytes]:
    """Return (Unix seconds, the rest) of a line; None if it begins with no time."""
    if line.startswith(b"@"):
        moment = read_text_label(line)
        if moment is not None:
            return moment[0] + moment[1] / 1e9, line[TEXT_BYTES:].lstrip(b" ")
        return None, line
    if line[10:11] not in (b" ", b"T") or any(line[place : place + 1] != mark for place, mark in _DATE_MARKS.items()):
        return None, line
    parts = [line[start:end] for start, end in _DATE_PLACES]
    if not all(map(bytes.isdigit, parts)):
        return None, line
    year, month, day, hour, minute, second = map(int, parts)
    fraction, _, rest = line[_DATE_BYTES:].partition(b" ")
    part = fraction.removesuffix(b"Z").removeprefix(b".")
    seconds = ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
    return seconds + (float(b"0." + part) if part.isdigit() else 0.0), rest


def _days(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a date.  The Gregorian calendar, years counted from March."""
    year -= month < 3
    since_march = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + since_march - 719468


def _text_of(report: bytes) -> bytes:
    """Return a report as it was before it was logged, as far as that can be told: `_` was a blank, the last `/` LF."""
    own, said, reply = report.rstrip(b"/").partition(_SAID)
    text = own.rstrip(b"/").replace(b"_", b" ") + b"\n"
    return text + said.replace(b"_", b" ") + reply.replace(b"_", b" ") + b"\n" if said else text


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _MAX_DIGITS


def _seconds(number: bytes) -> float:
    try:
        return min(max(0.0, float(number)), MAX_GREETING_SECONDS)  # it may say inf, or nan
    except ValueError:
        return 0.0
