"""Labels in UTC, with TZ set for the process of the test."""

import time

import pytest

from pyqmail.supervise.logs.local_time import LocalTime

LABEL = b"@4000000037c219bf2ef02e94"
TEXTS = [
    (b"", b""),
    (b"no label\n", b"no label\n"),
    (LABEL + b" tick\n", b"1999-08-24 04:04:05.787492500 tick\n"),
    (LABEL + b":x", b"1999-08-24 04:04:05.787492500:x"),
    (LABEL + b"A x\n", b"1999-08-24 04:04:05.787492500A x\n"),
    (LABEL + LABEL + b"\n", b"1999-08-24 04:04:05.787492500" + LABEL + b"\n"),
    (b" " + LABEL + b"\n", b" " + LABEL + b"\n"),
    (b"a\n\n" + LABEL + b"\n" + LABEL + b"\n", b"a\n\n" + b"1999-08-24 04:04:05.787492500\n" * 2),
    (b"@400000000000000900000000\n", b"1969-12-31 23:59:59.000000000\n"),
    (b"@4000000037c219bfffffffff\n", b"1999-08-24 04:04:05.4294967295\n"),
    (b"@4000000f37c219bf00000001\n", b"4041-03-05 05:08:05.000000001\n"),
    (b"@1" + LABEL[1:] + b"\n", b"1999-08-24 04:04:05.787492500\n"),
    (b"@\n@ x\n@x@\n@12 y\n", b"@\n@ x\n@x@\n@12 y\n"),
    (b"@ffffffffffffffff00000000 a\n", b"@ffffffffffffffff00000000 a\n"),
    (b"@" + b"4" * 2000 + b"\n", b"@" + b"4" * 2000 + b"\n"),
    (b"x\n" + LABEL, b"x\n"),  # an unfinished label is lost, as in the original
]


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("size", [1, 2, 7, 25, 26, 10000])
@pytest.mark.parametrize("text, local", TEXTS)
def test_text_is_the_same_in_any_pieces(text, local, size):
    engine = LocalTime()
    assert b"".join(engine.receive(text[at : at + size]) for at in range(0, len(text), size)) == local
