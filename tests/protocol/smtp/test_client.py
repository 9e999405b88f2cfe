"""Replies as the original reads them.  Whole conversations: tests/mail/remote/test_smtp_delivery.py."""

import tracemalloc

import pytest

from pyqmail.protocol.smtp.client import CONTENT, OVER, Client
from pyqmail.protocol.smtp.reply import MALFORMED, REPLY_LIMIT, ReplyParser
from pyqmail.protocol.smtp.report import DATA, MESSAGE, RECIPIENTS, SENDER, refused

REPLIES = [
    # from the server                          code, text
    (b"250 ok\r\n", [(250, b"250 ok\n")]),
    (b"250 ok\n", [(250, b"250 ok\n")]),
    (b"250\n", [(250, b"250\n")]),
    (b"250\r\n", [(250, b"250\n")]),
    (b"250ok\r\n", [(250, b"250ok\n")]),
    (b"250-a\r\n250-b\r\n250 c\r\n", [(250, b"250-a\n250-b\n250 c\n")]),
    (b"250-a\r\n250\n", [(250, b"250-a\n250\n")]),
    (b"220 a\r\n250 b\r\n", [(220, b"220 a\n"), (250, b"250 b\n")]),
    (b"250 a\0b\xff\r\n", [(250, b"250 a\0b\xff\n")]),
    (b"250 " + b"x" * 6000 + b"\r\n221 y\r\n", [(250, b"250 " + b"x" * 4996), (221, b"221 y\n")]),
    (b"250-" + b"x" * (REPLY_LIMIT - 12) + b"\r\n250 \r\n", [(250, b"250-" + b"x" * 4996)]),
    (b"25", []),
    (b"250 ok", []),
    (b"250-ok\r\n", []),
    # what is no reply is the last
    (b"250-a\r\n550\n250 b\r\n", [(MALFORMED, b"250-a\n550\n")]),
    (b"250-a\r\n\r\n250 x\r\n", [(MALFORMED, b"250-a\n\n")]),
    (b"250-a\r\n b\r\n250 x\r\n", [(MALFORMED, b"250-a\n b\n")]),
    (b"220 a\r\nhello\r\n250 b\r\n", [(220, b"220 a\n"), (MALFORMED, b"hello\n")]),
    (b"2x0 ok\r\n", [(MALFORMED, b"2x0 ok\n")]),
    (b"2500 ok\r\n", [(MALFORMED, b"2500 ok\n")]),
    (b"25\n250 x\r\n", [(MALFORMED, b"25\n")]),
    (b"\r\n250 x\r\n", [(MALFORMED, b"\n")]),
    (b"    \r\n", [(MALFORMED, b"    \n")]),
    ("२५० ok\r\n".encode(), [(MALFORMED, "२५० ok\n".encode())]),
    (b"250-" + b"x" * (REPLY_LIMIT - 11) + b"\r\n250 \r\n", [(MALFORMED, b"250-" + b"x" * 4996)]),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 65536])
@pytest.mark.parametrize("sent, wanted", REPLIES)
def test_replies_are_the_same_in_any_pieces(sent, wanted, size):
    replies, got = ReplyParser(), []
    for at in range(0, len(sent), size):
        replies.receive(sent[at : at + size])
        while (reply := replies.next_reply()) is not None:
            got.append(reply)
    assert got == wanted


@pytest.mark.parametrize("piece", [b"x" * 65536, b"250-x\r\n" * 9000, b"250-" + b"y" * 65530 + b"\r\n"])
def test_a_reply_without_end_does_not_grow(piece):
    replies, got = ReplyParser(), []
    replies.receive(b"250-")
    tracemalloc.start()
    try:
        for _ in range(50):
            replies.receive(piece)
            got.append(replies.next_reply())
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()
    assert [reply[0] for reply in got if reply is not None] == [MALFORMED]


def begun(*replies, recipients=2):
    """Return a client whose pipelined transaction was answered so."""
    client = Client(b"h.example")
    client.receive(b"220 x\r\n250-x\r\n250 PIPELINING\r\n")
    client.begin_transaction(b"s@x.test", [b"u%d@d.test" % number for number in range(recipients)])
    client.receive(b"".join(reply + b"\r\n" for reply in replies))
    return client


ODD = [
    # replies                                           refusal
    ((b"354 go",), (SENDER, 354)),
    ((b"150 wait",), (SENDER, 150)),
    ((b"600 what",), (SENDER, 600)),
    ((b"050 ok",), (SENDER, 50)),
    ((b"ok",), (SENDER, MALFORMED)),
    ((b"250 ok", b"354 go"), (RECIPIENTS, 354)),
    ((b"250 ok", b"250 ok", b"334 go"), None),  # the first recipient was fine
    ((b"250 ok", b"250 ok", b"250 ok", b"250 go on"), (DATA, 250)),
    ((b"250 ok", b"250 ok", b"250 ok", b"220 ready"), (DATA, 220)),
    ((b"250 ok", b"250 ok", b"250 ok", b"199 go on"), (DATA, 199)),
    ((b"250 ok", b"250 ok", b"250 ok", b"354-go\r\n250 on"), (DATA, MALFORMED)),
]


@pytest.mark.parametrize("replies, refusal", ODD)
def test_what_means_nothing_there_ends_the_connection(replies, refusal):
    client = begun(*replies)
    assert client.state == OVER and client.is_leaving
    assert (client.refusal and client.refusal[:2]) == refusal


@pytest.mark.parametrize("reply", [b"354 go", b"150 ok", b"600 ok", b"ok", b"250-ok\r\n550 no"])
def test_content_wants_a_yes(reply):
    client = begun(b"250 ok", b"250 ok", b"250 ok", b"354 go")
    assert client.state == CONTENT
    client.content_ended()
    client.receive(reply + b"\r\n")
    assert client.state == OVER and client.refusal[0] == MESSAGE
    assert refused(*client.refusal[:1], b"192.0.2.1", *client.refusal[1:])[:1] == b"Z"


def test_data_that_somebody_waits_for_is_not_ended_with_a_dot():
    """The sender was refused, but a recipient and DATA were not: the dot would be an empty message."""
    client = begun(b"550 no", b"250 ok", b"550 no", b"354 go")
    assert (
        client.refusal[:2] == (SENDER, 550) and client.state == OVER and not client.take_output().endswith(b"\r\n.\r\n")
    )


def test_a_reset_that_is_refused_leaves_recipients_behind():
    client = begun(b"550 no", b"503 no", b"503 no", b"503 no")
    client.begin_transaction(b"s@x.test", [b"a@d.test"])
    assert b"\r\nRSET\r\nMAIL" in client.take_output() and client.state == "talking"
    client.receive(b"502 what\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert client.state == OVER and client.refusal is None and not client.has_begun
