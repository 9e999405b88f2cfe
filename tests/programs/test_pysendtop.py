"""The table of sessions.  With pysend: tests/interop."""

import pytest

from pyqmail.programs import pysendtop
from pyqmail.protocol.wires import send_status_wire as wire
from tests.answering import Answering

ROW = {
    "name": "example.com",
    "sessions": 5,
    "limit": 10,
    "ceiling": 5,
    "ready": 812,
    "accepted": 120,
    "deferred": 3,
    "refused": 1,
    "state": "full: ceiling 5: 421_too_many",
}
ANSWER = {
    "pid": 77,
    "now": 1700000000.5,
    "total": 2000,
    "used": 6,
    "connecting": 1,
    "open": 5,
    "longest_turn_ms": 3.25,
    "rows": [ROW, {**ROW, "name": "b", "ceiling": None, "state": ""}],
    "left_out": 0,
}
TABLE = [
    "pysend 77: 6/2000 in use; 5 sessions open, 1 connecting; longest turn 3.2 ms",
    "",
    "ORGANISATION  SESSIONS  LIMIT  CEILING  READY  ACCEPTED  DEFERRED  REFUSED  STATE",
    "example.com          5     10        5    812       120         3        1  full: ceiling 5: 421_too_many",
    "b                    5     10        -    812       120         3        1  -",
]


def test_a_table():
    assert pysendtop.table(ANSWER) == TABLE
    assert pysendtop.table({**ANSWER, "left_out": 7}) == [*TABLE, "and 7 more"]
    assert pysendtop.table(ANSWER, 4) == [*TABLE[:3], "and 2 more"]


@pytest.mark.parametrize("words", [[], ["--once"]])
def test_it_is_shown_once_where_there_is_no_terminal(run, tmp_path, words):
    path = str(tmp_path / "pysend")
    with Answering(path, wire.pack(ANSWER), asks=True) as server:
        shown = run("pysendtop", *words, "--socket", path)
    assert (shown.code, shown.err, server.asked) == (0, b"", b"top 1000\n")
    assert shown.out.decode().splitlines() == TABLE


def test_nobody_answers(run, tmp_path):
    shown = run("pysendtop", env={"PYQMAIL_HOME": str(tmp_path)})
    assert shown.code == 111
    assert shown.err.decode() == f"pysendtop: fatal: unable to read {tmp_path}/run/pysend: file does not exist\n"
