"""Bounces: the paragraph for each failed recipient, and the notice made of them.  The format is QSBMF.

Source: addbounce() and injectbounce() of qmail-send
"""

from pyqmail.base.addresses import quote, quote_word
from pyqmail.base.dates import header_date
from pyqmail.protocol.verp import plain_sender

TOO_OLD = b"I'm not going to try again; this message has been in the queue too long.\n"
DOUBLE_SENDER = b"#@[]"

_HEAD = b"""\
Date: %b
From: %b
To: %b
Subject: failure notice

Hi. This is the qmail-send program at %b.
%b
"""
_SINGLE = (
    b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
    b"This is a permanent error; I've given up. Sorry it didn't work out.\n"
)
_DOUBLE = b"I tried to deliver a bounce message to this address, but the bounce bounced!\n"
_SINGLE_BREAK = b"--- Below this line is a copy of the message.\n\n"
_DOUBLE_BREAK = b"--- Below this line is the original bounce.\n\n"
CUT = b"\n\n--- End of message stripped.\n"
NO_COPY = b"--- The message itself is no longer in the queue.\n"


def paragraph(recipient: bytes, text: bytes) -> bytes:
    """Return what bounce/ID gets for one recipient, its prepend already stripped; text is the report's.

    No blank line can stand inside: an LF after an LF becomes `/`, but the text's very last byte stays.
    """
    if text and not text.endswith(b"\n"):
        text += b"\n"
    whole = b"<%b>:\n%b" % (recipient.replace(b"\n", b"_"), text)
    lines = whole[:-1].split(b"\n")
    joined = [(b"\n" if before else b"/") + line for before, line in zip(lines, lines[1:], strict=False)]
    return b"".join([lines[0], *joined, whole[-1:], b"\n"])


class BounceNotices:
    """Who bounces come from, where double bounces go, and how much of the message they have.

    control/bouncefrom, bouncehost, doublebounceto, doublebouncehost and bouncemaxbytes; max_bytes None is no limit.
    """

    def __init__(
        self,
        bouncefrom: bytes,
        bouncehost: bytes,
        doublebounceto: bytes,
        doublebouncehost: bytes,
        max_bytes: int | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self._from = quote_word(bouncefrom) + b"@" + bouncehost
        self._host = bouncehost
        self._double = doublebounceto + b"@" + doublebouncehost

    def envelope(self, sender: bytes) -> tuple[bytes, bytes] | None:
        """Return (sender, recipient) of the notice about mail from sender; None to discard it: a triple bounce."""
        if sender == DOUBLE_SENDER:
            return None
        sender = plain_sender(sender)
        return (b"", sender) if sender else (DOUBLE_SENDER, self._double)

    def head(self, sender: bytes, now: int) -> bytes:
        """Return the notice up to the paragraphs; now is in Unix seconds."""
        sender = plain_sender(sender)
        return _HEAD % (
            header_date(now),
            self._from,
            quote(sender if sender else self._double),
            self._host,
            _SINGLE if sender else _DOUBLE,
        )

    def tail(self, sender: bytes) -> bytes:
        """Return what stands between the paragraphs and the copy of the message."""
        sender = plain_sender(sender)
        return b"%bReturn-Path: <%b>\n" % (_SINGLE_BREAK if sender else _DOUBLE_BREAK, quote(sender))
