"""Bytes made visible, beside cat -v."""

import random
import shutil
import subprocess

import pytest

from pyqmail.protocol.visible import visible

FORMS = [
    (b"", b""),
    (b"plain text\twith a tab\n", b"plain text\twith a tab\n"),
    (b"\0\x1b[2J\r\n", b"^@^[[2J^M\n"),
    (b"\x7f\x80\x89\x8a\x9f\xa0\xdf\xff", b"^?M-^@M-^IM-^JM-^_M- M-_M-^?"),
    (b"^M-^@", b"^M-^@"),
    ("ä".encode(), b"M-CM-$"),
]


@pytest.mark.parametrize("data, shown", FORMS)
def test_forms(data, shown):
    assert visible(data) == shown


@pytest.mark.skipif(not shutil.which("cat"), reason="needs cat")
def test_every_pair_of_bytes_is_shown_as_cat_does():
    pairs = b"".join(bytes([a, b]) for a in range(256) for b in range(256))
    noise = random.Random(3).randbytes(100_000)
    theirs = subprocess.run(["cat", "-v"], input=pairs + noise, capture_output=True, check=True, timeout=60)
    assert visible(pairs + noise) == theirs.stdout


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_pieces_of_any_size_give_the_same(size):
    data = bytes(range(256)) * 20
    assert b"".join(visible(data[at : at + size]) for at in range(0, len(data), size)) == visible(data)


def test_what_is_shown_is_plain():
    assert set(visible(bytes(range(256)))) <= {*b"\t\n", *range(32, 127)}
