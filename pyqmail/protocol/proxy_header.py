"""The line or block by which a proxy says, first of all, for whom it speaks: the PROXY protocol, versions 1 and 2.

    PROXY TCP4 192.0.2.7 198.51.100.1 49152 25 CR LF        version 1: a line of at most 107 bytes
    PROXY UNKNOWN anything CR LF

    12 bytes signature, 1 byte version and command, 1 byte family, 2 bytes length, addresses, extensions

Extensions of version 2 are skipped unread; a checksum among them is not verified.
Source: the protocol's specification, version 2.3, sections 2.1 and 2.2
"""

import socket
import struct

from pyqmail.base.numbers import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    Ends = tuple[bytes, bytes, bytes, bytes]

MAX_LINE = 107
MAX_BLOCK = 4096  # version 2, addresses and extensions; the protocol would allow 65535
PEEK_BYTES = 16 + MAX_BLOCK

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LINE_START = b"PROXY "
_BLOCK_START = struct.Struct(">12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}
_STREAMS = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}
_OTHERS = (0x00, 0x12, 0x22, 0x31, 0x32)  # valid, but nothing that our clients could have


class MalformedProxyHeader(ValueError):
    """What came is no such header."""


class Header:
    """Takes the header in any pieces, and not a byte of what follows.

    receive() returns how many of the bytes are the header's; that is all of them until `ended`.  `ends` is then
    (client's address, its port, our address, our port), all bytes, or None: the connection is the proxy's own, or of
    a kind that has no addresses.  Raises MalformedProxyHeader.
    """

    def __init__(self) -> None:
        self.ended = False
        self.ends: Ends | None = None
        self._held = b""

    def receive(self, data: bytes) -> int:
        before, self._held = len(self._held), self._held + data
        size = self._size()
        if size is None:
            return len(data)
        header, self.ended = self._held[:size], True
        self.ends = _ends_of_block(header) if header.startswith(_SIGNATURE) else _ends_of_line(header)
        return size - before

    def _size(self) -> int | None:
        """Return the whole header's size, None as long as it has not all come."""
        held = self._held
        if _starts(held, _SIGNATURE):
            if len(held) < _BLOCK_START.size:
                return None
            length: int = _BLOCK_START.unpack_from(held)[3]
            if length > MAX_BLOCK:
                raise MalformedProxyHeader("longer than we take")
            size = _BLOCK_START.size + length
            return size if len(held) >= size else None
        if not _starts(held, _LINE_START):
            raise MalformedProxyHeader("neither of the two starts")
        end = held.find(b"\r\n", 0, MAX_LINE)
        if end < 0 and len(held) >= MAX_LINE:
            raise MalformedProxyHeader("a line without an end")
        return None if end < 0 else end + 2


def _starts(held: bytes, start: bytes) -> bool:
    return held.startswith(start) or start.startswith(held)


def _ends_of_line(line: bytes) -> "Ends | None":
    words = line[:-2].split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in _FAMILIES:
        raise MalformedProxyHeader("not a line of this kind")
    family = _FAMILIES[words[1]]
    ip, own_ip = (_address(family, word) for word in words[2:4])
    port, own_port = map(_port, words[4:])
    return ip, port, own_ip, own_port


def _address(family: int, word: bytes) -> bytes:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, word.decode("latin-1"))).encode()
    except (OSError, ValueError):
        raise MalformedProxyHeader("not an address") from None


def _port(word: bytes) -> bytes:
    if not is_number(word) or len(word) > 5 or int(word) > 65535 or word != b"%d" % int(word):
        raise MalformedProxyHeader("not a port")
    return word


def _ends_of_block(block: bytes) -> "Ends | None":
    _, command, family, length = _BLOCK_START.unpack_from(block)
    if command == _LOCAL:
        return None
    if command != _PROXY:
        raise MalformedProxyHeader("neither of the two commands")
    if family in _OTHERS:
        return None
    if family not in _STREAMS:
        raise MalformedProxyHeader("no family")
    family, width = _STREAMS[family]
    if length < 2 * width + 4:
        raise MalformedProxyHeader("too short for its addresses")
    ip, own_ip, port, own_port = struct.unpack_from(f">{width}s{width}sHH", block, _BLOCK_START.size)
    texts = [socket.inet_ntop(family, packed).encode() for packed in (ip, own_ip)]
    return texts[0], b"%d" % port, texts[1], b"%d" % own_port
