"""Keys of networks and IPv6 addresses, and back.  The bytes are those that tcprules of ucspi-tcp6 1.11.4 compiled."""

import pytest

from pyqmail.tcp.rules.keys import ip4_number, network_key, readable
from pyqmail.tcp.rules.source import keys_of

KEYS = [
    # source                                       key                                              shown as
    (b"255.255.255.255/32",                        b"_abcdefghijklmnopqrstuvwxyz123456",            None),
    (b"192.168.1.0/24",                            b"_ab000000i0k0m0000000000x",                    None),
    (b"10.1.2.3/8",                                b"_0000e0g0",                                    b"10.0.0.0/8"),
    (b"0.0.0.0/1",                                 b"_0",                                           None),
    (b"128.0.0.0/1",                               b"_a",                                           None),
    (b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", b"^" + bytes(range(96, 224)),                  None),
    (b"fe80::/10",                                 b"^`abcdef0g0",                                  None),
    (b"2001:db8::/32",                             b"^00`000000000000a0000bc0de0fgh000",            None),
    (b"::1/128",                                   b"^" + b"0" * 127 + b"`",                        None),
    (b"2000::/3",                                  b"^00`",                                         None),
    (b"::/1",                                      b"^0",                                           None),
    (b"abcd:ef01:2345:6789:abcd:ef01:2345:6789",   b"ABCD:EF01:2345:6789:ABCD:EF01:2345:6789",      False),
    (b"::ffff:1.2.3.4",                            b"0000:0000:0000:0000:0000:FFFF:0102:0304",      False),
    (b"u@::1",                                     b"u@0000:0000:0000:0000:0000:0000:0000:0001",    False),
]  # fmt: skip


@pytest.mark.parametrize("source, key, shown", KEYS)
def test_keys_are_those_of_ucspi_tcp6_and_can_be_read_back(source, key, shown):
    assert list(keys_of(source)) == [key]
    assert readable(key) == (key if shown is False else shown or source)


@pytest.mark.parametrize(
    "key", [b"", b"_", b"^", b"_x", b"_b", b"^a", b"_" + b"0" * 33, b"^" + b"0" * 129, b"1.2.", b"=a"]
)
def test_other_keys_are_shown_as_they_are(key):
    assert readable(key) == key


@pytest.mark.parametrize("ip", [b"", b"1.2.3", b"1.2.3.4.5", b"1.2.3.256", b"1..3.4", b"a.b.c.d", b"1.2.3.+4", b"unix",
                                b":", b"1::2::3", b"::1%lo", b"\xff::", b"::\0"])  # fmt: skip
def test_what_is_no_address_is_in_no_network(ip):
    assert ip4_number(ip) is None
    assert network_key(ip) == b""
