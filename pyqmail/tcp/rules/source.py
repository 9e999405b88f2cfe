"""Compile rules: lines of the source to records.

A line is an address, a colon and an instruction.  The address ends at the first colon that `deny` or `allow` follows,
and has no colon itself unless it is one of IPv6: so every line that is a rule for tcprules of ucspi-tcp 0.88, which
takes the first colon of all, means the same here, and a line that it refuses is a rule here only if an IPv6 address
makes it one, as in `2001:db8::1:allow,A="x:y"`.  Only IPv4 networks mean more than there: what never matched now does.
"""

from pyqmail.tcp.rules.keys import ip4_network_key, ip4_number, ip6_key, ip6_network_key, ip6_packed

INSTRUCTIONS = (b"deny", b"allow")


class BadLine(ValueError):
    """A line of the source is not a rule: str() is the reason, `line` the line without blanks at its end."""

    def __init__(self, line: bytes, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def compile_lines(source: bytes):
    """Yield (key, data) for each record of the source, in order.  Raises BadLine.  Source: tcprules of ucspi-tcp"""
    for line in source.split(b"\n"):
        rule = rule_of(line)
        if rule is not None:
            _, data, keys = rule
            for key in keys:
                yield key, data


def rule_of(line: bytes):
    """Return (address, data, keys) of a line, keys any iterable; None for a comment.  Raises BadLine.

    A line without a colon counts as a comment, as in the original.
    """
    line = line.rstrip(b" \t")
    if line.startswith(b"#") or b":" not in line:
        return None
    try:
        address, instruction = split(line)
        return address, encode(instruction), keys_of(address)
    except ValueError as error:
        raise BadLine(line, str(error)) from None


def split(line: bytes) -> tuple[bytes, bytes]:
    """Return the address and the instruction of a line that has a colon; the instruction may be wrong."""
    address, _, instruction = line.partition(b":")
    if not instruction.startswith(INSTRUCTIONS):
        cuts = [cut for cut in (line.find(b":" + word) for word in INSTRUCTIONS) if cut >= 0]
        if cuts:
            address, instruction = line[: min(cuts)], line[min(cuts) + 1 :]
    return address, instruction


def encode(instruction: bytes) -> bytes:
    """Return the data of an instruction: `D` NUL if it denies, `+NAME=VALUE` NUL for each variable.

    Any byte can be the quote.  Raises ValueError.
    """
    if instruction.startswith(b"deny"):
        data, rest = [b"D\0"], instruction[4:]
    elif instruction.startswith(b"allow"):
        data, rest = [], instruction[5:]
    else:
        raise ValueError("neither deny nor allow after the address")
    at, end = 0, len(rest)
    while at < end:
        equals = rest.find(b"=", at)
        close = rest.find(rest[equals + 1 : equals + 2], equals + 2) if 0 <= equals < end - 1 else -1
        if rest[at] != 44 or close < 0:
            raise ValueError('after deny or allow only ,NAME="VALUE" can stand, once or more')
        data.append(b"+" + rest[at + 1 : equals] + b"=" + rest[equals + 2 : close] + b"\0")
        at = close + 1
    return b"".join(data)


def keys_of(address: bytes):
    """Return the keys of an address, any iterable of them.  Raises ValueError.

    With a colon it is of IPv6: an address, with or without `info@` before it; a network, `2001:db8::/32`; or its first
    groups, at least two, with a colon after each, `2001:db8:`, which is the same network.  Without one, `10.0.0.0/8` is
    a network.
    """
    if b":" in address:
        return (_ip6_key(address),)
    return map(_network, expand(address)) if b"/" in address else expand(address)


def expand(address: bytes):
    """Return the keys of an address: itself, or one for each number of its range, `1.2.3.37-39`.

    Only an address without = and @ is a range.  An upper bound above 255 is 255; an empty number is 0.
    Raises ValueError for bounds that are no numbers.
    """
    if b"-" not in address or b"=" in address or b"@" in address:
        return (address,)
    before, _, after = address.partition(b"-")
    head, dot, low = before.rpartition(b".")
    high, dot_after, tail = after.partition(b".")
    first, last = _number(low), min(_number(high), 255)
    return (head + dot + b"%d" % number + dot_after + tail for number in range(first, last + 1))


def _number(text):
    if text and not text.isdigit():
        raise ValueError("a range that is not one of numbers")
    return int(text[-64:] or b"0") % (1 << 64)  # 10 to the 64th is a multiple of it


def _network(address):
    """Return the key of an IPv4 network; any other address is unchanged, and never matches, as in 0.88."""
    ip, _, digits = address.partition(b"/")
    number, bits = ip4_number(ip), _prefix_bits(digits, 32)
    return address if number is None or bits is None else ip4_network_key(number, bits)


def _prefix_bits(digits, most):
    """Return how many bits a prefix has; None if digits are no number, or not from 1 to most."""
    bits = int(digits) if digits.isdigit() and len(digits) < 4 else 0
    return bits if 1 <= bits <= most else None


def _ip6_key(address):
    info, at, place = address.rpartition(b"@")
    ip, slash, digits = place.partition(b"/")
    bits = _prefix_bits(digits, 128)
    if _is_first_groups(place):
        ip, slash, bits = place + b":", b"/", 16 * place.count(b":")
    packed = ip6_packed(ip)
    if packed is None or (slash and (at or bits is None)):
        raise ValueError("the address is neither an IPv6 address nor an IPv6 network")
    return ip6_network_key(packed, bits) if slash else info + at + ip6_key(packed)


def _is_first_groups(place):
    """Return whether place is groups, as `2001:db8:`.  A single group is not: `10::deny` has a colon too many."""
    return place.endswith(b":") and place.count(b":") > 1 and not place.startswith(b":") and b"::" not in place
