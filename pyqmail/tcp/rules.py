"""Rules: what tcprules compiles, what its records say, and which of them holds for a client.

A rule is one record of a cdb: the key is its address, the data its instruction.
"""

import os

from pyqmail.system.cdb import Reader


class BadLine(ValueError):
    """A line of the source that is no rule; `line` is that line without blanks at its end."""

    def __init__(self, line: bytes) -> None:
        super().__init__(line)
        self.line = line


def compile_lines(source: bytes):
    """Yield (key, data) for each record of the source, in its order.  Raises BadLine.

    A line without a colon is skipped without a word, as the original does.  Source: tcprules of ucspi-tcp
    """
    for line in source.split(b"\n"):
        line = line.rstrip(b" \t")
        if line.startswith(b"#") or b":" not in line:
            continue
        address, _, instruction = line.partition(b":")
        try:
            data = encode(instruction)
            keys = expand(address)
        except ValueError:
            raise BadLine(line) from None
        for key in keys:
            yield key, data


def encode(instruction: bytes) -> bytes:
    """Return the data of an instruction: `D` NUL if it denies, `+NAME=VALUE` NUL for each variable.

    The quote is any byte at all.  Raises ValueError.
    """
    if instruction.startswith(b"deny"):
        data, rest = b"D\0", instruction[4:]
    elif instruction.startswith(b"allow"):
        data, rest = b"", instruction[5:]
    else:
        raise ValueError(instruction)
    while rest:
        name, equals, rest = rest.partition(b"=")
        if not name.startswith(b",") or not equals or not rest:
            raise ValueError(instruction)
        value, quote, rest = rest[1:].partition(rest[:1])
        if not quote:
            raise ValueError(instruction)
        data += b"+" + name[1:] + b"=" + value + b"\0"
    return data


def expand(address: bytes) -> list[bytes]:
    """Return the keys of an address: itself, or one for each number of its range, `1.2.3.37-39`.

    Only an address without = and @ is a range.  An upper bound above 255 is 255; an empty number is 0.
    Raises ValueError for bounds that are no numbers.
    """
    if b"-" not in address or b"=" in address or b"@" in address:
        return [address]
    before, _, after = address.partition(b"-")
    head, dot, low = before.rpartition(b".")
    high, dot_after, tail = after.partition(b".")
    first, last = _number(low), min(_number(high), 255)
    return [head + dot + b"%d" % number + dot_after + tail for number in range(first, last + 1)]


def _number(text: bytes) -> int:
    if text and not text.isdigit():
        raise ValueError(text)
    return int(text or b"0") % (1 << 64)


class Instruction:
    """What a rule says: `key`, its address; is_denied; variables, pairs of (name, value) in their order."""

    __slots__ = ("key", "is_denied", "variables")

    def __init__(self, key: bytes, data: bytes) -> None:
        pieces = data.split(b"\0")[:-1]
        self.key = key
        self.is_denied = any(piece.startswith(b"D") for piece in pieces)
        settings = (piece[1:].partition(b"=") for piece in pieces if piece.startswith(b"+"))
        self.variables = [(name, value) for name, equals, value in settings if equals]


def find_rule(get, ip: bytes, host: bytes | None, info: bytes | None) -> Instruction | None:
    """Return the instruction of the first address that has one, None if there is none: then all are allowed.

    get(key) returns data or None.  host and info are None when unknown; info may be known and empty.
    """
    for key in addresses(ip, host, info):
        data = get(key)
        if data is not None:
            return Instruction(key, data)
    return None


def addresses(ip: bytes, host: bytes | None, info: bytes | None):
    """Yield the addresses under which a client's rule may stand, in the order they count."""
    if info is not None:
        yield info + b"@" + ip
        if host is not None:
            yield info + b"@=" + host
    yield ip
    if host is not None:
        yield b"=" + host
    cut = ip.rfind(b".")
    while cut >= 0:
        yield ip[: cut + 1]
        cut = ip.rfind(b".", 0, cut)
    if host is not None:
        cut = host.find(b".")
        while cut >= 0:
            yield b"=" + host[cut:]
            cut = host.find(b".", cut + 1)
        yield b"="
    yield b""


class Rules:
    """A rules file kept open: opened again once another file stands there, or it was changed in place.

    absent_allows: a file that does not exist means no rule.  Raises OSError from find().
    """

    def __init__(self, path: str | bytes, absent_allows: bool = False) -> None:
        path = os.fsencode(path)
        self._path, self._absent_allows = os.path.join(os.getcwdb(), path) if path else path, absent_allows
        self._reader = self._stamp = None

    def find(self, ip: bytes, host: bytes | None, info: bytes | None) -> Instruction | None:
        try:
            stamp = _stamp(os.stat(self._path))
            if stamp != self._stamp:
                self.close()
                self._reader = Reader(self._path)
                self._stamp = _stamp(self._reader.seen)
        except FileNotFoundError:
            if self._absent_allows:
                return None
            raise
        return find_rule(self._reader.get, ip, host, info)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = self._stamp = None


def _stamp(seen):
    return seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size
