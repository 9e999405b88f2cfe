"""The PROXY header: what it says, that not a byte beyond it is taken, and what is no such header."""

import os
import random
import socket
import struct

import pytest

from pyqmail.protocol.proxy_header import MAX_BLOCK, Header, MalformedProxyHeader

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def block(command, family, body):
    return SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


def addresses(family, ip, own_ip, port, own_port):
    return b"".join(socket.inet_pton(family, word) for word in (ip, own_ip)) + struct.pack(">HH", port, own_port)


IP4 = addresses(socket.AF_INET, "192.0.2.7", "198.51.100.1", 49152, 25)
IP6 = addresses(socket.AF_INET6, "2001:db8::7", "2001:db8::1", 1, 65535)
EXTENSION = b"\x03\0\4\1\2\3\4"
FOUR = (b"192.0.2.7", b"49152", b"198.51.100.1", b"25")
SIX = (b"2001:db8::7", b"1", b"2001:db8::1", b"65535")
HEADERS = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 25\r\n",           FOUR),
    (b"PROXY TCP6 2001:db8::7 2001:DB8:0::1 1 65535\r\n",         SIX),
    (b"PROXY TCP4 255.255.255.255 0.0.0.0 0 0\r\n",               (b"255.255.255.255", b"0", b"0.0.0.0", b"0")),
    (b"PROXY UNKNOWN\r\n",                                        None),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n",                     None),  # 107 bytes, the most there may be
    (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
     (b"ffff:" * 7 + b"ffff", b"65535", b"ffff:" * 7 + b"ffff", b"65535")),
    (block(0x21, 0x11, IP4),                                      FOUR),
    (block(0x21, 0x21, IP6),                                      SIX),
    (block(0x21, 0x11, IP4 + EXTENSION),                          FOUR),
    (block(0x21, 0x21, IP6 + bytes(MAX_BLOCK - len(IP6))),    SIX),
    (block(0x20, 0x00, b""),                                      None),
    (block(0x20, 0x11, IP4),                                      None),  # LOCAL: its addresses do not count
    (block(0x20, 0xFF, EXTENSION),                                None),
    (block(0x21, 0x00, EXTENSION),                                None),
    (block(0x21, 0x31, b"/a/path".ljust(216, b"\0")),             None),
    (block(0x21, 0x12, IP4),                                      None),  # datagrams
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 5, 15, 16, 17, 10000])
@pytest.mark.parametrize("header, ends", HEADERS)
def test_a_header_is_the_same_in_any_pieces_and_takes_nothing_else(header, ends, size):
    parser, data = Header(), header + b"EHLO x\r\nPROXY "
    taken = at = 0
    while not parser.ended:
        assert taken == at  # until the end all of it is the header's
        taken += parser.receive(data[at : at + size])
        at += size
    assert (parser.ends, taken) == (ends, len(header))


@pytest.mark.parametrize("header, ends", HEADERS)
def test_a_header_that_is_cut_is_waited_for(header, ends):
    for cut in range(len(header)) if len(header) < 200 else (0, 1, 12, 15, 16, len(header) - 1):
        parser = Header()
        assert (parser.receive(header[:cut]), parser.ended) == (cut, False)


WRONG = [
    b"EHLO x\r\n", b"G", b"\r\n\r\n\0\r\nQUIt\n", b"PROXY TCP\r\n", b"PROXY \r\n", b"proxy UNKNOWN\r\n", b"PROXY\r\n",
    b"PROXY UNKNOWNX\r\n", b"PROXY UNKNOWN " + b"x" * 93, b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 49152\r\n", b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 25 \r\n",
    b"PROXY TCP4  192.0.2.7 198.51.100.1 49152 25\r\n", b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 65536\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 025\r\n", b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 \xb2\r\n", b"PROXY TCP4 192.0.2 198.51.100.1 49152 25\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.1 49152 25\r\n", b"PROXY TCP4 192.0.2.07 198.51.100.1 49152 25\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
    b"PROXY TCP6 ::1%lo ::1 1 2\r\n", b"PROXY TCP4 192.0.2.7\0 198.51.100.1 1 2\r\n",
    b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 25\n" + b"x" * 70,
    block(0x11, 0x11, IP4), block(0x31, 0x11, IP4), block(0x22, 0x11, IP4), block(0x21, 0x13, IP4),
    block(0x21, 0x41, IP4), block(0x21, 0x10, IP4), block(0x21, 0x11, IP4[:-1]), block(0x21, 0x21, IP4),
    block(0x21, 0x11, IP4 + bytes(MAX_BLOCK)),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 10000])
@pytest.mark.parametrize("data", WRONG)
def test_what_is_no_header(data, size):
    parser = Header()
    with pytest.raises(MalformedProxyHeader):
        for at in range(0, len(data), size):
            parser.receive(data[at : at + size])
            assert not parser.ended


def test_noise_ends_a_header_or_is_malformed():
    dice = random.Random(7)
    for _ in range(3000):
        header = bytearray(dice.choice(HEADERS)[0] + os.urandom(dice.randrange(40)))
        for _ in range(dice.randrange(1, 4)):
            header[dice.randrange(len(header))] = dice.randrange(256)
        parser = Header()
        try:
            taken = parser.receive(bytes(header))
        except MalformedProxyHeader:
            continue
        assert 0 < taken <= len(header)
        assert parser.ended or taken == len(header)
