"""Words for host and port."""

import pytest

from pyqmail.base.failure import Temporary
from pyqmail.tcp.client.addresses import literal, port_number

LITERALS = [
    ("127.0.0.1", ["127.0.0.1"]),
    ("127.000.000.001", ["127.0.0.1"]),
    ("[127.0.0.1]", ["127.0.0.1"]),
    ("300.0.0.257", ["44.0.0.1"]),
    ("...", ["0.0.0.0"]),
    ("1.2.3.4.5.6.7.8", ["1.2.3.4", "5.6.7.8"]),
    ("1.2.3.4.5", ["1.2.3.4"]),
    ("127.1", []),
    ("1", []),
    ("a.b", None),
    ("1.2.3.x", None),
    ("1.2.3.-4", None),
]


@pytest.mark.parametrize("word, addresses", LITERALS)
def test_a_literal(word, addresses):
    assert literal(word) == addresses


@pytest.mark.parametrize("word, port", [("", 0), ("25", 25), ("70000", 4464), ("65536", 0), ("smtp", 25)])
def test_a_port(word, port):
    assert port_number(word) == port


@pytest.mark.parametrize("word", ["-1", "25x", "+25", " 25", "nosuchservice", "a\udcff"])
def test_no_port(word):
    with pytest.raises(Temporary):
        port_number(word)
