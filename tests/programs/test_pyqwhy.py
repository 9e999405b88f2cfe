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
    "hosts": [
        {"name": "mx1.example.com", "preference": 10, "addresses": ["192.0.2.1"], "state": "off 135"},
        {"name": "mx2.example.com", "preference": 20, "addresses": ["192.0.2.2", "2001:db8::2"], "state": ""},
    ],
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
    "today": {"accepted": 7, "deferred": 3, "failed": 0, "refused": 1},
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
    "today": None,
    "state": "asking",
    "reason": "name servers are asked",
}
ANSWER = {"pid": 77, "now": 1700000000.5, "subject": "example.com", "entries": [ENTRY, BARE]}
SHOWN = """\
example.com, remote: 812 recipients, dead
    dead: 3 starts failed: connect timed out
    place 3 among the destinations that wait for it
    it should go in 11m20s, at 22:24:40
    last reply: connect timed out
    today: 7 accepted, 3 deferred, 0 failed; sessions refused: 1
    site example.com#mx1+1, found 4m10s ago
    host mx1.example.com (10) 192.0.2.1: off 135
    host mx2.example.com (20) 192.0.2.2 2001:db8::2
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
        shown = run("pyqwhy", "--socket", path, subject, env={"TZ": "UTC"})
    assert (shown.code, shown.err, server.asked) == (0, b"", question)
    assert shown.out.decode() == SHOWN


def test_a_time_of_another_day_has_its_date(run, tmp_path):
    path = str(tmp_path / "pysend")
    entry = {**BARE, "expected_seconds": 86400.0}
    with Answering(path, wire.pack({**ANSWER, "entries": [entry]}), asks=True):
        shown = run("pyqwhy", "--socket", path, "example.com", env={"TZ": "UTC"})
    assert b"it should go in 1d00h, at 2023-11-15 22:13\n" in shown.out


def test_what_an_older_pysend_does_not_tell_is_left_out(run, tmp_path):
    path = str(tmp_path / "pysend")
    entry = {name: value for name, value in BARE.items() if name != "today"}
    with Answering(path, wire.pack({**ANSWER, "entries": [entry]}), asks=True):
        shown = run("pyqwhy", "--socket", path, "example.com")
    assert (shown.code, b"today" in shown.out) == (0, False)


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
