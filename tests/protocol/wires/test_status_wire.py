"""The status socket's wire.  The transcript is the wire itself: a change of it is a new version."""

import json
import os

import pytest

from pyqmail.protocol.wires import status_wire as wire

TRANSCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), "transcripts/status-wire.txt")
KNOWN = {
    "number": 32769,
    "protocol": "TCP",
    "ip": "192.0.2.1",
    "port": 4711,
    "since": 1700000000.25,
    "state": "established",
    "received": 5,
    "sent": 18446744073709551615,
    "idle_ms": 1200,
}
UNKNOWN = {
    "number": 32770,
    "protocol": "UNIX",
    "ip": "unix",
    "port": 0,
    "since": 1700000001,
    "state": None,
    "received": None,
    "sent": None,
    "idle_ms": None,
}
FIELDS = {
    "server": "tcpserver",
    "pid": 77,
    "since": 1699999999.5,
    "now": 1700000002.125,
    "serving_mode": "worker pool",
    "listening": ["192.0.2.9:25", "[2001:db8::1]:25", wire.text(b"/run/sm\xe9p")],
    "limit": 40,
    "count": 2,
    "is_ending": False,
    "workers": [{"pid": 78, "sessions": 2}],
    "limited": [{"client": "2001:db8::/64", "limit": "clientmessages", "times": 3, "idle_ms": 1500}],
    "connections": [KNOWN, UNKNOWN],
}


def transcript():
    with open(TRANSCRIPT, "rb") as file:
        return b"".join(line[3:] for line in file if line.startswith(b"S: "))


def test_a_document_is_that_of_the_transcript():
    assert wire.pack(FIELDS) == transcript()


def test_the_transcript_is_understood():
    assert wire.unpack(transcript()) == {"version": 2, **FIELDS}


def test_an_older_server_limits_nobody():
    before = {name: value for name, value in FIELDS.items() if name != "limited"}
    assert wire.unpack(wire.pack(before))["limited"] == []


def test_what_a_later_server_adds_is_kept():
    assert wire.unpack(wire.pack({**FIELDS, "more": 1}))["more"] == 1


NOT_JSON = [b"", b"{", b"[" * 100000, b"\xff\xfe", transcript()[:-3], transcript() + b"x", b"1" * 5000]


@pytest.mark.parametrize("data", NOT_JSON, ids=range(len(NOT_JSON)))
def test_what_is_cut_or_garbage_is_malformed(data):
    with pytest.raises(wire.MalformedStatus):
        wire.unpack(data)


WAYS = [("resident", "worker pool"), ("forking", "fork each"), ("spawning", "spawn each"), ("another", "another")]


@pytest.mark.parametrize("way, serving_mode", WAYS)
def test_version_1_is_understood(way, serving_mode):
    before = {"version": 1, **FIELDS, "way": way}
    del before["serving_mode"]
    assert wire.unpack(json.dumps(before).encode()) == {**FIELDS, "version": 1, "serving_mode": serving_mode}


@pytest.mark.parametrize("way", [None, 1, [], {}])
def test_a_field_of_the_wrong_kind_is_malformed_in_version_1_too(way):
    before = {"version": 1, **FIELDS, "way": way}
    with pytest.raises(wire.MalformedStatus, match="serving_mode"):
        wire.unpack(json.dumps(before).encode())


@pytest.mark.parametrize("fields", [[], None, 1, {}, {"version": 3}, {"version": "1"}, {"version": []}])
def test_another_version_is_not_understood(fields):
    with pytest.raises(wire.MalformedStatus, match="not a status of version 2"):
        wire.unpack(json.dumps(fields).encode())


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [None, "x" * 3, [1], -1, 1 << 64, float("nan"), float("inf"), [None], {}])
def test_a_field_of_the_wrong_kind_is_malformed(name, value):
    if type(value) is str and type(FIELDS[name]) is str:
        return
    with pytest.raises(wire.MalformedStatus):
        wire.unpack(wire.pack({**FIELDS, name: value}))


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("value", [[], -1, 1e300, float("nan")])
def test_a_field_of_a_connection_too(name, value):
    with pytest.raises(wire.MalformedStatus):
        wire.unpack(wire.pack({**FIELDS, "connections": [{**KNOWN, name: value}]}))


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "limited"])
def test_no_field_may_be_missing(name):
    with pytest.raises(wire.MalformedStatus):
        wire.unpack(wire.pack({key: value for key, value in FIELDS.items() if key != name}))
