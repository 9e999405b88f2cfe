"""The table, its JSON, its picture, and what is reported when pysend does not answer.  With pysend: tests/interop."""

import json

import pytest

from pyqmail.programs import pyqshape
from pyqmail.protocol.wires import send_status_wire as wire
from tests.answering import Answering

ROW = {
    "name": "yahoodns.net",
    "total": 30112,
    "flying": 10,
    "ready": 30102,
    "retry": 0,
    "ages": [30000, 112, *[0] * 8],
    "state": "full: @yahoo",
}
TOTAL = {
    "name": "TOTAL",
    "total": 41210,
    "flying": 412,
    "ready": 38011,
    "retry": 2787,
    "ages": [*range(10)],
    "state": "",
}
ANSWER = {"pid": 77, "now": 1700000000.5, "key": "organisation", "rows": [ROW], "total": TOTAL, "left_out": 0}
DOCUMENT = wire.pack(ANSWER)
TABLE = [
    "NAME              T  now  ready  retry      5   10  20  40  80  160  320  640  1280  1280+  state",
    "TOTAL         41210  412  38011   2787      0    1   2   3   4    5    6    7     8      9",
    "yahoodns.net  30112   10  30102      0  30000  112   0   0   0    0    0    0     0      0  full: @yahoo",
]


def test_a_table():
    assert pyqshape.table(ANSWER) == TABLE
    assert pyqshape.table({**ANSWER, "left_out": 3}) == [*TABLE, "and 3 more"]


def test_a_name_cannot_steer_the_terminal():
    lines = pyqshape.table({**ANSWER, "rows": [{**ROW, "name": "\x1b[2J\n\udce9", "state": "a\tb"}]})
    assert lines[-1].startswith("^[[2J^JM-i ") and lines[-1].endswith("a^Ib")


ASKED = [
    # words                                    question
    ([],                                       b"shape domain 20\n"),
    (["--by", "sender", "--most", "5"],        b"shape sender 5\n"),
    (["--by=organisation"],                    b"shape organisation 20\n"),
]  # fmt: skip


@pytest.mark.parametrize("words, question", ASKED)
def test_what_is_asked(run, tmp_path, words, question):
    path = str(tmp_path / "pysend")
    with Answering(path, DOCUMENT, asks=True) as server:
        shown = run("pyqshape", *words, "--socket", path)
    assert (shown.code, shown.err, server.asked) == (0, b"", question)
    assert shown.out.decode().splitlines() == TABLE


def test_json(run, tmp_path):
    path = str(tmp_path / "pysend")
    with Answering(path, DOCUMENT, asks=True):
        shown = run("pyqshape", "--json", "--socket", path)
    assert json.loads(shown.out) == {"version": 1, **ANSWER}


@pytest.mark.parametrize("name, head", [("shape.png", b"\x89PNG"), ("shape.svg", b"<?xml")])
def test_a_picture(run, tmp_path, name, head):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path, picture = str(tmp_path / "pysend"), tmp_path / name
    with Answering(path, DOCUMENT, asks=True):
        shown = run("pyqshape", "--plot", str(picture), "--socket", path)
    assert (shown.code, shown.out) == (0, b"")
    assert picture.read_bytes().startswith(head)


WRONG = [
    (["--by", "colour"], "unknown key"),
    (["--most", "0"], "out of range"),
    (["--most", "x"], "not a number: x"),
    (["--plot", "shape.gif"], "neither .png nor .svg"),
]


@pytest.mark.parametrize("words, why", WRONG)
def test_usage(run, words, why):
    shown = run("pyqshape", *words)
    assert shown.code == 100
    assert shown.err.decode().splitlines()[0] == f"pyqshape: {why}"


def test_nobody_answers(run, tmp_path):
    env = {"PYQMAIL_HOME": str(tmp_path)}
    shown = run("pyqshape", env=env)
    assert shown.code == 111
    assert shown.err.decode() == f"pyqshape: fatal: unable to read {tmp_path}/run/pysend: file does not exist\n"


def test_an_answer_that_is_an_error_is_reported(run, tmp_path):
    path = str(tmp_path / "pysend")
    with Answering(path, wire.pack({"pid": 1, "now": 2, "error": "not yet"}), asks=True):
        shown = run("pyqshape", "--socket", path)
    assert (shown.code, shown.err.decode()) == (111, f"pyqshape: fatal: unable to understand {path}: not yet\n")
