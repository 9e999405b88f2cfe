"""Numbers, dates, addresses and reasons: tables."""

import errno

import pytest

from pyqmail.base import addresses, controls, dates, numbers
from pyqmail.base.failure import is_temporary, reason

LEADING = [
    ("3x", 3),
    ("abc", 0),
    ("", 0),
    ("-1", 0),
    ("+1", 0),
    (" 1", 0),
    ("0x10", 0),
    ("٣", 0),
    (b"12:3", 12),
    (b"x", 0),
    ("18446744073709551617", 1),
    ("1" + "0" * 9000, 0),
    ("1" + "0" * 9000 + "7", 7),
]


@pytest.mark.parametrize("text, number", LEADING)
def test_leading_number(text, number):
    assert numbers.leading_number(text) == number


@pytest.mark.parametrize(
    "text, truth", [("12", True), ("", False), ("1_0", False), ("²", False), (b"7", True), (b"7 ", False)]
)
def test_is_number(text, truth):
    assert numbers.is_number(text) == truth


@pytest.mark.parametrize(
    "text, number", [("1", 1), ("64", 64), ("0", None), ("65", None), ("", None), ("+1", None), ("1" * 5000, None)]
)
def test_session_processes(text, number):
    if number is None:
        with pytest.raises(ValueError):
            numbers.session_processes(text)
    else:
        assert numbers.session_processes(text) == number


def test_dates():
    assert dates.header_date(820631134) == b"3 Jan 1996 01:05:34 -0000"
    assert dates.mbox_date(1767585782) == b"Mon Jan 05 04:03:02 2026"


QUOTED = [
    (b"joe@c", b"joe@c"),
    (b"a b@c", b'"a b"@c'),
    (b"@c", b'""@c'),
    (b"", b""),
    (b"plain", b"plain"),
    (b".a@c", b'".a"@c'),
    (b"a.@c", b'"a."@c'),
    (b"a..b@c", b'"a..b"@c'),
    (b'a"b\\c@d', b'"a\\"b\\\\c"@d'),
    (b"a@b@c", b'"a@b"@c'),
    (b"\xe4@c", b'"\xe4"@c'),
    (b"#$%&'*+-/=?^_`{|}~!@c", b"#$%&'*+-/=?^_`{|}~!@c"),
]


@pytest.mark.parametrize("address, quoted", QUOTED)
def test_quote(address, quoted):
    assert addresses.quote(address) == quoted


def test_parts():
    assert addresses.domain_part(b"a@b@c") == b"c"
    assert addresses.domain_part(b"a") == b""


@pytest.mark.parametrize(
    "domain, ends", [(b"a.b.c", [b"a.b.c", b".b.c", b".c"]), (b"a", [b"a"]), (b"", [b""]), (b".a", [b".a"])]
)
def test_suffixes(domain, ends):
    assert addresses.suffixes(domain) == ends


def test_received_text():
    assert addresses.received_text(b"a_b [1.2] \xff(c)=:/+%@-") == b"a?b?[1.2]???c?=:/+%@-"


REASONS = [
    (errno.ENOENT, "file does not exist"),
    (errno.EADDRINUSE, "address already used"),
    (errno.EAGAIN, "temporary failure"),
    (0, "no error"),
    (9999, "unknown error"),
]


@pytest.mark.parametrize("number, text", REASONS)
def test_reason(number, text):
    assert reason(number) == text
    assert reason(OSError(number, "")) == text


def test_temporary():
    assert is_temporary(OSError(errno.ENOSPC, "")) and not is_temporary(OSError(errno.EACCES, ""))


LINES = [
    (b"a\n\n#c\n b\t \nlast", [b"a", b" b", b"last"]),
    (b"a\r\n", [b"a\r"]),
    (b"", []),
    (b" #x\n", [b" #x"]),
    (b"a\0b\n", [b"a", b"b"]),
]


@pytest.mark.parametrize("data, entries", LINES)
def test_read_lines(data, entries):
    assert controls.read_lines(data) == entries


@pytest.mark.parametrize(
    "data, value",
    [(b"10k\n", 10), (b" 5", None), (b"", None), (b"-1", None), (b"99999999999", 1215752191), (b"7\n8\n", 7)],
)
def test_read_integer(data, value):
    assert controls.read_integer(data) == value


@pytest.mark.parametrize("data, value", [(b"a b \t\nc", b"a b"), (b"", b""), (b" a\r\n", b" a\r"), (b"#x", b"#x")])
def test_read_line(data, value):
    assert controls.read_line(data) == value


def test_read_map_takes_the_last_of_equal_keys():
    assert controls.read_map(b"A.b:x:y\na.B:z\nnone\n:all\n") == {b"a.b": b"z", b"": b"all"}
