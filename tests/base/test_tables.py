"""Columns, times and amounts for people."""

import pytest

from pyqmail.base.printable import printable
from pyqmail.base.tables import amount, columns, duration, shortened

DURATIONS = [
    (-5, "0s"), (0.9, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86399, "23h59m"),
    (86400, "1d00h"), (400 * 86400 + 3600, "400d01h"),
]  # fmt: skip


@pytest.mark.parametrize("seconds, text", DURATIONS)
def test_a_duration(seconds, text):
    assert duration(seconds) == text


AMOUNTS = [
    (0, "0"), (1023, "1023"), (1024, "1.0k"), (1536, "1.5k"), (10188, "9.9k"), (10189, "10k"), (1 << 20, "1.0M"),
    (1047552, "1023k"), (5 << 30, "5.0G"), ((1 << 64) - 1, "16E"),
]  # fmt: skip


@pytest.mark.parametrize("count, text", AMOUNTS)
def test_an_amount(count, text):
    assert amount(count) == text


def test_columns():
    rows = [("NAME", "N", "STATE"), ("a", "1", "up"), ("longer", "22", "")]
    assert columns(rows, ("NAME", "STATE")) == ["NAME     N  STATE", "a        1  up", "longer  22"]


def test_a_name_cannot_steer_a_terminal():
    assert printable(b"a b~") == "a b~"
    assert printable(bytes(range(32))) == "?" * 32
    assert printable(b"\x7f\x9b\xc3\xa9") == "????"


SHORTENED = [
    (None, ["a", "b", "c"]), (4, ["a", "b", "c"]), (3, ["a", "b", "c"]), (2, ["a", "and 2 more"]), (1, ["and 3 more"]),
    (0, ["and 3 more"]),
]  # fmt: skip


@pytest.mark.parametrize("most_lines, lines", SHORTENED)
def test_lines_that_have_no_room(most_lines, lines):
    assert shortened(["a", "b", "c"], most_lines) == lines
