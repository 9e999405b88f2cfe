"""Paths as the original reads them."""

import random

import pytest

from pyqmail.protocol.smtp import address as smtp_address
from pyqmail.protocol.smtp.address import address_literal, parse_path, split_parameters

PATHS = [
    # argument                          address               what follows
    (b"FROM:<joe@c>", b"joe@c", b""),
    (b"FROM: <joe@c> SIZE=5", b"joe@c", b" SIZE=5"),
    (b"anything <joe@c", b"joe@c", b""),
    (b"<joe@c>", b"joe@c", b""),
    (b"", b"", b""),
    (b"FROM:<>", b"", b""),
    (b"FROM:", b"", b""),
    (b"FROM joe@c", b"", b""),
    (b"FROM:joe@c SIZE=5", b"joe@c", b"SIZE=5"),
    (b"FROM:   joe@c", b"joe@c", b""),
    (b"FROM:<@a,@b:joe@c>", b"joe@c", b""),
    (b"FROM:<@a>", b"", b""),
    (b"FROM:@a:joe@c", b"joe@c", b""),
    (b'FROM:<"a b"@c>', b"a b@c", b""),
    (b'FROM:<"a>b"@c> X', b"a>b@c", b" X"),
    (rb"FROM:<a\>b@c>", b"a>b@c", b""),
    (rb"FROM:<a\\b@c>", rb"a\b@c", b""),
    (rb'FROM:<"a\"b"@c>', b'a"b@c', b""),
    (b'FROM:"a b"@c d', b"a b@c", b"d"),
    (b"FROM:<a@c\\", b"a@c", b""),
    (b'FROM:<"a@c>', b"a@c>", b""),
    (b"FROM:<<a@c>>", b"<a@c", b">"),
    (b"FROM:<a@b@c>", b"a@b@c", b""),
    (b"FROM:<\xff@c>", b"\xff@c", b""),
    (b'FROM:<a@c> X="y"', b"a@c", b' X="y"'),
]

LITERALS = [
    (b"a@[127.0.0.1]", b"127.0.0.1"),
    (b"a@[383.256.0.001]", b"127.0.0.1"),
    (b"a@b@[1.2.3.4]", b"1.2.3.4"),
    (b"a@[1.2.3.4]b", None),
    (b"a@[1.2.3]", None),
    (b"a@[1.2.3.]", None),
    (b"a@[1.2.3.4.5]", None),
    (b"a@[1.2.3.-4]", None),
    (b"a@[::1]", None),
    (b"[1.2.3.4]", None),
    (b"a@[1.2@3.4]", None),
    (b"a@[1.2.3.%b]" % (b"9" * 5000), None),
]


@pytest.mark.parametrize("argument, address, rest", PATHS)
def test_path(argument, address, rest):
    assert parse_path(argument) == (address, rest)


@pytest.mark.parametrize("address, literal", LITERALS)
def test_literal(address, literal):
    assert address_literal(address) == literal


def test_parameters_are_keywords_in_any_case():
    assert split_parameters(b" size=10  BODY=8BITMIME x a=b=c") == {
        b"SIZE": b"10", b"BODY": b"8BITMIME", b"X": b"", b"A": b"b=c",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_marks_are_the_same_looked_for_and_met(seed, monkeypatch):
    """Long paths with few marks are read from mark to mark, others byte by byte."""
    chance = random.Random(seed)
    for _ in range(200):
        text = bytes(chance.choice(b'ab"\\> ') for _ in range(chance.randrange(30)))
        for end in (b">", b" "):
            monkeypatch.setattr(smtp_address, "_RARE", 1 << 20)
            met = smtp_address._unquote(text, end)
            assert smtp_address._unquote_long(text, end) == met, text


def test_endless_parameters_are_not_looked_at():
    assert len(split_parameters(b" a=b" * 5000)) == 1
    assert b"SIZE" not in split_parameters(b" a=b" * 5000 + b" SIZE=1")
