"""Rule text: lines, each an address and its items, with the place of what is wrong.

    address:item,item         yahoo.*:@yahoo
    #comment                  @yahoo:C=100

A line becomes a key and a value of the compiled table.  The key is a letter and the name:

    :                 everything        @name, @name/source   a group
    dNAME             a domain          %NAME                 a pool of sources
    .NAME             a suffix          fNAME                 a sender's domain
    *LABEL            label.*           rADDRESS              a local recipient
    hNAME, HNAME      a host, a suffix of hosts
    4nnADDRESS, 6nnnADDRESS             a network: the length of its prefix, and its 4 or 16 bytes

The value is number of the line, NUL, items as they were written but in a fixed order, NUL, and for a group the count of
lines that attach it.  A `!` before the address, which confirms that a shipped line is meant to be replaced, comes back
as a `!` before the number.
"""

import socket

from pyqmail.base.literals import literal_address
from pyqmail.base.printable import printable
from pyqmail.mail.destinations.rules.items import (
    KEYS,
    LIMITS,
    ORDER,
    BadValue,
    group_name,
    name_of,
    read_item,
)
from pyqmail.mail.destinations.sources.pools import pool_member

EVERYTHING, DOMAIN_LINE, SUFFIX, STAR, HOST_LINE, HOST_SUFFIX = b":", b"d", b".", b"*", b"h", b"H"
IP4, IP6, GROUP, POOL, SENDER, RECIPIENT = b"4", b"6", b"@", b"%", b"f", b"r"

_PRINTED = bytes(byte for byte in range(33, 256) if byte != 127)
_ALL = frozenset(KEYS) - {b"until"}
# what a line of an address may say; @ stands for being in a group
ALLOWED = {
    **dict.fromkeys((DOMAIN_LINE, SUFFIX, STAR, HOST_LINE, HOST_SUFFIX, GROUP), _ALL | {b"@"}),
    EVERYTHING: _ALL,
    **dict.fromkeys((IP4, IP6), frozenset((*LIMITS, b"n", b"m", b"hold", b"@"))),
    SENDER: frozenset((b"try", b"die", b"w", b"src", b"by", b"spill")),
    RECIPIENT: frozenset((b"c", b"r", b"try", b"die", b"w", b"hold")),
}
_OF_A_CHOICE = frozenset((b"@", b"src", b"by", b"spill"))  # of a group for one source: that is chosen already


class Problem:
    """What is wrong, or odd, in a line: line and column count from 1, the column in bytes."""

    __slots__ = ("line", "column", "text", "is_of_responses")

    def __init__(self, line: int, column: int, text: str, is_of_responses: bool = False) -> None:
        self.line, self.column, self.text, self.is_of_responses = line, column, text, is_of_responses


class BadRules(Exception):
    """Rule text that is not compiled.  problems: what is wrong, in the order of the lines; at least one."""

    def __init__(self, problems: list[Problem]) -> None:
        first = problems[0]
        super().__init__(f"{first.line}:{first.column}: {first.text}")
        self.problems = problems


class BadPlace(Exception):
    """Something is wrong at a place of a line: offset in bytes, from 0."""

    def __init__(self, offset: int, text: str) -> None:
        super().__init__(text)
        self.offset, self.text = offset, text


class RuleLine:
    """One line that was read.

    key       of the table; kind is its letter
    address   as it is shown
    items     [(key, value, text, offset)] in the fixed order: `@` for groups, whose value is the name
    """

    __slots__ = ("number", "key", "address", "items", "is_meant")

    def __init__(
        self, number: int, key: bytes, address: bytes, items: "list[tuple[bytes, object, bytes, int]]", is_meant: bool
    ) -> None:
        self.number, self.key, self.address, self.items, self.is_meant = number, key, address, items, is_meant

    @property
    def kind(self) -> bytes:
        return self.key[:1]

    @property
    def text(self) -> bytes:
        """The items as they are compiled."""
        return b",".join(item[2] for item in self.items)


def read_line(number: int, line: bytes, is_overlay: bool = False) -> RuleLine | None:
    """Return a line as it was read, None for a comment and an empty one.  Raises BadPlace."""
    line = line.rstrip(b" \t")
    if not line or line.startswith(b"#"):
        return None
    odd = line.translate(None, _PRINTED)
    if odd:
        raise BadPlace(line.index(odd[:1]), "a blank or a control character")
    start = 1 if line.startswith(b"!") else 0
    end = _end_of_address(line, start)
    key, address = _address_at(line[start:end], start)
    if key[:1] == POOL:
        items = read_members(line, end + 1)
    else:
        allowed = ALLOWED[key[:1]] - _OF_A_CHOICE if b"/" in key and key[:1] == GROUP else ALLOWED[key[:1]]
        items = read_items(line, end + 1, allowed | {b"until"} if is_overlay else allowed)
    return RuleLine(number, key, address, items, start == 1)


def _end_of_address(line: bytes, start: int) -> int:
    """Return where the colon stands that ends the address.  Addresses of IPv6 and of mail have colons of their own."""
    end = line.find(b":", start)
    if line.startswith(b"ip=", start):
        end = _end_of_network(line, start + 3, end)
    elif line.startswith(b"@", start) and b"/" in line[start:end]:
        end = _end_of_network(line, line.index(b"/", start) + 1, end)
    elif line.startswith(b"rcpt=", start) and b"@" in line:
        end = line.find(b":", line.rindex(b"@"))
    elif line.startswith(b"[", start):
        end = line.find(b"]:", start) + 1 or -1
    if end < 0:
        raise BadPlace(len(line), "no colon after the address")
    return end


def _end_of_network(line: bytes, start: int, end: int) -> int:
    """Return the last colon before which it is a network: `2001:db8::` begins `2001:db8::1`; without one, end."""
    later = end
    while later >= 0:
        if _is_network(line[start:later]):
            end = later
        later = line.find(b":", later + 1)
    return end


def _is_network(text: bytes) -> bool:
    try:
        network_of(text)
    except BadValue:
        return False
    return True


def network_of(text: bytes) -> tuple[bytes, int]:
    """Return (4 or 16 bytes, prefix length) of an address or `address/length`.  Raises BadValue."""
    address, slash, length = text.partition(b"/")
    family = socket.AF_INET6 if b":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address.decode("ascii"))
    except (OSError, ValueError):
        raise BadValue("not an address or a network, for example 192.0.2.0/24") from None
    bits = len(packed) * 8
    if slash and (not length.isdigit() or len(length) > 3 or not 1 <= int(length) <= bits):
        raise BadValue(f"the length of the prefix is from 1 to {bits}")
    count = int(length) if slash else bits
    if int.from_bytes(packed, "big") & ((1 << bits - count) - 1):
        raise BadValue(f"the address has bits beyond the first {count}")
    return packed, count


def network_key(packed: bytes, length: int) -> bytes:
    """Return the key of a network."""
    return b"4%02d%b" % (length, packed) if len(packed) == 4 else b"6%03d%b" % (length, packed)


def network_text(key: bytes) -> bytes:
    """Return the network of a key, `192.0.2.0/24`."""
    packed, length = (key[3:], key[1:3]) if key[:1] == IP4 else (key[4:], key[1:4])
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed).encode() + b"/%d" % int(length)


def _address_at(text: bytes, offset: int) -> tuple[bytes, bytes]:
    """Return (key, address as it is shown).  Raises BadPlace."""
    try:
        return read_address(text)
    except BadValue as bad:
        raise BadPlace(offset, f"{bad}: {printable(text)}") from None


def read_address(text: bytes) -> tuple[bytes, bytes]:
    """Return (key, address as it is shown) of the address of a line.  Raises BadValue."""
    if not text:
        return EVERYTHING, b""
    word, equals, rest = text.partition(b"=")
    if equals:
        return _address_of_word(word, rest)
    if text.startswith(POOL):
        return (name := group_name(text)), name
    if text.startswith(GROUP):
        return (name := _group_address(text)), name
    if text.startswith(b"."):
        return (name := b"." + name_of(text[1:])), name
    if text.endswith(b".*"):
        label = name_of(text[:-2], "a label")
        if b"." in label:
            raise BadValue("one label stands before the star")
        return STAR + label, label + b".*"
    name = literal_address(text) or name_of(text)
    return DOMAIN_LINE + name, b"[%b]" % name if b":" in name else name


def _address_of_word(word: bytes, rest: bytes) -> tuple[bytes, bytes]:
    if word == b"mx":
        if rest.startswith(b"."):
            name = name_of(rest[1:], "a host")
            return HOST_SUFFIX + name, b"mx=." + name
        name = name_of(rest, "a host")
        return HOST_LINE + name, b"mx=" + name
    if word == b"ip":
        key = network_key(*network_of(rest))
        return key, b"ip=" + network_text(key)
    if word == b"from":
        name = name_of(rest) if rest else b""
        return SENDER + name, b"from=" + name
    if word == b"rcpt":
        return RECIPIENT + rest.lower(), b"rcpt=" + rest.lower()
    raise BadValue("not an address: mx=, ip=, from=, rcpt= are known")


def _group_address(text: bytes) -> bytes:
    name, slash, source = text.partition(b"/")
    if not slash:
        return group_name(name)
    address = literal_address(source)
    if address is None:
        raise BadValue("after the slash stands the address of a source")
    return group_name(name) + b"/" + address


def _pieces(line: bytes, start: int) -> "list[tuple[int, bytes]]":
    """Return [(offset, text)] of what stands between commas.  Raises BadPlace where nothing does."""
    pieces = []
    for piece in line[start:].split(b","):
        if not piece:
            raise BadPlace(start, "no item")
        pieces.append((start, piece))
        start += len(piece) + 1
    return pieces


def read_items(
    line: bytes, start: int, allowed: frozenset[bytes] = frozenset((*KEYS, b"@"))
) -> "list[tuple[bytes, object, bytes, int]]":
    """Return the items that begin at start, see RuleLine.  Raises BadPlace."""
    items: list[tuple[bytes, object, bytes, int]] = []
    seen = set()
    for offset, piece in _pieces(line, start):
        key, equals, value = piece.partition(b"=")
        if piece.startswith(b"@"):
            key = b"@"
        if key not in KEYS and key != b"@":
            raise BadPlace(offset, f"unknown key: {printable(key)}")
        if key == b"until" and key not in allowed:
            raise BadPlace(offset, "only destinations.now has until")
        if key not in allowed:
            raise BadPlace(offset, f"a line of this address cannot have {printable(key)}")
        try:
            meant = group_name(piece) if key == b"@" else read_item(key, value if equals else None)
        except BadValue as bad:
            raise BadPlace(offset + (len(key) + 1 if equals else 0), f"{printable(piece)}: {bad}") from None
        if (again := _what_is_once(key, meant)) in seen:
            raise BadPlace(offset, f"twice in a line: {printable(piece)}")
        seen.add(again)
        items.append((key, meant, piece.lower() if key in (b"@", b"src", b"route", b"fall") else piece, offset))
    _check_sessions(items)
    return sorted(items, key=lambda item: ORDER.get(item[0], -1))  # groups first, in their order


def _what_is_once(key: bytes, meant: object) -> tuple[object, ...]:
    if key == b"@":
        return key, meant
    return (key, meant[-1]) if key in LIMITS and isinstance(meant, tuple) else (key,)


def _check_sessions(items: "list[tuple[bytes, object, bytes, int]]") -> None:
    """Raise BadPlace where all sources together get less than each."""
    found = {(key, meant[-1]): (meant[0], offset) for key, meant, _, offset in items if isinstance(meant, tuple)}
    for (key, scope), (value, offset) in found.items():
        each = found.get((b"c", scope))
        if key == b"C" and each is not None and value < each[0]:
            raise BadPlace(offset, f"C={value} is less than c={each[0]}: all sources together get less than each")


def read_members(line: bytes, start: int) -> "list[tuple[bytes, object, bytes, int]]":
    """Return the sources of a pool as items, the value a PoolMember.  Raises BadPlace."""
    items: list[tuple[bytes, object, bytes, int]] = []
    seen = set()
    if start == len(line):
        raise BadPlace(start, "a pool without sources")
    for offset, piece in _pieces(line, start):
        try:
            member = pool_member(piece)
        except BadValue as bad:
            raise BadPlace(offset, f"{printable(piece)}: {bad}") from None
        if member.address in seen:
            raise BadPlace(offset, f"twice in a line: {printable(piece)}")
        seen.add(member.address)
        items.append((b"%", member, piece, offset))
    return items
