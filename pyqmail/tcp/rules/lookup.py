"""Look up the compiled rule that holds for a client.

A rule is one record of a cdb: the key is its address, the data its instruction.  source.py compiles them.  Files
of ucspi-tcp 0.88, of its IPv6 patch and of ucspi-tcp6 are all understood: where their keys coincide they mean
the same, so each step of the search tries the forms of all.
"""

import os

from pyqmail.system.cdb import Reader
from pyqmail.tcp.rules.keys import IP4_NETWORK, IP6_NETWORK, STARTS, ip6_key, ip6_packed, ip6_text, network_key


class Instruction:
    """The content of a rule: `key`, its address; is_denied; variables, (name, value) in order."""

    __slots__ = ("key", "is_denied", "variables")

    def __init__(self, key: bytes, data: bytes) -> None:
        pieces = data.split(b"\0")[:-1]
        self.key = key
        self.is_denied = any(piece.startswith(b"D") for piece in pieces)
        settings = (piece[1:].partition(b"=") for piece in pieces if piece.startswith(b"+"))
        self.variables = [(name, value) for name, equals, value in settings if equals]

    def told(self) -> bytes:
        """Return the lines of tcprulescheck about it.  A denial shows no variables: they are never set."""
        if self.is_denied:
            return b"deny connection\n"
        settings = (b"set environment variable %b=%b\n" % setting for setting in self.variables)
        return b"".join(settings) + b"allow connection\n"


def find_rule(get, ip: bytes, host: bytes | None, info: bytes | None, key_lengths=None) -> Instruction | None:
    """Return the instruction of the first address that has one, None if none has: then the client is allowed.

    get(key) returns data or None.  ip is dotted, or IPv6 text, or `unix`; an IPv4-mapped address must be dotted.  host
    and info are None if unknown; info may be known and empty.  key_lengths as in addresses().
    """
    for key in addresses(ip, host, info, key_lengths):
        data = get(key)
        if data is not None:
            return Instruction(key, data)
    return None


def addresses(ip: bytes, host: bytes | None, info: bytes | None, key_lengths=None):
    """Yield the addresses that a client's rule may have, in the order of the search.

    key_lengths(starts), if given, returns the lengths of the keys that have one of these starts, or None if that is
    unknown: networks of sizes that no rule has are left out, and most files have none at all.
    """
    packed = ip6_packed(ip) if b":" in ip else None
    forms = (ip,) if packed is None else (ip6_key(packed), ip6_text(packed))
    if info is not None:
        for form in forms:
            yield info + b"@" + form
        if host is not None:
            yield info + b"@=" + host
    yield from forms
    if host is not None:
        yield b"=" + host
    text = forms[-1]
    if packed is None:
        cut = text.rfind(b".")
        while cut >= 0:
            yield text[: cut + 1]
            cut = text.rfind(b".", 0, cut)
    else:
        yield from (text[: cut + 1] for cut in range(len(text) - 1, -1, -1) if text[cut] in b":.")
    yield from _networks(text, key_lengths)
    if host is not None:
        cut = host.find(b".")
        while cut >= 0:
            yield b"=" + host[cut:]
            cut = host.find(b".", cut + 1)
        yield b"="
    yield b""


def _networks(ip, key_lengths):
    """Yield the keys of the networks that an address is in, the smallest first."""
    there = key_lengths(STARTS[IP6_NETWORK if b":" in ip else IP4_NETWORK]) if key_lengths else None
    if there is None or there:
        key = network_key(ip)
        yield from (key[:length] for length in range(len(key), 1, -1) if there is None or length in there)


class Rules:
    """A file of rules that is kept open, and opened again once it was replaced or changed in place.

    absent_allows: a missing file means no rule.  find() raises OSError.
    """

    def __init__(self, path: str | bytes, absent_allows: bool = False) -> None:
        path = os.fsencode(path)
        self._path, self._absent_allows = os.path.join(os.getcwdb(), path) if path else path, absent_allows
        self._reader: Reader | None = None
        self._stamp: tuple[int, ...] | None = None

    def find(self, ip: bytes, host: bytes | None, info: bytes | None) -> Instruction | None:
        try:
            stamp, reader = _stamp(os.stat(self._path)), self._reader
            if reader is None or stamp != self._stamp:
                self.close()
                reader = self._reader = Reader(self._path)
                self._stamp = _stamp(reader.seen)
        except FileNotFoundError:
            if self._absent_allows:
                return None
            raise
        return find_rule(reader.get, ip, host, info, reader.key_lengths)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = self._stamp = None


def _stamp(seen):
    return seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size
