"""What is asked and shown about a subject.  With pysend: tests/interop."""

import json

import pytest

from pyqmail.programs import pyqwhy
from pyqmail.protocol.wires import send_status_wire as wire
from tests.answering import Answering

ENTRY = {
    "channel": "remote",
    "domain": "example.com",
    "recipients": 812,
    "state": "dead",
    "reason": "dead: 3 starts failed: connect timed out",
    "site": "example.com#mx1+1",
    "hosts": [{"name": "mx1.example.com", "preference": 10, "addresses": ["192.0.2.1"], "state": "off 135"}],
    "answer_age": 250.0,
    "budgets": [
        {
            "name": "example.com#mx1+1",
            "kind": "site",
            "used": 1,
            "limit": 10,
            "learned": None,
            "owner": "default",
            "paused_seconds": 680.0,
            "stands_here": True,
        },
        {
            "name": "total",
            "kind": "total",
            "used": 5,
            "limit": 20,
            "learned": None,
            "owner": "concurrencyremote",
            "paused_seconds": None,
            "stands_here": False,
        },
    ],
    "place": 3,
    "expected_seconds": 680.0,
    "last_reply": "connect timed out",
}
BARE = {
    **ENTRY,
    "recipients": 1,
    "site": "",
    "hosts": [],
    "budgets": [],
    "place": None,
    "answer_age": None,
    "expected_seconds": None,
    "last_reply": "",
    "state": "asking",
    "reason": "name servers are asked",
}
ANSWER = {"pid": 77, "now": 1700000000.5, "subject": "example.com", "entries": [ENTRY, BARE]}
SHOWN = """\
example.com, remote: 812 recipients, dead
    dead: 3 starts failed: connect timed out
    place 3 of those that wait for it
    it should go in 11m20s
    last reply: connect timed out
    site example.com#mx1+1, found 4m10s ago
    host mx1.example.com (10) 192.0.2.1: off 135
     BUDGET             KIND   USED  LIMIT  LEARNED  PAUSED  SET BY
  >  example.com#mx1+1  site      1     10        -  11m20s  default
     total              total     5     20        -       -  concurrencyremote
example.com, remote: 1 recipient, asking
    name servers are asked
"""


SUBJECTS = [
    # subject              question
    ("4711",               b"why message 4711\n"),
    ("u@Example.com",      b"why recipient u@Example.com\n"),
    ("example.com",        b"why domain example.com\n"),
    ("a b@example.com",    b"why recipient a b@example.com\n"),
]  # fmt: skip


@pytest.mark.parametrize("subject, question", SUBJECTS)
def test_what_is_asked(run, tmp_path, subject, question):
    path = str(tmp_path / "pysend")
    with Answering(path, wire.pack(ANSWER), asks=True) as server:
        shown = run("pyqwhy", "--socket", path, subject)
    assert (shown.code, shown.err, server.asked) == (0, b"", question)
    assert shown.out.decode() == SHOWN


def test_nothing_waits(run, tmp_path):
    path = str(tmp_path / "pysend")
    with Answering(path, wire.pack({**ANSWER, "entries": []}), asks=True):
        shown = run("pyqwhy", "--socket", path, "example.com")
    assert (shown.code, shown.out) == (0, b"nothing waits for example.com\n")


def test_json(run, tmp_path):
    path = str(tmp_path / "pysend")
    with Answering(path, wire.pack(ANSWER), asks=True):
        shown = run("pyqwhy", "--json", "--socket", path, "example.com")
    assert json.loads(shown.out) == {"version": 1, **ANSWER}


def test_a_reply_cannot_steer_the_terminal():
    lines = pyqwhy.shown({**ANSWER, "entries": [{**BARE, "last_reply": "421 \x1b[2J\n"}]})
    assert lines[-1] == "    last reply: 421 ^[[2J^J"


@pytest.mark.parametrize("subject", ["", "a\nb", "x" * 2000])
def test_what_is_no_subject(run, subject):
    shown = run("pyqwhy", subject)
    assert shown.code == 100
    assert shown.err.endswith(b" is no message, recipient or domain\n")


def test_nobody_answers(run, tmp_path):
    shown = run("pyqwhy", "example.com", env={"PYQMAIL_HOME": str(tmp_path)})
    assert shown.code == 111
    assert shown.err.decode() == f"pyqwhy: fatal: unable to read {tmp_path}/run/pysend: file does not exist\n"
