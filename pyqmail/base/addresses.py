"""Addresses in their internal, unquoted form: splitting, quoting, and cleaning for lines that people read."""

_ATOM = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-./=?^_`{|}~")
_RECEIVED = bytes(
    c if c in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.@%+/=:-[]" else 63 for c in range(256)
)
_PRINTABLE = bytes(c if 32 < c < 127 else 63 for c in range(256))


def domain_part(address: bytes) -> bytes:
    """Return what follows the last @, empty if there is none."""
    return address.rpartition(b"@")[2] if b"@" in address else b""


def quote(address: bytes) -> bytes:
    """Return the address with its local part quoted if it needs it.  RFC 5321 section 4.1.2; quote2() of qmail

    An empty address stays empty; without @ the whole is taken as it stands.
    """
    if b"@" not in address:
        return address
    box, _, domain = address.rpartition(b"@")
    return quote_word(box) + b"@" + domain


def quote_word(box: bytes) -> bytes:
    """Return a local part in double quotes if anything in it is not atom characters and single inner dots."""
    plain = box and not box.startswith(b".") and not box.endswith(b".") and b".." not in box and _ATOM.issuperset(box)
    if plain:
        return box
    for mark in (b"\\", b'"', b"\r", b"\n"):
        box = box.replace(mark, b"\\" + mark)
    return b'"' + box + b'"'


def received_text(text: bytes) -> bytes:
    """Return text fit for a Received line: bytes outside letters, digits and .@%+/=:-[] become `?`."""
    return text.translate(_RECEIVED)


def printable(text: bytes) -> bytes:
    """Return text with `?` for each byte that is a blank, a control or not ASCII."""
    return text.translate(_PRINTABLE)


def suffixes(domain: bytes) -> list[bytes]:
    """Return the domain, then each end of it that starts with a dot, longest first.

    `a.b.c` gives `a.b.c`, `.b.c`, `.c`.  An empty domain gives itself alone.
    """
    ends = [domain]
    cut = domain.find(b".", 1)
    while cut > 0:
        ends.append(domain[cut:])
        cut = domain.find(b".", cut + 1)
    return ends
