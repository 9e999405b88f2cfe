import pytest

from pyqmail.supervise.logs.stamps import CLOCKS, clock_of, iso_time, stamp_lines

BLOCKS = [
    # block         at the start of a line?  stamped
    (b"", True, b""),
    (b"a", True, b"#a"),
    (b"a", False, b"a"),
    (b"a\n", True, b"#a\n"),
    (b"\n", True, b"#\n"),
    (b"\n", False, b"\n"),
    (b"a\n\nb", True, b"#a\n#\n#b"),
    (b"a\nb\n", False, b"a\n#b\n"),
]


@pytest.mark.parametrize("block, at_start, stamped", BLOCKS)
def test_stamps(block, at_start, stamped):
    assert stamp_lines(block, b"#", at_start) == stamped


TIMES = [
    (0, 500, b"1970-01-01T00:00:00.000000Z"),
    (935467445, 787492500, b"1999-08-24T04:04:05.787492Z"),
    (951782399, 999999500, b"2000-02-28T23:59:59.999999Z"),
    (-1, 1000, b"1969-12-31T23:59:59.000001Z"),
    (4294967296, 0, b"2106-02-07T06:28:16.000000Z"),
]


@pytest.mark.parametrize("seconds, nanoseconds, text", TIMES)
def test_iso_time(seconds, nanoseconds, text):
    assert iso_time(seconds, nanoseconds) == text


def test_clocks():
    assert len(clock_of("tai")()) == 25 and len(clock_of("iso")()) == 27
    assert sorted(CLOCKS) == ["iso", "tai"]
    with pytest.raises(ValueError, match="not a format of time: TAI"):
        clock_of("TAI")
