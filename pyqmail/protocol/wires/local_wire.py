"""The wire between pylspawn and its warm workers: one frame (protocol/wires/frames.py) in each packet of a socket pair.

    kind          from      body
    LOOKUP     1  pylspawn  a local part, as it is
    ACCOUNT    2  worker    exit code of qmail-getpw (1 byte); if 0 its six NUL-ended fields
    DELIVER    3  pylspawn  user, home, local, dash, ext, domain, sender, each ended by NUL; the message's descriptor
    NEED       4  worker    empty: a program is about to run and wants somewhere to write
    OUTPUT     5  pylspawn  empty; with the descriptor to write to, none if there is no pipe to be had
    DONE       6  worker    exit code of qmail-local (1 byte); the text it wrote itself, NUL and all

number is always 0: a worker has one thing to do at a time.  A packet is at most PACKET_LIMIT bytes.  The worker
ends when the socket does.  pylspawn believes a worker nothing but what concerns the delivery it has: anything
malformed and it is killed.
pyqmail-wires(5) describes the wire for a program that stands at one end of it.
"""

from pyqmail.protocol.wires import frames
from pyqmail.protocol.wires.frames import MalformedFrame, split_strings, strings

LOOKUP, ACCOUNT, DELIVER, NEED, OUTPUT, DONE = range(1, 7)
PACKET_LIMIT = 69632


def pack(kind: int, body: bytes = b"") -> bytes:
    """Return one packet.  Raises MalformedFrame if it is too long."""
    packet = frames.pack(kind, 0, body)
    if len(packet) > PACKET_LIMIT:
        raise MalformedFrame("packet too long")
    return packet


def unpack(packet: bytes) -> tuple[int, bytes]:
    """Return (kind, body) of one packet.  Raises MalformedFrame."""
    unpacker = frames.Unpacker(PACKET_LIMIT)
    found = unpacker.receive(packet)
    if len(found) != 1 or not unpacker.is_empty:
        raise MalformedFrame("not one frame in a packet")
    return found[0][0], found[0][2]


def deliver(user: bytes, home: bytes, local: bytes, dash: bytes, ext: bytes, domain: bytes, sender: bytes) -> bytes:
    """Return a DELIVER packet.  Raises MalformedFrame."""
    return pack(DELIVER, strings(user, home, local, dash, ext, domain, sender))


def split_deliver(body: bytes) -> list[bytes]:
    """Return [user, home, local, dash, ext, domain, sender].  Raises MalformedFrame."""
    fields = split_strings(body)
    if len(fields) != 7:
        raise MalformedFrame("DELIVER needs seven strings")
    return fields


def code_body(code: int, text: bytes = b"") -> bytes:
    """Return the body of ACCOUNT or DONE."""
    return bytes([code]) + text


def split_code(body: bytes) -> tuple[int, bytes]:
    """Return (exit code, text) of ACCOUNT or DONE.  Raises MalformedFrame."""
    if not body:
        raise MalformedFrame("no exit code")
    return body[0], body[1:]
