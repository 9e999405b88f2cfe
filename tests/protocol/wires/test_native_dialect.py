"""The native dialect, byte for byte: tests/transcripts/native-wire.txt."""

import codecs
import os

import pytest

from pyqmail.protocol.wires import frames
from pyqmail.protocol.wires import native_dialect as wire
from pyqmail.protocol.wires.frames import MalformedFrame, strings

GOLDEN = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "transcripts/native-wire.txt"
)


class Place:
    """What OPEN tells."""

    source, helo, host, address, port = b"192.0.2.9", b"h.test", b"a.test", b"192.0.2.1", 25
    connect_seconds, greeting_seconds, reply_seconds, hedge_seconds = 60, 60.5, 1200.0, 2.25
    no_ehlo, no_pipelining = True, True


class OtherPlace:
    """What MORE tells."""

    source, helo, host, address, port = b"", b"", b"b", b"::1", 26
    connect_seconds, greeting_seconds, reply_seconds, hedge_seconds = 10, 60, 1e12, 0
    no_ehlo, no_pipelining = False, True


REPORT = b"Zno\n"
FRAMES = {
    "HELLO": wire.pack(wire.HELLO, 1000),
    "DELIVER_local": wire.deliver(5, b"12/2385526", b"s@x", [(5, b"ann@h")]),
    "DELIVER_batch": wire.deliver(wire.BATCH | 9, b"12/2385526", b"s@x", [(5, b"ann@h")]),
    "DELIVER_remote": wire.deliver(9, b"1/24", b"", [(7, b"ann@h"), (8, b"bob@h")]),
    "RESULT_local": wire.result(5, 7, b"Kdid it\n\0never seen"),
    "RESULT_batch": wire.result(wire.BATCH | 9, 7, b"Kdid it\n", True),
    "RESULT_remote": wire.result(9, 7, b"Kdid it\n", 3, 5),
    "OPEN": wire.open_session(9, Place),
    "MORE": wire.more(9, OtherPlace),
    "WAITING": wire.pack(wire.WAITING, 9),
    "READY": wire.ready(9, b"a.test", b"192.0.2.1", 10, 100, True, True),
    "REFUSED": wire.failure(wire.REFUSED, 9, "greeting", 421, b"a.test", b"192.0.2.1", REPORT),
    "FAILED": wire.failure(wire.FAILED, 9, "connect", 111, b"a.test", b"192.0.2.1", REPORT),
    "CLOSE": wire.pack(wire.CLOSE, 9),
    "CLOSED": wire.closed(9, "sender", 452, REPORT, 10),
    "CLOSED_by_us": wire.closed(9),
    "UNSENT": wire.unsent(9, 7),
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


def fields(place):
    return {name: value for name, value in vars(place).items() if not name.startswith("_")}


def test_bodies_come_back():
    found = bodies()
    assert wire.split_deliver(found["DELIVER_local"]) == (b"12/2385526", b"s@x", [(5, b"ann@h")])
    assert wire.split_deliver(found["DELIVER_remote"]) == (b"1/24", b"", [(7, b"ann@h"), (8, b"bob@h")])
    assert wire.split_result(found["RESULT_local"]) == (7, b"Kdid it\n", 0, 0)
    assert wire.split_result(found["RESULT_batch"]) == (7, b"Kdid it\n", 1, 0)
    assert wire.split_result(found["RESULT_remote"]) == (7, b"Kdid it\n", 3, 5)
    assert wire.split_place(found["OPEN"]) == fields(Place)
    longest = {"reply_seconds": wire.MAX_MILLISECONDS / 1000}
    assert wire.split_place(found["MORE"]) == fields(OtherPlace) | longest
    assert wire.split_ready(found["READY"]) == (b"a.test", b"192.0.2.1", 10, 100, True, True)
    assert wire.split_failure(found["REFUSED"]) == (b"greeting", 421, b"a.test", b"192.0.2.1", REPORT)
    assert wire.split_failure(found["FAILED"]) == (b"connect", 111, b"a.test", b"192.0.2.1", REPORT)
    assert wire.split_closed(found["CLOSED"]) == (b"sender", 452, REPORT, 10)
    assert wire.split_closed(found["CLOSED_by_us"]) == (b"", 0, b"", 0)
    assert wire.split_unsent(found["UNSENT"]) == 7


@pytest.mark.parametrize("code", [-9, 10_000, 1 << 40])
def test_what_is_no_code_is_told_as_none(code):
    [(_, _, body)] = wire.Unpacker().receive(wire.failure(wire.FAILED, 9, "here", code, b"", b"", b"Za\0b\n"))
    assert wire.split_failure(body) == (b"here", 0, b"", b"", b"Za?b\n")


def test_an_end_of_another_version_is_known_at_its_first_frame():
    with pytest.raises(MalformedFrame):
        wire.Unpacker().receive(frames.pack(wire.HELLO, 1000))


PLACE = [b"", b"", b"h", b"a", b"25", b"1", b"1", b"1", b"1", b""]


def place_with(at, text):
    return strings(*PLACE[:at], text, *PLACE[at + 1 :])


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
        (wire.split_result, b"1\0Kok\0x\0"),
        (wire.split_result, b"1\0Kok\x001\x001\x001\0"),
        (wire.split_result, b"1\0Kok\x001\0x\0"),
        (wire.split_place, b""),
        (wire.split_place, strings(*PLACE[:-1])),
        (wire.split_place, place_with(4, b"65536")),
        (wire.split_place, place_with(5, b"2000000001")),
        (wire.split_place, place_with(8, b"1.5")),
        (wire.split_place, place_with(9, b"ex")),
        (wire.split_ready, strings(b"h", b"a", b"0", b"0", b"e")),
        (wire.split_ready, strings(b"h", b"a", b"", b"0", b"")),
        (wire.split_failure, strings(b"connect", b"x", b"h", b"a", b"Z")),
        (wire.split_closed, strings(b"", b"0", b"")),
        (wire.split_unsent, b""),
    ],
)
def test_nonsense_is_malformed(split, body):
    with pytest.raises(MalformedFrame):
        split(body)
