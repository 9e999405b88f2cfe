"""The wire to pyqueued.  The transcript is the wire itself: a change of it is a new version."""

import os

import pytest

from pyqmail.protocol.wires.queue_wire import (
    ANSWER,
    DESCRIPTORS,
    INLINE,
    MalformedFrame,
    Unpacker,
    answer_body,
    inline_body,
    pack,
    split_answer,
    split_inline,
)

TRANSCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), "transcripts/queue-wire.txt")
ENVELOPE, MESSAGE = b"Fa@b.example\0Tc@d.example\0\0", b"Subject: x\n\nhello\n"
SAID = [
    # who, kind, number, body
    ("C", INLINE, 1, inline_body(ENVELOPE, MESSAGE)),
    ("S", ANSWER, 1, answer_body(0, 1795621018)),
    ("C", DESCRIPTORS, 2, b""),
    ("C", INLINE, 3, inline_body(b"", b"")),
    ("S", ANSWER, 3, answer_body(54, 0)),
    ("S", ANSWER, 2, answer_body(82, 0, b"Dnot here (#5.7.1)")),
]


def transcript():
    """Return [(who, bytes)] of the file: C: and S: lines, bytes in hexadecimal, blanks between for the eye."""
    lines = open(TRANSCRIPT).read().splitlines()
    return [(line[0], bytes.fromhex(line[2:])) for line in lines if line[:2] in ("C:", "S:")]


def test_frames_are_those_of_the_transcript():
    assert [(who, pack(kind, number, body)) for who, kind, number, body in SAID] == transcript()


@pytest.mark.parametrize("size", [1, 5, 4096])
@pytest.mark.parametrize("who", ["C", "S"])
def test_the_transcript_reads_the_same_in_any_pieces(who, size):
    data = b"".join(data for sayer, data in transcript() if sayer == who)
    unpacker = Unpacker()
    got = [frame for at in range(0, len(data), size) for frame in unpacker.receive(data[at : at + size])]
    assert got == [said[1:] for said in SAID if said[0] == who]


INLINES = [
    (b"", b""),
    (ENVELOPE, b""),
    (ENVELOPE, MESSAGE),
    (ENVELOPE, bytes(range(256))),
]


@pytest.mark.parametrize("envelope, message", INLINES)
def test_an_inline_body_is_split_where_it_was_joined(envelope, message):
    assert split_inline(inline_body(envelope, message)) == (envelope, message)


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\x01", b"\xff\xff\xff\xffabc"])
def test_an_envelope_longer_than_its_frame_is_malformed(body):
    with pytest.raises(MalformedFrame):
        split_inline(body)


def test_an_answer_has_exit_code_qp_and_text():
    assert answer_body(11, 0x0102) == b"\x0b\0\0\0\0\0\0\x01\x02"
    assert split_answer(answer_body(82, 5, b"Dno")) == (82, 5, b"Dno")
    with pytest.raises(MalformedFrame):
        split_answer(b"\0" * 8)
