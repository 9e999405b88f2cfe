"""Carriage returns: the same result however the stream is cut."""

import itertools

import pytest

from pyqmail.protocol.crlf import MissingReturns, ReturnRemoval, add_returns

STREAMS = [
    # stream              every LF gets one      every LF has one     the one before LF gone
    (b"", b"", b"", b""),
    (b"a", b"a", b"a", b"a"),
    (b"\n", b"\r\n", b"\r\n", b"\n"),
    (b"a\nb\n", b"a\r\nb\r\n", b"a\r\nb\r\n", b"a\nb\n"),
    (b"a\r\nb", b"a\r\r\nb", b"a\r\nb", b"a\nb"),
    (b"\r\r\n\n", b"\r\r\r\n\r\n", b"\r\r\n\r\n", b"\r\n\n"),
    (b"a\r", b"a\r", b"a\r", b"a\r"),
    (b"\r\r", b"\r\r", b"\r\r", b"\r\r"),
    (b"\n\r\n\r", b"\r\n\r\r\n\r", b"\r\n\r\n\r", b"\n\n\r"),
    (b"\ra\r\n\n\r\0\r\r", b"\ra\r\r\n\r\n\r\0\r\r", b"\ra\r\n\r\n\r\0\r\r", b"\ra\n\n\r\0\r\r"),
]


def cuts(data):
    """Yield data in all the ways there are to cut it, an empty piece among them."""
    for choice in itertools.product((False, True), repeat=max(0, len(data) - 1)):
        places = [0, *(at for at, is_cut in enumerate(choice, 1) if is_cut), len(data)]
        yield [data[a:b] for a, b in itertools.pairwise(places)]
    yield [part for at in range(len(data)) for part in (data[at : at + 1], b"")]


@pytest.mark.parametrize("stream, added, complete, removed", STREAMS)
def test_streams_in_any_pieces(stream, added, complete, removed):
    for pieces in cuts(stream):
        missing, removal = MissingReturns(), ReturnRemoval()
        assert b"".join(map(add_returns, pieces)) == added
        assert b"".join(map(missing.receive, pieces)) == complete
        assert b"".join(map(removal.receive, pieces)) + removal.end() == removed


def test_what_is_not_in_doubt_is_not_held():
    missing, removal = MissingReturns(), ReturnRemoval()
    assert missing.receive(b"a\r") == b"a\r"
    assert removal.receive(b"a\rb\nc\r") == b"a\rb\nc"
    assert removal.receive(b"\r") == b"\r"
