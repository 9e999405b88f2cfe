"""The wire of pysend's status socket.  The transcript is the wire itself: a change of it is a new version."""

import json
import os

import pytest

from pyqmail.protocol.wires import send_status_wire as wire

TRANSCRIPT = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(__file__))), "transcripts/send-status-wire.txt"
)
COMMON = {"pid": 77, "now": 1700000000.5}
TOP_ROW = {
    "name": "example.com",
    "sessions": 5,
    "limit": 10,
    "ceiling": None,
    "ready": 812,
    "accepted": 120,
    "deferred": 3,
    "refused": 1,
    "state": "",
}
TOP = {
    **COMMON,
    "total": 2000,
    "used": 6,
    "connecting": 1,
    "open": 5,
    "longest_turn_ms": 3.25,
    "rows": [TOP_ROW],
    "left_out": 2,
}
SHAPE_ROW = {
    "name": "caf\udce9.example",
    "total": 3,
    "flying": 1,
    "ready": 1,
    "retry": 1,
    "ages": [3, *[0] * 9],
    "state": "paused: 421_later",
}
SHAPE = {
    **COMMON,
    "key": "domain",
    "rows": [SHAPE_ROW],
    "total": {**SHAPE_ROW, "name": "TOTAL", "state": ""},
    "left_out": 0,
}
HOST = {"name": "mx.example.com", "preference": 10, "addresses": ["192.0.2.1"], "state": "ok"}
BUDGET = {
    "name": "example.com#mx",
    "kind": "site",
    "used": 5,
    "limit": 10,
    "learned": 5,
    "owner": "421_too_many",
    "paused_seconds": None,
    "stands_here": True,
}
ENTRY = {
    "channel": "remote",
    "domain": "example.com",
    "recipients": 1,
    "state": "capped",
    "reason": "5 of 5 in use",
    "site": "example.com#mx",
    "hosts": [HOST],
    "answer_age": 12.5,
    "budgets": [BUDGET],
    "place": 1,
    "expected_seconds": 3.5,
    "last_reply": "421 too many",
}
WHY = {**COMMON, "subject": "example.com", "entries": [ENTRY]}
ERROR = {**COMMON, "error": "unknown question"}
DIALOGUES = [
    # question                             kind         fields
    (wire.top(1000),                        wire.TOP,    TOP),
    (wire.shape(b"domain", 20),             wire.SHAPE,  SHAPE),
    (wire.why(wire.DOMAIN, b"example.com"), wire.WHY,    WHY),
    (b"what\n",                             wire.TOP,    ERROR),
]  # fmt: skip


def transcript():
    """Return [(question, answer)] of the transcript."""
    lines = []
    with open(TRANSCRIPT, "rb") as file:
        lines = [line for line in file if line.startswith((b"C: ", b"S: "))]
    return [(asked[3:], answer[3:]) for asked, answer in zip(lines[::2], lines[1::2], strict=True)]


def test_questions_and_answers_are_those_of_the_transcript():
    assert [(question, wire.pack(fields)) for question, _, fields in DIALOGUES] == transcript()


@pytest.mark.parametrize("question, kind, fields", DIALOGUES[:3])
def test_the_transcript_is_understood(question, kind, fields):
    answers = dict(transcript())
    assert wire.split_question(question)[0] == kind
    assert wire.unpack(kind, answers[question]) == {"version": 1, **fields}


def test_an_error_is_raised_with_its_words():
    with pytest.raises(wire.MalformedSendStatus, match="^unknown question$"):
        wire.unpack(wire.TOP, wire.pack(ERROR))


SPLIT = [
    (b"top 1\n", (wire.TOP, b"", 1)),
    (b"shape sender 100000\n", (wire.SHAPE, b"sender", 100_000)),
    (b"why message 12\n", (wire.WHY, b"message", b"12")),
    (b"why recipient a b@x\n", (wire.WHY, b"recipient", b"a b@x")),
]


@pytest.mark.parametrize("line, parts", SPLIT)
def test_a_question_is_split(line, parts):
    assert wire.split_question(line) == parts


NOT_QUESTIONS = [
    *(b"", b"\n", b"top 1", b"top\n", b"top 0\n", b"top 100001\n", b"top -1\n", b"top 1\n\n", b"TOP 1\n"),
    *(b"shape colour 1\n", b"shape domain\n", b"shape domain x\n", b"why\n", b"why domain\n", b"why domain \n"),
    *(b"why message x\n", b"why what 1\n", b"why domain " + b"x" * 1024 + b"\n", b"top 1\ntop 1\n"),
    b"top " + b"9" * 900 + b"\n",
]


@pytest.mark.parametrize("line", NOT_QUESTIONS)
def test_what_is_no_question_is_refused(line):
    with pytest.raises(wire.MalformedSendStatus):
        wire.split_question(line)


def without(fields, *path):
    """Return a copy of fields without the last of path."""
    copy = json.loads(json.dumps(fields))
    place = copy
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return copy


INCOMPLETE = [
    *((wire.TOP, without(TOP, name)) for name in TOP),
    *((wire.TOP, without(TOP, "rows", 0, name)) for name in TOP_ROW),
    *((wire.SHAPE, without(SHAPE, name)) for name in SHAPE),
    *((wire.SHAPE, without(SHAPE, "total", name)) for name in SHAPE_ROW),
    *((wire.WHY, without(WHY, name)) for name in WHY),
    *((wire.WHY, without(WHY, "entries", 0, name)) for name in ENTRY),
    *((wire.WHY, without(WHY, "entries", 0, "hosts", 0, name)) for name in HOST),
    *((wire.WHY, without(WHY, "entries", 0, "budgets", 0, name)) for name in BUDGET),
]


@pytest.mark.parametrize("kind, fields", INCOMPLETE)
def test_a_field_that_is_missing_is_noticed(kind, fields):
    with pytest.raises(wire.MalformedSendStatus, match="missing or of the wrong kind"):
        wire.unpack(kind, wire.pack(fields))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b'{"version":2}', b"[" * 100_000])
def test_what_is_no_answer_is_refused(data):
    with pytest.raises(wire.MalformedSendStatus):
        wire.unpack(wire.TOP, data)


def test_a_count_is_not_negative_and_not_huge():
    for count in (-1, 1 << 64, None, "1"):
        with pytest.raises(wire.MalformedSendStatus):
            wire.unpack(wire.TOP, wire.pack({**TOP, "total": count}))
