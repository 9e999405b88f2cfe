"""The 18 bytes of a status file, and svstat's words for them."""

import pytest

from pyqmail.base import tai
from pyqmail.supervise.status import ONCE, WANT_DOWN, WANT_UP, Status, describe, pack_status

LABEL = bytes.fromhex("400000006b0475290c38519c")
THEN = tai.unix_moment(LABEL)[0]


def test_the_bytes_of_the_reference():
    assert pack_status(LABEL, 0x3E4A, False, WANT_UP) == bytes.fromhex("400000006b0475290c38519c4a3e00000075")


def test_no_pause_while_down():
    assert pack_status(LABEL, 0, True, ONCE) == LABEL + bytes(6)
    assert pack_status(LABEL, 1, True, WANT_DOWN) == LABEL + b"\1\0\0\0\1d"


WORDS = [
    # pid, paused, wish, down file, later seconds, words
    (7, False, WANT_UP, False, 1, "up (pid 7) 1 seconds"),
    (7, False, WANT_UP, True, 0, "up (pid 7) 0 seconds, normally down"),
    (7, True, WANT_DOWN, True, -5, "up (pid 7) 0 seconds, normally down, paused, want down"),
    (7, True, ONCE, False, 9, "up (pid 7) 9 seconds, paused"),
    ((1 << 32) - 1, False, WANT_UP, False, 9, "up (pid 4294967295) 9 seconds"),
    (0, False, WANT_UP, False, 9, "down 9 seconds, normally up, want up"),
    (0, False, WANT_DOWN, False, 9, "down 9 seconds, normally up"),
    (0, False, WANT_DOWN, True, 9, "down 9 seconds"),
    (0, False, ONCE, True, 9, "down 9 seconds"),
]


@pytest.mark.parametrize("pid, paused, wish, has_down_file, later, words", WORDS)
def test_the_words(pid, paused, wish, has_down_file, later, words):
    status = Status(pack_status(LABEL, pid, paused, wish) + b"of another supervisor")
    assert describe(status, has_down_file, THEN + later) == words


def test_garbage():
    words = "down 4611686020223008768 seconds, normally up"  # what the original made of it then
    assert describe(Status(bytes(18)), False, 1795620675) == words
    with pytest.raises(ValueError, match="bad format"):
        Status(bytes(17))
