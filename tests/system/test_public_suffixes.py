"""Registrable domains, by the list of the package: its parts that will not change soon."""

import pytest

from pyqmail.system.public_suffixes import PublicSuffixes

SUFFIXES = PublicSuffixes()

HOSTS = [
    (b"aspmx.l.google.com", b"google.com"),
    (b"example.com", b"example.com"),
    (b"mx.example.co.uk", b"example.co.uk"),
    (b"a.b.mx.example.com.br", b"example.com.br"),
    (b"mx.tenant.github.io", b"github.io"),  # what a hoster gives away is the hoster's
    (b"mx.example.nosuchsuffix", b"example.nosuchsuffix"),  # unknown: the last two labels
    (b"localhost", b"localhost"),
    (b"co.uk", b"co.uk"),  # nobody's: itself
    (b"", b""),
    (b"a..b", b"a..b"),
    (b".", b"."),
    (b"\xff.example.com", b"\xff.example.com"),
    (b"a." * 200 + b"example.com", b"a." * 200 + b"example.com"),  # longer than any name
]


@pytest.mark.parametrize("host, registrable", HOSTS)
def test_registrable(host, registrable):
    assert SUFFIXES.registrable(host) == registrable
