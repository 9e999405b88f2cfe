"""The native dialect, byte for byte: tests/transcripts/native-wire.txt."""

import codecs
import os

import pytest

from pyqmail.protocol.wires import native_dialect as wire
from pyqmail.protocol.wires.frames import MalformedFrame, strings

GOLDEN = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "transcripts/native-wire.txt"
)
CANDIDATES = [(b"a.test", b"192.0.2.1", 25), (b"b", b"::1", 26)]

FRAMES = {
    "HELLO": wire.pack(wire.HELLO, 1000),
    "DELIVER_local": wire.deliver(5, b"12/2385526", b"s@x", [(5, b"ann@h")]),
    "DELIVER_remote": wire.deliver(9, b"1/24", b"", [(7, b"ann@h"), (8, b"bob@h")]),
    "RESULT": wire.result(5, 7, b"Kdid it\n\0never seen"),
    "OPEN": wire.open_session(9, b"d.test", b"", CANDIDATES),
    "READY": wire.pack(wire.READY, 9, strings(b"a.test", b"192.0.2.1")),
    "REFUSED": wire.pack(wire.REFUSED, 9, strings(b"greeting", b"421", b"a.test", b"192.0.2.1", b"Zno\n")),
    "FAILED": wire.pack(wire.FAILED, 9, strings(b"connect", b"111", b"a.test", b"192.0.2.1", b"Zno\n")),
    "CLOSE": wire.pack(wire.CLOSE, 9),
    "CLOSED": wire.pack(wire.CLOSED, 9, strings(b"a.test", b"192.0.2.1")),
    "UNSENT": wire.pack(wire.UNSENT, 9, strings(b"7")),
    "TRYING": wire.pack(wire.TRYING, 9, strings(b"a.test", b"192.0.2.1")),
}


def golden():
    with open(GOLDEN, "rb") as file:
        lines = [line.rstrip(b"\n").split(None, 2) for line in file if not line.startswith(b"#")]
    return {name.decode(): codecs.escape_decode(text)[0] for _, name, text in lines}


def test_every_frame_has_its_bytes():
    assert golden() == FRAMES


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_the_bytes_mean_the_frames_in_any_pieces(size):
    data, unpacker, got = b"".join(golden().values()), wire.Unpacker(), []
    for at in range(0, len(data), size):
        got += unpacker.receive(data[at : at + size])
    assert [wire.pack(*frame) for frame in got] == list(FRAMES.values()) and unpacker.is_empty


def bodies():
    [*frames] = wire.Unpacker().receive(b"".join(golden().values()))
    return {name: body for name, (_, _, body) in zip(FRAMES, frames, strict=True)}


def test_bodies_come_back():
    found = bodies()
    assert wire.split_deliver(found["DELIVER_local"]) == (b"12/2385526", b"s@x", [(5, b"ann@h")])
    assert wire.split_deliver(found["DELIVER_remote"]) == (b"1/24", b"", [(7, b"ann@h"), (8, b"bob@h")])
    assert wire.split_result(found["RESULT"]) == (7, b"Kdid it\n")
    assert wire.split_open(found["OPEN"]) == (b"d.test", b"", CANDIDATES)


@pytest.mark.parametrize(
    "split, body",
    [
        (wire.split_deliver, b""),
        (wire.split_deliver, b"1/24\0s\0"),
        (wire.split_deliver, b"1/24\0s\0x\0ann@h\0"),
        (wire.split_deliver, b"1/24\0s\x007\0ann@h"),
        (wire.split_deliver, b"1/24\0s\x007\0ann@h\0extra\0"),
        (wire.split_result, b"Kok\0"),
        (wire.split_result, b"-1\0Kok\0"),
        (wire.split_open, b"d\0\0"),
        (wire.split_open, b"d\0\0h\0a\0port\0"),
    ],
)
def test_nonsense_is_malformed(split, body):
    with pytest.raises(MalformedFrame):
        split(body)
