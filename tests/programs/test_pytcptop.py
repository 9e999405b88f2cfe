"""The table and its words; what is said when nobody answers.  With a real server: tests/interop/test_life_cycle.py."""

import pytest

from pyqmail.programs import pytcptop
from pyqmail.protocol.wires import status_wire
from tests.answering import Answering

ROW = {
    "number": 32769,
    "protocol": "TCP",
    "ip": "192.0.2.1",
    "port": 4711,
    "since": 1000.5,
    "state": "established",
    "received": 1536,
    "sent": 0,
    "idle_ms": 61000,
}
STATUS = {
    "server": "tcpserver",
    "pid": 77,
    "since": 900.0,
    "now": 4600.5,
    "serving_mode": "worker pool",
    "listening": ["192.0.2.9:25"],
    "limit": 40,
    "count": 1,
    "is_ending": False,
    "workers": [{"pid": 78, "sessions": 1}],
    "connections": [ROW],
}
NOTHING = {"state": None, "received": None, "sent": None, "idle_ms": None}


def test_a_table():
    unix = {**ROW, **NOTHING, "number": 5, "protocol": "UNIX", "ip": "unix", "port": 0}
    assert pytcptop.table({**STATUS, "connections": [ROW, unix]}) == [
        "tcpserver 77: 192.0.2.9:25; 1/40, up 1h01m",
        "worker pool, worker 78: 1",
        "",
        "NUMBER  PROTO  CLIENT     PORT    AGE   IDLE  STATE        RECEIVED  SENT",
        " 32769  TCP    192.0.2.1  4711  1h00m  1m01s  established      1.5k     0",
        "     5  UNIX   unix          -  1h00m      -  -                   -     -",
    ]


def test_who_is_limited_and_by_what():
    limited = [{"client": "2001:db8::/64", "limit": "clientmessages", "times": 3, "idle_ms": 1000}]
    assert pytcptop.table({**STATUS, "limited": limited})[2:4] == [
        "limited: 2001:db8::/64 by clientmessages, 3 refused, the last 1s ago",
        "",
    ]
    lines = pytcptop.table({**STATUS, "limited": limited * 12})
    assert len([line for line in lines if line.startswith("limited: 2001")]) == 10
    assert lines[12] == "limited: 2 more"


def test_nobody_is_connected_and_nobody_will_be():
    status = {
        **STATUS,
        "listening": [],
        "workers": [],
        "connections": [],
        "serving_mode": "spawn each",
        "is_ending": True,
    }
    assert pytcptop.table(status)[:3] == [
        "tcpserver 77: nowhere; 1/40, up 1h01m",
        "spawn each, accepts no more connections",
        "",
    ]


LINES = [
    # connections  room   lines  last
    (1,            None,  5,     " 32769"),
    (1,            5,     5,     " 32769"),
    (2,            5,     5,     "and 2 more"),
    (100,          10,    10,    "and 95 more"),
    (3,            1,     1,     "and 7 more"),
    (3,            0,     1,     "and 7 more"),
]  # fmt: skip


@pytest.mark.parametrize("connections, room, count, last", LINES)
def test_what_has_no_room_is_counted(connections, room, count, last):
    lines = pytcptop.table({**STATUS, "connections": [ROW] * connections}, room)
    assert len(lines) == count
    assert lines[-1].startswith(last)


def test_nothing_steers_the_terminal():
    odd = "\x1b[2J\n\t\x7f\u202e" + status_wire.text(b"\xe9\x9b")
    status = {
        **STATUS,
        "server": odd,
        "serving_mode": odd,
        "listening": [odd],
        "connections": [{**ROW, "ip": odd, "state": odd, "protocol": odd}],
    }
    text = "".join(pytcptop.table(status))
    assert text.isascii() and text.isprintable()
    assert "^[[2J^J^I^?" in text


def test_the_table_is_plain_text_where_there_is_no_terminal(run, tmp_path):
    path = str(tmp_path / "status")
    with Answering(path, status_wire.pack(STATUS)):
        shown = run("pytcptop", path)
    assert (shown.code, shown.err) == (0, b"")
    assert shown.out.decode().splitlines() == pytcptop.table(STATUS)


@pytest.mark.parametrize(
    "data, why",
    [
        (b"", "not JSON"),
        (b"{}", "not a status of version 2"),
        (status_wire.pack(STATUS)[:-20], "not JSON"),
        (status_wire.pack({**STATUS, "now": "x"}), "a field is missing or of the wrong kind: now"),
    ],
)
def test_what_is_not_understood_is_said(run, tmp_path, data, why):
    path = str(tmp_path / "status")
    with Answering(path, data):
        shown = run("pytcptop", "--once", path)
    assert (shown.code, shown.out) == (111, b"")
    assert shown.err.decode() == f"pytcptop: fatal: unable to understand {path}: {why}\n"


def test_nobody_answers(run, tmp_path):
    (tmp_path / "file").touch()
    for place, why in (
        (tmp_path / "nonesuch", "file does not exist"),
        (tmp_path / "file", "connection refused"),
        ("x" * 200, "AF_UNIX path too long"),
    ):
        shown = run("pytcptop", str(place))
        assert (shown.code, shown.err.decode()) == (111, f"pytcptop: fatal: unable to read {place}: {why}\n")
    assert run("pytcptop").code == 100
