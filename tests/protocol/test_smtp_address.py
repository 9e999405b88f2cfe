"""Paths as the original reads them."""

import pytest

from pyqmail.protocol.smtp_address import address_literal, parse_path, split_parameters

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
