"""The wire between pylspawn and its warm workers: one frame (protocol/wires/frames.py) in each packet of a socket pair.

    kind          from      body
    LOOKUP     1  pylspawn  a local part, as it is
    ACCOUNT    2  worker    exit code of qmail-getpw (1 byte); if 0 its six NUL-ended fields
    DELIVER    3  pylspawn  for each message user, home, local, dash, ext, domain, sender, each ended by NUL; the
                            descriptors of the messages
    NEED       4  worker    empty: a program is about to run and wants somewhere to write
    OUTPUT     5  pylspawn  empty; with the descriptor to write to, none if there is no pipe to be had
    DONE       6  worker    exit code of qmail-local (1 byte); the text it wrote itself, NUL and all
    STORED     7  worker    for each message that is done, with 0, and went to Maildirs alone: its number, the text

A worker has one thing to do at a time: one LOOKUP, or one DELIVER of 1 to MAX_TOGETHER messages.  The messages of a
DELIVER are numbered from 0; number is that of the message in NEED and DONE, and 0 in all else.  Each has one
answer, by DONE or STORED, when it is final; the worker begins them in their order, and makes those together that go to
Maildirs alone.  A message whose descriptor did not arrive is DONE with 111.  A packet is at most PACKET_LIMIT bytes.
The worker ends when the socket does.  pylspawn believes a worker nothing but what concerns the deliveries it has:
anything malformed and it is killed.
pyqmail-wires(5) describes the wire for a program that stands at one end of it.
"""

from pyqmail.protocol.wires import frames
from pyqmail.protocol.wires.frames import MalformedFrame, number_in, split_strings, strings

LOOKUP, ACCOUNT, DELIVER, NEED, OUTPUT, DONE, STORED = range(1, 8)
PACKET_LIMIT = 69632
BODY_LIMIT = PACKET_LIMIT - 10
MAX_TOGETHER = 20  # messages of one DELIVER
_FIELDS = 7


def pack(kind: int, body: bytes = b"", number: int = 0) -> bytes:
    """Return one packet.  Raises MalformedFrame if it is too long."""
    packet = frames.pack(kind, number, body)
    if len(packet) > PACKET_LIMIT:
        raise MalformedFrame("packet too long")
    return packet


def unpack(packet: bytes) -> tuple[int, int, bytes]:
    """Return (kind, number, body) of one packet.  Raises MalformedFrame."""
    unpacker = frames.Unpacker(PACKET_LIMIT)
    found = unpacker.receive(packet)
    if len(found) != 1 or not unpacker.is_empty:
        raise MalformedFrame("not one frame in a packet")
    return found[0]


def message_fields(recipient: tuple[bytes, bytes, bytes, bytes, bytes, bytes], sender: bytes) -> bytes:
    """Return what DELIVER has for one message.  recipient: user, home, local, dash, ext, domain.

    Raises MalformedFrame, also if it is too long for any packet.
    """
    fields = strings(*recipient, sender)
    if len(fields) > BODY_LIMIT:
        raise MalformedFrame("packet too long")
    return fields


def split_deliver(body: bytes) -> list[list[bytes]]:
    """Return [user, home, local, dash, ext, domain, sender] of each message of DELIVER.  Raises MalformedFrame."""
    fields = split_strings(body)
    if not fields or len(fields) % _FIELDS or len(fields) > _FIELDS * MAX_TOGETHER:
        raise MalformedFrame("DELIVER needs seven strings for each message")
    return [fields[at : at + _FIELDS] for at in range(0, len(fields), _FIELDS)]


def stored(done: list[tuple[int, bytes]]) -> bytes:
    """Return a STORED packet of (number of the message, text)."""
    return pack(STORED, strings(*(text for number, said in done for text in (b"%d" % number, said))))


def split_stored(body: bytes) -> list[tuple[int, bytes]]:
    """Return (number, text) of each message of STORED.  Raises MalformedFrame."""
    texts = split_strings(body)
    if not texts or len(texts) % 2:
        raise MalformedFrame("STORED without messages")
    return [(number_in(texts[at]), texts[at + 1]) for at in range(0, len(texts), 2)]


def code_body(code: int, text: bytes = b"") -> bytes:
    """Return the body of ACCOUNT or DONE."""
    return bytes([code]) + text


def split_code(body: bytes) -> tuple[int, bytes]:
    """Return (exit code, text) of ACCOUNT or DONE.  Raises MalformedFrame."""
    if not body:
        raise MalformedFrame("no exit code")
    return body[0], body[1:]
