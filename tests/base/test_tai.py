"""TAI64N labels against the values that the format's description gives and the originals write."""

import pytest

from pyqmail.base import tai

MOMENTS = [
    # Unix seconds, nanoseconds, text label
    (0, 0, b"@400000000000000a00000000"),
    (935467445, 787492500, b"@4000000037c219bf2ef02e94"),
    (-10, 0, b"@400000000000000000000000"),
    (-11, 999999999, b"@3fffffffffffffff3b9ac9ff"),
    (1 << 32, 500, b"@400000010000000a000001f4"),
]


@pytest.mark.parametrize("seconds, nanoseconds, text", MOMENTS)
def test_a_moment_and_its_labels(seconds, nanoseconds, text):
    assert tai.text_label(seconds, nanoseconds) == text
    assert tai.label(seconds, nanoseconds) == bytes.fromhex(text[1:].decode())
    assert tai.unix_moment(tai.label(seconds, nanoseconds)) == (seconds, nanoseconds)
    assert tai.read_text_label(text + b" and more") == (seconds, nanoseconds)


@pytest.mark.parametrize("text", [b"", b"@", b"4000000037c219bf2ef02e94", b"@4000000037C219bf2ef02e94", b"@40"])
def test_what_is_no_label(text):
    assert tai.read_text_label(text) is None
