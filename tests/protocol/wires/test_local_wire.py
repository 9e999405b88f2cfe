"""The wire between pylspawn and its workers.  The transcript is the wire itself."""

import os

import pytest

from pyqmail.protocol.wires.local_wire import (
    ACCOUNT,
    DELIVER,
    DONE,
    LOOKUP,
    NEED,
    OUTPUT,
    PACKET_LIMIT,
    STORED,
    MalformedFrame,
    code_body,
    message_fields,
    pack,
    split_code,
    split_deliver,
    split_stored,
    stored,
    unpack,
)  # fmt: skip

TRANSCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), "transcripts/local-wire.txt")
FULL = [b"joe", b"/h/joe", b"joe-xyl", b"-", b"xyl", b"here.example", b"s@x.example"]
PLAIN = [b"joe", b"/h/joe", b"joe", b"", b"", b"h", b""]
TOGETHER = [[*PLAIN[:6], sender] for sender in (b"", b"s", b"s@x")]


def deliver(*messages):
    return pack(DELIVER, b"".join(message_fields(tuple(fields[:6]), fields[6]) for fields in messages))


SAID = [
    ("S", pack(LOOKUP, b"joe-xyl")),
    ("W", pack(ACCOUNT, code_body(0, b"joe\0001000\0001000\0/h/joe\0-\0xyl\0"))),
    ("S", pack(LOOKUP, b"x")),
    ("W", pack(ACCOUNT, code_body(116))),
    ("S", deliver(FULL)),
    ("W", pack(NEED)),
    ("S", pack(OUTPUT)),
    ("W", pack(DONE, code_body(100))),
    ("S", deliver(PLAIN)),
    ("W", pack(DONE, code_body(0, b"did 1+0+0\n"))),
    ("S", deliver(*TOGETHER)),
    ("W", stored([(0, b"did 1+0+0\n")])),
    ("W", pack(NEED, number=1)),
    ("S", pack(OUTPUT)),
    ("W", pack(DONE, code_body(111), 1)),
    ("W", stored([(2, b"did 1+0+0\n")])),
]


def transcript():
    with open(TRANSCRIPT, encoding="ascii") as file:
        lines = file.read().splitlines()
    return [(line[0], bytes.fromhex(line[2:])) for line in lines if line[:2] in ("S:", "W:")]


def test_packets_are_those_of_the_transcript():
    assert transcript() == SAID


def test_fields_come_back():
    for messages in ([FULL], [PLAIN], TOGETHER):
        kind, number, body = unpack(deliver(*messages))
        assert (kind, number, split_deliver(body)) == (DELIVER, 0, messages)
    assert split_code(code_body(7, b"a\0b")) == (7, b"a\0b")
    assert unpack(pack(DONE, code_body(0), 3)) == (DONE, 3, b"\0")
    kind, _, body = unpack(stored([(0, b"a\n"), (19, b"")]))
    assert (kind, split_stored(body)) == (STORED, [(0, b"a\n"), (19, b"")])


BAD = [b"", b"x", pack(NEED)[:-1], pack(NEED) + pack(NEED), pack(NEED) + b"x", b"\0\0\0\6\2\4\0\0\0\0"]


@pytest.mark.parametrize("packet", BAD)
def test_what_is_not_one_frame(packet):
    with pytest.raises(MalformedFrame):
        unpack(packet)


def test_limits():
    with pytest.raises(MalformedFrame):
        pack(DONE, b"x" * PACKET_LIMIT)
    with pytest.raises(MalformedFrame):
        message_fields((b"a\0b", *PLAIN[1:6]), b"")
    with pytest.raises(MalformedFrame):
        message_fields(tuple(PLAIN[:6]), b"x" * PACKET_LIMIT)
    for body in (b"", b"a\0b\0", b"a\0" * 8, b"a\0" * 7 * 21):
        with pytest.raises(MalformedFrame):
            split_deliver(body)
    for body in (b"", b"0\0", b"x\0did\0", b"0\0did"):
        with pytest.raises(MalformedFrame):
            split_stored(body)
    with pytest.raises(MalformedFrame):
        split_code(b"")
