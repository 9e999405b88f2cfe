"""The wire to pyresolve, byte for byte: tests/transcripts/resolve-wire.txt."""

import codecs
import os

import pytest

from pyqmail.protocol.wires import resolve_wire as wire
from pyqmail.protocol.wires.frames import MalformedFrame, strings

GOLDEN = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "transcripts/resolve-wire.txt"
)

FRAMES = {
    # name: kind, number, body
    "EXCHANGERS": (wire.EXCHANGERS, 7, strings(b"d.test")),
    "ADDRESSES": (wire.ADDRESSES, 8, strings(b"h.test")),
    "NAME": (wire.NAME, 9, strings(b"10.1.2.3")),
    "TEXT": (wire.TEXT, 10, strings(b"t.test")),
    "ADDRESSES6": (wire.ADDRESSES6, 11, strings(b"h.test")),
    "ADDRESSES4": (wire.ADDRESSES4, 12, strings(b"h.test")),
    "HOSTS": (wire.HOSTS, 13, strings(b"d.test")),
    "RELAY": (wire.RELAY, 14, strings(b"h.test")),
    "exchangers": (wire.FOUND, 7, wire.exchangers_body([(10, b"a.test", b"10.0.0.1"), (20, b"b.test", b"10.0.0.2")])),
    "addresses": (wire.FOUND, 8, strings(b"10.0.0.1", b"10.0.0.2")),
    "name": (wire.FOUND, 9, strings(b"n.test")),
    "no_name": (wire.FOUND, 9, b""),
    "text": (wire.FOUND, 10, strings(b"abc")),
    "soft": (wire.SOFT, 7, strings(b"timed out")),
    "hosts": (wire.HOSTS_FOUND, 13, wire.hosts_body(300, False, [(10, b"a.test", b"10.0.0.1")])),
    "stale": (wire.HOSTS_FOUND, 14, wire.hosts_body(60, True, [(0, b"h.test", b"10.0.0.2")])),
    "no_mail": (wire.NO_MAIL, 13, b""),
    "unable": (wire.UNABLE, 11, strings(b"out of memory")),
    "no_host": (wire.NO_HOST, 7, b""),
    "no_record": (wire.NO_RECORD, 7, b""),
}


def golden():
    with open(GOLDEN, "rb") as file:
        lines = [line.rstrip(b"\n").split(None, 2) for line in file if not line.startswith(b"#")]
    return {name.decode(): codecs.escape_decode(text)[0] for _, name, text in lines}


def test_every_frame_has_its_bytes():
    assert {name: wire.pack(*frame) for name, frame in FRAMES.items()} == golden()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_the_bytes_mean_the_frames_in_any_pieces(size):
    data, unpacker, got = b"".join(golden().values()), wire.Unpacker(), []
    for at in range(0, len(data), size):
        got += unpacker.receive(data[at : at + size])
    assert got == list(FRAMES.values())


def test_hosts_body_comes_back():
    hosts = 300, True, [(0, b"d.test", b"::1"), (65535, b"x", b"10.0.0.1")]
    assert wire.split_hosts(wire.hosts_body(*hosts)) == hosts


@pytest.mark.parametrize("body", [b"", b"60\0", b"60\x002\0", b"x\x000\0", b"60\x000\x001\0a\0", b"99999999\x000\0"])
def test_hosts_that_are_nonsense_are_malformed(body):
    with pytest.raises(MalformedFrame):
        wire.split_hosts(body)


def test_exchangers_body_comes_back():
    found = [(0, b"d.test", b"::1"), (65535, b"x", b"10.0.0.1")]
    assert wire.split_exchangers(wire.exchangers_body(found)) == found


@pytest.mark.parametrize("body", [b"1\0a\0", b"x\0a\010.0.0.1\0", b"1\0a\010.0.0.1", b"\0a\0b\0"])
def test_nonsense_is_malformed(body):
    with pytest.raises(MalformedFrame):
        wire.split_exchangers(body)
