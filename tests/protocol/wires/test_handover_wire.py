"""The hand-over's wire.  The transcript is the wire itself: a change of it is a new version."""

import os

import pytest

from pyqmail.protocol.wires import handover_wire as wire

TRANSCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), "transcripts/handover-wire.txt")
FIRST = [b"TCP", b"127.0.0.1", b"55555", b"", b"25", b"", b"", b"2 3 1"]
SECOND = [b"TCP6", b"fe80::9", b"4", b"fe80::1", b"25", b"eth0", b"", b""]
THIRD = [b"UNIX", b"unix", b"", b"/run/smtp", b"", b"", b"77 1000 100", b""]
CHANGED = {b"MAXCONNIP": b"7", b"MAXLOAD": b"350"}
SAID = [
    ("L", wire.pack(wire.RESOLVER, 0)),
    ("L", wire.connection(0x8001, FIRST)),
    ("L", wire.connection(0x8002, SECOND)),
    ("L", wire.connection(0x8003, THIRD)),
    ("W", wire.pack(wire.TAKEN, 3)),
    ("W", wire.end(0x8002, 111)),
    ("L", wire.pack(wire.PING, 1)),
    ("W", wire.pack(wire.PONG, 1)),
    ("W", wire.end(0x8001, 0)),
    ("W", wire.ended(0x8003, 4660, 9)),
    ("W", wire.ended(0x8004, 0, 0)),
    ("L", wire.limits(CHANGED)),
    ("W", wire.started(0x8005, 4661)),
]


def transcript():
    """Return [(who, bytes)] of the file: L: and W: lines, bytes in hexadecimal, blanks between for the eye."""
    lines = open(TRANSCRIPT).read().splitlines()
    return [(line[0], bytes.fromhex(line[2:])) for line in lines if line[:2] in ("L:", "W:")]


def test_frames_are_those_of_the_transcript():
    assert transcript() == SAID


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_the_transcript_reads_the_same_in_any_pieces(size):
    data = b"".join(data for _, data in transcript())
    unpacker = wire.Unpacker()
    got = [frame for at in range(0, len(data), size) for frame in unpacker.receive(data[at : at + size])]
    assert unpacker.is_empty
    assert [(kind, number) for kind, number, _ in got] == [
        (wire.RESOLVER, 0),
        (wire.CONNECTION, 0x8001),
        (wire.CONNECTION, 0x8002),
        (wire.CONNECTION, 0x8003),
        (wire.TAKEN, 3),
        (wire.END, 0x8002),
        (wire.PING, 1),
        (wire.PONG, 1),
        (wire.END, 0x8001),
        (wire.ENDED, 0x8003),
        (wire.ENDED, 0x8004),
        (wire.LIMITS, 0),
        (wire.STARTED, 0x8005),
    ]
    assert [wire.split_connection(got[at][2]) for at in (1, 2, 3)] == [FIRST, SECOND, THIRD]
    assert [wire.split_end(got[at][2]) for at in (5, 8)] == [111, 0]
    assert [wire.split_ended(got[at][2]) for at in (9, 10)] == [(4660, 9), (0, 0)]
    assert wire.split_limits(got[11][2]) == CHANGED
    assert wire.split_started(got[12][2]) == 4661


def changed(at, text):
    return b"".join(word + b"\0" for word in [*FIRST[:at], text, *FIRST[at + 1 :]])


BAD = [
    b"",
    b"TCP\0",
    changed(0, b"UDP"),
    changed(1, b""),
    changed(2, b"x"),
    changed(6, b"a"),
    changed(7, b"-1"),
    changed(3, b"")[:-1],
]


@pytest.mark.parametrize("body", BAD)
def test_what_is_no_connection_is_malformed(body):
    with pytest.raises(wire.MalformedFrame):
        wire.split_connection(body)


@pytest.mark.parametrize("body", [b"", b"\0\0"])
def test_an_exit_code_is_one_byte(body):
    with pytest.raises(wire.MalformedFrame):
        wire.split_end(body)


@pytest.mark.parametrize("body", [b"", bytes(7), bytes(9)])
def test_a_process_and_its_end_are_eight_bytes(body):
    with pytest.raises(wire.MalformedFrame):
        wire.split_ended(body)


@pytest.mark.parametrize("body", [b"", bytes(3), bytes(5)])
def test_a_process_is_four_bytes(body):
    with pytest.raises(wire.MalformedFrame):
        wire.split_started(body)


@pytest.mark.parametrize("body", [b"MAXCONNIP\0", b"MAXCONNIP\0x\0", b"MAXCONNIP\0\0", b"MAXCONNIP\0007"])
def test_limits_are_names_and_digits(body):
    with pytest.raises(wire.MalformedFrame):
        wire.split_limits(body)


def test_a_frame_longer_than_the_wire_allows_is_malformed():
    with pytest.raises(wire.MalformedFrame):
        wire.Unpacker().receive(wire.pack(wire.CONNECTION, 1, bytes(wire.LIMIT_BYTES)))
