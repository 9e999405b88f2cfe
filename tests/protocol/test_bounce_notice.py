"""The failure notice, byte for byte."""

import pytest

from pyqmail.protocol.bounce_notice import BounceNotices, paragraph

PARAGRAPHS = [
    (b"a@b", b"no such user\n", b"<a@b>:\nno such user\n\n"),
    (b"a@b", b"no newline", b"<a@b>:\nno newline\n\n"),
    (b"a@b", b"", b"<a@b>:\n\n"),
    (b"a\nx@b", b"t\n", b"<a_x@b>:\nt\n\n"),
    (b"a@b", b"failed after data\n\n\nblank lines\n\n", b"<a@b>:\nfailed after data\n//blank lines\n\n\n"),
    (b"a@b", b"one\n\ntwo\n", b"<a@b>:\none\n/two\n\n"),
    (b"a@b", b"\n", b"<a@b>:\n\n\n"),
]


@pytest.mark.parametrize("recipient, text, wanted", PARAGRAPHS)
def test_paragraph(recipient, text, wanted):
    assert paragraph(recipient, text) == wanted


NOTICES = BounceNotices(b"MAILER-DAEMON", b"here.example", b"postmaster", b"double.example")

SINGLE = b"""\
Date: 1 Jan 1970 00:00:00 -0000
From: MAILER-DAEMON@here.example
To: "a b"@c
Subject: failure notice

Hi. This is the qmail-send program at here.example.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

"""
DOUBLE = b"""\
Date: 1 Jan 1970 00:00:00 -0000
From: MAILER-DAEMON@here.example
To: postmaster@double.example
Subject: failure notice

Hi. This is the qmail-send program at here.example.
I tried to deliver a bounce message to this address, but the bounce bounced!

"""


def test_single():
    assert NOTICES.envelope(b"a b@c") == (b"", b"a b@c")
    assert NOTICES.head(b"a b@c", 0) == SINGLE
    assert NOTICES.tail(b"a b@c") == b'--- Below this line is a copy of the message.\n\nReturn-Path: <"a b"@c>\n'


def test_double():
    assert NOTICES.envelope(b"") == (b"#@[]", b"postmaster@double.example")
    assert NOTICES.head(b"", 0) == DOUBLE
    assert NOTICES.tail(b"") == b"--- Below this line is the original bounce.\n\nReturn-Path: <>\n"


def test_triple_is_discarded():
    assert NOTICES.envelope(b"#@[]") is None


def test_verp_sender_loses_its_end():
    assert NOTICES.envelope(b"l-@h-@[]") == (b"", b"l-@h")
    assert b"\nTo: l-@h\n" in NOTICES.head(b"l-@h-@[]", 0)
    assert NOTICES.tail(b"l-@h-@[]").endswith(b"Return-Path: <l-@h>\n")


def test_odd_bouncefrom_is_quoted():
    assert b'\nFrom: "a b"@h\n' in BounceNotices(b"a b", b"h", b"p", b"d").head(b"x@y", 0)
