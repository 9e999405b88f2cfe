"""What a reply to EHLO says about limits.  Replies in pieces, and keywords: test_client.py."""

import pytest

from pyqmail.protocol.smtp.reply import parse_limits

LIMITS = [
    # reply                                                   messages, recipients
    (b"250-x\n250 LIMITS MAILMAX=3 RCPTMAX=20\n", (3, 20)),
    (b"250-x\n250-limits rcptmax=999999 future=7 mailmax=1\n250 8BITMIME\n", (1, 999_999)),
    (b"250-x\n250-LIMITS MAILMAX=3\n250 LIMITS RCPTMAX=4\n", (3, 4)),
    (b"250 LIMITS MAILMAX=3\n", (0, 0)),  # the first line is the server's name
    (b"250-x\n250 LIMITS\n", (0, 0)),
    (b"250-x\n250 \n250\n\n", (0, 0)),
    (b"250-x\n250 XLIMITS MAILMAX=3\n", (0, 0)),
    (b"250-x\n250 LIMITS MAILMAX=0 RCPTMAX=1234567\n", (0, 0)),
    (b"250-x\n250 LIMITS MAILMAX RCPTMAX=\n", (0, 0)),
    (b"250-x\n250 LIMITS MAILMAX=-3 RCPTMAX=+3\n", (0, 0)),
    (b"250-x\n250 LIMITS MAILMAX=\xb2 RCPTMAX=1e3\n", (0, 0)),
]


@pytest.mark.parametrize("reply, limits", LIMITS)
def test_limits(reply, limits):
    assert parse_limits(reply) == limits
