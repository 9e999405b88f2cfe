"""Senders that differ for each recipient."""

import pytest

from pyqmail.protocol.verp import expand_verp, plain_sender


@pytest.mark.parametrize(
    "sender, recipient, expanded",
    [
        (b"owner-list-@lists.example-@[]", b"args2@r.example", b"owner-list-args2=r.example@lists.example"),
        (b"owner-@h-@[]", b"a@b@c", b"owner-a@b=c@h"),
        (b"owner-@h-@[]", b"nohost", b"owner-@h-@[]"),
        (b"owner-@-@[]", b"a@b", b"owner-a=b@"),
        (b"-@[]", b"a@b", b"-@[]"),
        (b"x-@[]", b"a@b", b"x-@[]"),
        (b"#@[]", b"a@b", b"#@[]"),
        (b"", b"a@b", b""),
        (b"s@h", b"a@b", b"s@h"),
    ],
)
def test_verp(sender, recipient, expanded):
    assert expand_verp(sender, recipient) == expanded


def test_plain_sender():
    assert plain_sender(b"owner-list-@lists.example-@[]") == b"owner-list-@lists.example"
    assert plain_sender(b"s@h") == b"s@h" and plain_sender(b"") == b""
