"""The native dialect between pysend and its spawners: frames (protocol/wires/frames.py), one pipe each way.

number is a delivery for DELIVER and RESULT on the local pipe, a session everywhere else.  Bodies are
NUL-ended strings (frames.strings); numbers in them are decimal, times are milliseconds.

    kind          from      body
    HELLO      1  spawner   empty; number is the most deliveries (local) or sessions (remote) it takes at once
    DELIVER    2  pysend    path below queue/mess, sender, then for each recipient: delivery, recipient
    RESULT     3  spawner   delivery, report: K, Z or D and text, as a spawner reports it to qmail-send;
                            remote: carried, accepted; local, of a batch: together
    OPEN       4  pysend    source address, name to greet with, host, address, port, time to connect, to be greeted,
                            for each reply, until WAITING, flags
    READY      5  spawner   host, address: greeted, mail may come; messages, recipients, flags
    REFUSED    6  spawner   stage (greeting, helo), code, host, address, report
    FAILED     7  spawner   stage (connect, dialogue, here), errno, host, address, report
    CLOSE      8  pysend    empty: say QUIT when nothing is in flight; drop what still connects
    CLOSED     9  spawner   stage, code, report, carried: the peer has gone, the session's units are free
    UNSENT    10  spawner   delivery: to be made by another session; what came of it here does not count
    MORE      12  pysend    as OPEN: another address for a session that has not greeted
    WAITING   13  spawner   empty: an address has not answered in its time

Local: DELIVER with one recipient, RESULT in the order of completion; number is the delivery, repeated inside, or, with
the bit BATCH set, a batch.  The deliveries of a batch go to one recipient, and stand for one at a time: they are begun
in the order of their DELIVERs, none before the one before it has ended, but those that go to Maildirs alone may be made
together.  Each has its own RESULT, which for a delivery of a batch has a third text, together: 1 if it went to Maildirs
alone, so that the next may well be of a batch with others, 0 if not.  A spawner that knows no batches makes them as any
deliveries, and its RESULT has two texts: so pysend puts no second delivery into a batch before it has seen a 1.

Remote: OPEN has one address, MORE adds one, beside or after others.  source and name are empty for any, and for
control/helohost; the time until WAITING is 0 for never.  Flags: e, greet with HELO; p, one command at a time.  WAITING
comes at most once for an address.  The first that sends its greeting wins: all others are dropped before EHLO, and
each is FAILED (connect, ECANCELED).  The winner is then READY, or REFUSED or FAILED as any other.  REFUSED and FAILED
speak of one address and end nothing: a session that has none left waits for MORE or CLOSE.  A MORE that comes once one
has won is kept for the case that this one fails after all; with READY, and with CLOSED, it is dropped and not answered.

    stage      code of REFUSED, FAILED
    greeting   that of the reply; 0 for one that is no reply
    helo       so
    connect    the errno; ECANCELED: another address won
    dialogue   ETIMEDOUT if it was silent for too long, 0 if the connection was lost
    here       the errno, 0 without one: something is lacking here, the address was not to blame

READY: messages are how many the server takes over a connection, recipients how many in a transaction; 0 if it did not
say (RFC 9422 section 4).  Flags: h, it was greeted with HELO; p, it gets one command at a time.

After READY, DELIVER is answered by one RESULT or UNSENT for each of its deliveries.  carried is how many messages the
connection had taken before this one.  accepted is 0, or, if the rest of the recipients went into another transaction
since there were too many, how many of this one were accepted.

CLOSED comes exactly once for each OPEN, last: after CLOSE, or by itself after READY, once the server takes no more.
stage is empty if we ended the session; else one of sender, recipients, data, message, where the server refused what the
connection was to carry, or left, with the code and words of its reply (0: no reply at all), or dialogue, where it was
gone, code 421 if it had said so.  The report is a deferral in any case: it ends no mail.  carried is how many messages
it took in all.  What was ordered and neither reported nor UNSENT before CLOSED was not begun: a DELIVER that crosses
it is not answered.  DELIVER, MORE and CLOSE for a session that is not there are ignored.

End of file from pysend: finish what is in flight, report it, and exit 0.  A frame that means nothing here, of another
version, or longer than the LIMIT of all frames, is MalformedFrame: the spawner exits 111, pysend treats it as a lost
spawner.
pyqmail-wires(5) describes the wire for a program that stands at one end of it.
"""

from pyqmail.protocol.wires import frames
from pyqmail.protocol.wires.frames import MalformedFrame, number_in, split_strings, strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Place(Protocol):
        """What OPEN and MORE tell: mail/destinations/orders.py, Opening."""

        source: bytes
        helo: bytes
        host: bytes
        address: bytes
        port: int
        connect_seconds: float
        greeting_seconds: float
        reply_seconds: float
        hedge_seconds: float
        no_ehlo: bool
        no_pipelining: bool


VERSION = 2  # 1 had all candidates in OPEN, and TRYING, 11

HELLO, DELIVER, RESULT, OPEN, READY, REFUSED, FAILED, CLOSE, CLOSED, UNSENT = range(1, 11)
MORE, WAITING = 12, 13

BATCH = 1 << 31  # of the number of DELIVER and RESULT on the local pipe

MAX_PORT = 65535
MAX_CODE = 9999  # of a reply, or an errno
MAX_MILLISECONDS = 2_000_000_000  # poll() takes no more
HAS_NO_EHLO, HAS_NO_PIPELINING, IS_HELO_ONLY = b"e", b"p", b"h"  # flags

_TIMES = ("connect_seconds", "greeting_seconds", "reply_seconds", "hedge_seconds")


def pack(kind: int, number: int, body: bytes = b"") -> bytes:
    """Return one frame.  Raises MalformedFrame if the body is too long."""
    return frames.pack(kind, number, body, VERSION)


def Unpacker() -> frames.Unpacker:
    """Return what takes this wire's frames apart."""
    return frames.Unpacker(version=VERSION)


def deliver(number: int, path: bytes, sender: bytes, recipients: list[tuple[int, bytes]]) -> bytes:
    """Return a DELIVER frame; recipients are (delivery, address)."""
    pairs = [text for delivery, address in recipients for text in (b"%d" % delivery, address)]
    return pack(DELIVER, number, strings(path, sender, *pairs))


def split_deliver(body: bytes) -> tuple[bytes, bytes, list[tuple[int, bytes]]]:
    """Return (path, sender, [(delivery, address)]).  Raises MalformedFrame."""
    texts = split_strings(body)
    if len(texts) < 4 or len(texts) % 2:
        raise MalformedFrame("DELIVER without recipients")
    return texts[0], texts[1], [(number_in(texts[i]), texts[i + 1]) for i in range(2, len(texts), 2)]


def result(number: int, delivery: int, report: bytes, *counts: int) -> bytes:
    """Return a RESULT frame; a NUL in the report ends it.

    counts: of a session, carried and accepted; of a batch, together.
    """
    texts = b"%d" % delivery, report.partition(b"\0")[0], *(b"%d" % count for count in counts)
    return pack(RESULT, number, strings(*texts))


def split_result(body: bytes) -> tuple[int, bytes, int, int]:
    """Return (delivery, report, carried or together, accepted); 0 for what it does not tell.  Raises MalformedFrame."""
    texts = split_strings(body)
    if len(texts) in (2, 3):
        texts += [b"0"] * (4 - len(texts))
    delivery, report, carried, accepted = _texts(texts, 4)
    return number_in(delivery), report, number_in(carried), number_in(accepted)


def open_session(number: int, place: "Place") -> bytes:
    """Return an OPEN frame."""
    return pack(OPEN, number, _place_body(place))


def more(number: int, place: "Place") -> bytes:
    """Return a MORE frame."""
    return pack(MORE, number, _place_body(place))


def split_place(body: bytes) -> "dict[str, Any]":
    """Return what OPEN or MORE tells, under the names of Place.  Raises MalformedFrame."""
    source, helo, host, address, port, *times, flags = _texts(split_strings(body), 10)
    found: dict[str, Any] = {"source": source, "helo": helo, "host": host, "address": address}
    found["port"] = number_in(port, MAX_PORT)
    for name, text in zip(_TIMES, times, strict=True):
        found[name] = number_in(text, MAX_MILLISECONDS) / 1000
    found["no_ehlo"], found["no_pipelining"] = _flags(flags, HAS_NO_EHLO, HAS_NO_PIPELINING)
    return found


def ready(
    number: int,
    host: bytes,
    address: bytes,
    messages: int = 0,
    recipients: int = 0,
    has_helo_only: bool = False,
    has_no_pipelining: bool = False,
) -> bytes:
    """Return a READY frame."""
    flags = has_helo_only * IS_HELO_ONLY + has_no_pipelining * HAS_NO_PIPELINING
    return pack(READY, number, strings(host, address, b"%d" % messages, b"%d" % recipients, flags))


def split_ready(body: bytes) -> tuple[bytes, bytes, int, int, bool, bool]:
    """Return what ready() was given.  Raises MalformedFrame."""
    host, address, messages, recipients, flags = _texts(split_strings(body), 5)
    is_helo_only, has_no_pipelining = _flags(flags, IS_HELO_ONLY, HAS_NO_PIPELINING)
    return host, address, number_in(messages), number_in(recipients), is_helo_only, has_no_pipelining


def failure(kind: int, number: int, stage: str, code: int, host: bytes, address: bytes, report: bytes) -> bytes:
    """Return a REFUSED or FAILED frame; what is no code is 0, a NUL in a text is `?`."""
    texts = stage.encode(), _code(code), host, address, report.replace(b"\0", b"?")
    return pack(kind, number, strings(*texts))


def split_failure(body: bytes) -> tuple[bytes, int, bytes, bytes, bytes]:
    """Return (stage, code, host, address, report) of REFUSED or FAILED.  Raises MalformedFrame."""
    stage, code, host, address, report = _texts(split_strings(body), 5)
    return stage, number_in(code, MAX_CODE), host, address, report


def closed(number: int, stage: str = "", code: int = 0, report: bytes = b"", carried: int = 0) -> bytes:
    """Return a CLOSED frame; what is no code is 0, a NUL in the report is `?`."""
    return pack(CLOSED, number, strings(stage.encode(), _code(code), report.replace(b"\0", b"?"), b"%d" % carried))


def split_closed(body: bytes) -> tuple[bytes, int, bytes, int]:
    """Return (stage, code, report, carried).  Raises MalformedFrame."""
    stage, code, report, carried = _texts(split_strings(body), 4)
    return stage, number_in(code, MAX_CODE), report, number_in(carried)


def unsent(number: int, delivery: int) -> bytes:
    """Return an UNSENT frame."""
    return pack(UNSENT, number, strings(b"%d" % delivery))


def split_unsent(body: bytes) -> int:
    """Return the delivery of UNSENT.  Raises MalformedFrame."""
    return number_in(_texts(split_strings(body), 1)[0])


def _place_body(place: "Place") -> bytes:
    times = place.connect_seconds, place.greeting_seconds, place.reply_seconds, place.hedge_seconds
    return strings(
        *(place.source, place.helo, place.host, place.address, b"%d" % place.port),
        *(b"%d" % min(MAX_MILLISECONDS, round(seconds * 1000)) for seconds in times),
        place.no_ehlo * HAS_NO_EHLO + place.no_pipelining * HAS_NO_PIPELINING,
    )


def _flags(text: bytes, *letters: bytes) -> list[bool]:
    """Return which of the letters are in text.  Raises MalformedFrame for another one."""
    if text.strip(b"".join(letters)):
        raise MalformedFrame("unknown flag")
    return [letter in text for letter in letters]


def _code(code: int) -> bytes:
    return b"%d" % (code if 0 <= code <= MAX_CODE else 0)


def _texts(texts: list[bytes], count: int) -> list[bytes]:
    if len(texts) != count:
        raise MalformedFrame("not the texts of this frame")
    return texts
