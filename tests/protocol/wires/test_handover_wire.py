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
    ("W", wire.ask(0x8006, 1, "clientmessages", 20, 60)),
    ("L", wire.answer(0x8006, 1, True)),
    ("W", wire.ask(0x8006, 2, "clientrecipients", 100, 3600)),
    ("L", wire.answer(0x8006, 2, False)),
    ("W", wire.above(0x8007, "clientnetwork")),
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
        (wire.ASK, 0x8006),
        (wire.ANSWER, 0x8006),
        (wire.ASK, 0x8006),
        (wire.ANSWER, 0x8006),
        (wire.ABOVE, 0x8007),
    ]
    assert [wire.split_connection(got[at][2]) for at in (1, 2, 3)] == [FIRST, SECOND, THIRD]
    assert [wire.split_end(got[at][2]) for at in (5, 8)] == [111, 0]
    assert [wire.split_ended(got[at][2]) for at in (9, 10)] == [(4660, 9), (0, 0)]
    assert wire.split_limits(got[11][2]) == CHANGED
    assert wire.split_started(got[12][2]) == 4661
    assert wire.split_ask(got[13][2]) == (1, "clientmessages", 20, 60)
    assert wire.split_ask(got[15][2]) == (2, "clientrecipients", 100, 3600)
    assert [wire.split_answer(got[at][2]) for at in (14, 16)] == [(1, True), (2, False)]
    assert wire.split_above(got[17][2]) == "clientnetwork"


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


ASKED = b"\0\0\0\1", b"\3", b"\0\0\0\x14", b"\0\0\0\x3c"  # serial, which limit, events, seconds
BAD_QUESTIONS = [
    b"",
    b"".join(ASKED)[:-1],
    b"".join(ASKED) + b"\0",
    b"".join((ASKED[0], b"\5", *ASKED[2:])),
    b"".join((*ASKED[:2], bytes(4), ASKED[3])),
    b"".join((*ASKED[:2], b"\x80\0\0\1", ASKED[3])),
    b"".join((*ASKED[:3], bytes(4))),
    b"".join((*ASKED[:3], (30 * 86400 + 1).to_bytes(4, "big"))),
]


@pytest.mark.parametrize("body", BAD_QUESTIONS)
def test_a_question_names_a_limit_that_there_is(body):
    assert wire.split_ask(b"".join(ASKED)) == (1, "clientmessages", 20, 60)
    with pytest.raises(wire.MalformedFrame):
        wire.split_ask(body)


@pytest.mark.parametrize("body", [b"", bytes(4), bytes(6), b"\0\0\0\1\2"])
def test_an_answer_is_yes_or_no(body):
    with pytest.raises(wire.MalformedFrame):
        wire.split_answer(body)


@pytest.mark.parametrize("body", [b"", b"\5", b"\0\0"])
def test_what_a_client_was_refused_by_is_a_limit(body):
    with pytest.raises(wire.MalformedFrame):
        wire.split_above(body)


@pytest.mark.parametrize("body", [b"MAXCONNIP\0", b"MAXCONNIP\0x\0", b"MAXCONNIP\0\0", b"MAXCONNIP\0007"])
def test_limits_are_names_and_digits(body):
    with pytest.raises(wire.MalformedFrame):
        wire.split_limits(body)


def test_a_frame_longer_than_the_wire_allows_is_malformed():
    with pytest.raises(wire.MalformedFrame):
        wire.Unpacker().receive(wire.pack(wire.CONNECTION, 1, bytes(wire.LIMIT_BYTES)))
