"""The words that say where to connect."""

import pytest

from pyqmail.load_tools.targets import BOTH, find


@pytest.mark.parametrize("text, address", [
    ("127.0.0.1", ("127.0.0.1", 25)), ("127.0.0.1:2525", ("127.0.0.1", 2525)),
    ("inet:127.0.0.1:smtp", ("127.0.0.1", 25)),
    ("[::1]:2525", ("::1", 2525)), ("::1", ("::1", 25)), ("[::1]", ("::1", 25)), ("unix:/x/y", "/x/y"),
])  # fmt: skip
def test_what_is_an_address(text, address):
    found = find(text, BOTH, 25).address
    assert (found if isinstance(found, str) else found[:2]) == address


@pytest.mark.parametrize("text", ["", ":25", "unix:", "[::1", "[::1]x", "127.0.0.1:65536"])
def test_what_is_none(text):
    with pytest.raises(ValueError):
        find(text, BOTH, 25)


def test_to_listen_there_need_be_no_host():
    assert find(":0", BOTH, 25, to_listen=True).address[1] == 0
