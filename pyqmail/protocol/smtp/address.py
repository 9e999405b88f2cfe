"""Paths as SMTP clients write them after MAIL FROM: and RCPT TO:, read as the original reads them.

The result is the unquoted internal form: `"a b"@c` becomes `a b@c`.  Nothing is refused here: what is no path
gives some address, often the empty one, and policy decides.  Source: addrparse() of qmail-smtpd;
the grammar is in RFC 5321 section 4.1.2
"""

LIMIT_BYTES = 899  # qmail-smtpd counts 900 with the terminator
_MAX_PARAMETERS = 100
_RARE = 16  # marks that stand this many bytes apart, on average, are looked for rather than met


def parse_path(argument: bytes) -> tuple[bytes, bytes]:
    """Return (address, what follows its end) of the argument of MAIL or RCPT.

    The address starts after the first `<` and ends at `>`; without `<` it starts after the first colon and the
    blanks there, and ends at a blank.  The word before the colon is not looked at, a missing `>` is forgiven, a
    source route is dropped.
    """
    start = argument.find(b"<")
    if start >= 0:
        text, end = argument[start + 1 :], b">"
    else:
        text, end = argument.partition(b":")[2].lstrip(b" "), b" "
    if text.startswith(b"@"):
        text = text.partition(b":")[2]
    address, _, rest = text.partition(end)
    if b"\\" in address or b'"' in address:
        return _unquote(text, end)
    return address, rest


def split_parameters(rest: bytes) -> dict[bytes, bytes]:
    """Return the parameters after a path, keywords in upper case; a keyword without `=` has an empty value.

    What comes after so many words that nobody means it is not looked at.
    """
    pairs = (word.partition(b"=") for word in rest.split(b" ", _MAX_PARAMETERS)[:_MAX_PARAMETERS])
    return {keyword.upper(): value for keyword, _, value in pairs if keyword}


def address_literal(address: bytes) -> bytes | None:
    """Return the IPv4 address `d.d.d.d` if the domain part is `[d.d.d.d]`; None for any other.

    Each number is cut to eight bits, as the original cuts it.  Source: ip_scanbracket() of qmail
    """
    at = address.rfind(b"@[")
    if at < 0 or at != address.rfind(b"@") or not address.endswith(b"]"):
        return None
    numbers = address[at + 2 : -1].split(b".")
    if len(numbers) != 4 or not all(number.isdigit() and len(number) <= LIMIT_BYTES for number in numbers):
        return None
    return b".".join(b"%d" % (int(number) & 255) for number in numbers)


def _unquote(text: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Copy up to the first end that is neither quoted nor escaped, without quotes and backslashes."""
    if (text.count(b"\\") + text.count(b'"')) * _RARE < len(text):
        return _unquote_long(text, end)
    address, is_quoted, is_escaped = bytearray(), False, False
    for at, byte in enumerate(text):
        if is_escaped:
            address.append(byte)
            is_escaped = False
        elif byte == end[0] and not is_quoted:
            return bytes(address), text[at + 1 :]
        elif byte == 0x5C:
            is_escaped = True
        elif byte == 0x22:
            is_quoted = not is_quoted
        else:
            address.append(byte)
    return bytes(address), b""


def _unquote_long(text: bytes, end: bytes) -> tuple[bytes, bytes]:
    """The same, from mark to mark."""
    pieces: list[bytes] = []
    at, is_quoted = 0, False
    marks = {mark: text.find(mark) for mark in (b"\\", b'"', end)}
    while True:
        places = (place for mark, place in marks.items() if place >= 0 and not (is_quoted and mark == end))
        found = min(places, default=-1)
        if found < 0:
            return b"".join((*pieces, text[at:])), b""
        pieces.append(text[at:found])
        mark, at = text[found : found + 1], found + 1
        if mark == end:
            return b"".join(pieces), text[at:]
        if mark == b'"':
            is_quoted = not is_quoted
        else:
            pieces.append(text[at : at + 1])
            at += 1
        for mark, place in marks.items():
            if 0 <= place < at:
                marks[mark] = text.find(mark, at)
