"""Replies as the original reads them.  Whole conversations: tests/mail/remote/test_transmission.py."""

import tracemalloc

import pytest

from pyqmail.protocol.smtp_client import Replies

REPLIES = [
    # from the server                          code, text
    (b"250 ok\r\n", [(250, b"250 ok\n")]),
    (b"250 ok\n", [(250, b"250 ok\n")]),
    (b"250\n", [(250, b"250\n")]),
    (b"250\r\n", [(250, b"250\n")]),
    (b"250-a\r\n250-b\r\n250 c\r\n", [(250, b"250-a\n250-b\n250 c\n")]),
    (b"250-a\r\n550\n", [(250, b"250-a\n550\n")]),  # the first line's code counts
    (b"250-a\r\n\r\n x\r\n", [(250, b"250-a\n\n x\n")]),  # three bytes are skipped, whatever they are
    (b"220 a\r\n250 b\r\n", [(220, b"220 a\n"), (250, b"250 b\n")]),
    (b"2x0 ok\r\n", [(920, b"2x0 ok\n")]),
    (b"    \r\n", [((1 << 64) - 1776, b"    \n")]),
    (b"250 a\0b\xff\r\n", [(250, b"250 a\0b\xff\n")]),
    (b"250 " + b"x" * 6000 + b"\r\n221 y\r\n", [(250, b"250 " + b"x" * 4996), (221, b"221 y\n")]),
    (b"25", []),
    (b"250 ok", []),
    (b"250-ok\r\n", []),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 65536])
@pytest.mark.parametrize("sent, wanted", REPLIES)
def test_replies_are_the_same_in_any_pieces(sent, wanted, size):
    replies, got = Replies(), []
    for at in range(0, len(sent), size):
        replies.receive(sent[at : at + size])
        while (reply := replies.next()) is not None:
            got.append(reply)
    assert got == wanted


@pytest.mark.parametrize("piece", [b"x" * 65536, b"250-x\r\n" * 9000, b"250-" + b"y" * 65530 + b"\r\n"])
def test_a_reply_without_end_does_not_grow(piece):
    replies = Replies()
    replies.receive(b"250-")
    tracemalloc.start()
    try:
        for _ in range(50):
            replies.receive(piece)
            assert replies.next() is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()
