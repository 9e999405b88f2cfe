"""The frame all our wires share, byte for byte and in any pieces."""

import pytest

from pyqmail.protocol.wires.frames import LIMIT, MalformedFrame, Unpacker, pack, split_strings, strings

FRAMES = [
    # kind, number, body        bytes
    ((1, 0, b""), b"\0\0\0\x06\x01\x01\0\0\0\0"),
    ((2, 7, b"abc"), b"\0\0\0\x09\x01\x02\0\0\0\x07abc"),
    ((255, 0xFFFFFFFF, b"\0\xff"), b"\0\0\0\x08\x01\xff\xff\xff\xff\xff\0\xff"),
]
WIRE = b"".join(data for _, data in FRAMES)


@pytest.mark.parametrize("frame, data", FRAMES)
def test_a_frame_has_these_bytes(frame, data):
    assert pack(*frame) == data
    assert Unpacker().receive(data) == [frame]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_frames_are_the_same_in_any_pieces(size):
    unpacker = Unpacker()
    got = [frame for at in range(0, len(WIRE), size) for frame in unpacker.receive(WIRE[at : at + size])]
    assert got == [frame for frame, _ in FRAMES]
    assert unpacker.is_empty


MALFORMED = [
    b"\0\0\0\x06\x02\x01\0\0\0\0",  # another version
    b"\0\0\0\x05\x01\x01\0\0\0\0",  # shorter than its head
    b"\xff\xff\xff\xff\x01\x01\0\0\0\0",  # longer than any
    b"GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", MALFORMED)
def test_what_is_not_a_frame_is_malformed(data):
    with pytest.raises(MalformedFrame):
        Unpacker().receive(data)


def test_the_limit_is_on_what_follows_the_length():
    assert Unpacker(16).receive(pack(1, 1, bytes(10))) == [(1, 1, bytes(10))]
    with pytest.raises(MalformedFrame):
        Unpacker(16).receive(pack(1, 1, bytes(11)))
    assert len(pack(1, 1, bytes(LIMIT - 6))) == LIMIT + 4
    with pytest.raises(MalformedFrame):
        pack(1, 1, bytes(LIMIT - 5))


def test_a_frame_too_long_is_refused_before_it_is_held():
    with pytest.raises(MalformedFrame):
        Unpacker(16).receive(pack(1, 1, bytes(11))[:10])


def test_a_part_of_a_frame_is_held():
    unpacker = Unpacker()
    assert unpacker.receive(WIRE[:12]) == [FRAMES[0][0]]
    assert not unpacker.is_empty


STRINGS = [
    ([], b""),
    ([b""], b"\0"),
    ([b"a", b"", b"bc"], b"a\0\0bc\0"),
]


@pytest.mark.parametrize("texts, body", STRINGS)
def test_strings_are_ended_by_nul(texts, body):
    assert strings(*texts) == body
    assert split_strings(body) == texts


def test_strings_are_strict():
    with pytest.raises(MalformedFrame):
        strings(b"a\0b")
    with pytest.raises(MalformedFrame):
        split_strings(b"a\0b")


def test_a_frame_that_dribbles_is_not_copied_for_each_piece():
    unpacker, frame = Unpacker(), pack(1, 1, bytes(3 << 20))
    got = []
    for at in range(len(frame)):  # copying what is held for each byte would be five thousand billion bytes
        got += unpacker.receive(frame[at : at + 1])
    assert got == [(1, 1, bytes(3 << 20))]
    assert unpacker.is_empty


def test_the_size_of_the_frame_under_way_is_known():
    unpacker, frame = Unpacker(), pack(1, 1, b"abc")
    sizes = []
    for at in range(len(frame)):
        sizes.append(unpacker.wanted_bytes)
        unpacker.receive(frame[at : at + 1])
    assert sizes == [0] + [10] * 9 + [len(frame)] * 3 and unpacker.wanted_bytes == 0
