"""The channels patch and drate as rules; what no rule can say becomes a comment."""

import pytest

from pyqmail.mail.destinations.conversion.convert import (
    RuleText,
    channels,
    drate,
    logical_lines,
    rate_of,
    seconds_there,
    time_text,
)
from pyqmail.mail.destinations.rules.lookup import RuleSet

CHANNELS = [
    # files                                                                   lines that are no comments
    ({}, []),
    ({b"suppls0": b"gmail.com\nYahoo.com\n", b"concurrencysuppl0": b"5\n"},
     [b"gmail.com:@suppl0", b"yahoo.com:@suppl0", b"@suppl0:C=5"]),
    ({b"suppls0": b"a.example\n"}, [b"a.example:@suppl0", b"@suppl0:C=20"]),
    ({b"suppls0": b"a.example\n", b"concurrencysuppl0": b"0\n"}, [b"a.example:@suppl0", b"@suppl0:hold"]),
    ({b"suppls10": b"a.example\n", b"suppls9": b"a.example\nb.example\n"},
     [b"a.example:@suppl9", b"b.example:@suppl9", b"@suppl9:C=20"]),
    ({b"suppls01": b"a.example\n", b"suppls1": b"b.example\n"},
     [b"a.example:@suppl01", b"b.example:@suppl1", b"@suppl01:C=20", b"@suppl1:C=20"]),
    ({b"suppls0": b"# none\n", b"concurrencysuppl7": b"3\n"}, []),
    ({b"suppls0": b"b\xc3\xbccher.example\na.example\n"}, [b"a.example:@suppl0", b"@suppl0:C=20"]),
]  # fmt: skip


def lines_of(text):
    """Return the lines that are no comments; all of it compiles."""
    RuleSet.of_text(text)
    return [line for line in text.splitlines() if not line.startswith(b"#")]


def remarks_of(text):
    return [line[2:] for line in text.splitlines() if line.startswith(b"# ")]


@pytest.mark.parametrize("files, lines", CHANNELS)
def test_channels(files, lines):
    assert lines_of(channels(files)) == lines


def test_what_channels_leave_out_is_said():
    files = {b"suppls0": b"a.example\n", b"suppls1": b"a.example\nx@y\n", b"concurrencysuppl7": b"3\n"}
    assert remarks_of(channels(files))[:4] == [
        b"suppls1: a.example is in @suppl0 already",
        b"suppls1: not converted: not a domain: its letters are ASCII, with dashes and dots",
        b"concurrencysuppl7: not converted: there is no suppls7",
        b"concurrencysuppl1: not converted: nothing is in the group @suppl1",
    ]


RATES = [
    (b"100/3600", b"100/h~100"),
    (b"0.5", b"30/m~30"),
    (b"10", b"10/s~10"),
    (b"1/10+1/20", b"9/m~9"),
    (b"1/7", b"12342/d~12342"),
    (b"1/86400", b"1/d~1"),
    (b"1/864000", None),
    (b"0", None),
    (b"1/0", None),
    (b"junk", None),
    (b"", None),
    (b"nan", None),
    (b"inf", None),
]


@pytest.mark.parametrize("expression, rate", RATES)
def test_rates(expression, rate):
    assert rate_of(expression) == rate


def test_drate():
    files = {b"gmail.com": b"100/3600\x000\x001\x001\x00", b".global": b"1\n5\n", b"a.example": b"junk\n"}
    text = drate(files, {b"googlemail.com": b"gmail.com", b"b.example": b"nowhere"})
    assert lines_of(text) == [
        b"gmail.com:@drate-gmail.com",
        b":r=1/s~1",
        b"googlemail.com:@drate-gmail.com",
        b"@drate-gmail.com:r=100/h~100",
    ]
    assert remarks_of(text)[:2] == [
        b"a.example: junk: not converted",
        b"b.example: not converted: a link to nowhere, which is no rate file",
    ]


def test_of_two_items_the_first_counts():
    text = RuleText()
    text.set(b"a", b"c=1", b"one")
    text.set(b"a", b"c=2", b"two")
    text.set(b"a", b"c=0,n", b"three")
    text.set(b"b", b"n=x", b"four")
    assert text.text().splitlines() == [
        b"# two: not converted: a has c=1 already",
        b"# three: not converted: a has c=1 already",
        b"# b:n=x: not converted: n=x: not a number from 1 to 1000000000",
        b"# one",
        b"a:c=1",
    ]


TIMES = [
    (b"300s", b"", 300),
    (b"4d12h", b"", 388800),
    (b"5", b"d", 432000),
    (b"5", b"", None),
    (b"", b"s", None),
    (b"1y", b"s", None),
    (b"1w", b"", 604800),
    (b"D", b"", None),
]


@pytest.mark.parametrize("text, unit, seconds", TIMES)
def test_times_there(text, unit, seconds):
    assert seconds_there(text, unit) == seconds


@pytest.mark.parametrize("seconds, text", [(30, b"30s"), (90, b"90s"), (120, b"2m"), (7200, b"2h"), (86400, b"1d")])
def test_times_here(seconds, text):
    assert time_text(seconds) == text


def test_logical_lines():
    assert list(logical_lines(b"# no\na = 1\n  2\n\n   # no\n\t3\nb\n")) == [b"a = 1 2 3", b"b"]
