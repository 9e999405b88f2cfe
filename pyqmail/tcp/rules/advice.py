"""Advice about rules in source form: the line that holds for a client, and lines that can never hold."""

from pyqmail.base.numbers import UINT32, ULONG, event_rate, is_number, leading_number, says_just
from pyqmail.tcp.rules.coverage import span_of, unreached
from pyqmail.tcp.rules.keys import IP4_NETWORK, MAPPED, ip6_packed, readable
from pyqmail.tcp.rules.lookup import Instruction, addresses
from pyqmail.tcp.rules.source import BadLine, rule_of

_SHOWN_BYTES = 200
# variables that programs read as numbers: of any other value the first digits count
NUMBERS = frozenset(
    (b"DATABYTES", b"GREETDELAY", b"GREETHOLD", b"MAXCONNC", b"MAXCONNIP", b"MAXCONNRATE", b"MAXLOAD"),
)
# variables that pysmtpd reads as limits: any other value has no effect (base/controls.py)
LIMITS = frozenset(
    (
        *(b"BRTLIMIT", b"EARLYTALKERS", b"ERRORDELAY", b"ERRORLIMIT", b"JUNKLIMIT", b"MAXRCPT", b"MINDATARATE"),
        *(b"SESSIONIDLE", b"SOFTERRORLIMIT", b"TARPITCOUNT", b"TARPITDELAY", b"CLIENTCONNECTIONS", b"CLIENTNETWORK"),
    )
)
RATES = frozenset((b"CLIENTRATE", b"CLIENTMESSAGES", b"CLIENTRECIPIENTS"))  # likewise, as N or N/PERIOD
_MAX_LIMIT = 1 << 31
_CLEAN = bytes(c if 32 <= c < 127 else 63 for c in range(256))


def explain(source: bytes, ip: bytes, host: bytes | None, info: bytes | None) -> bytes:
    """Return lines: the keys that no rule has, then the number of the line that holds, why it does, and its effect.

    ip, host and info as for find_rule(), IPv6 in its short form.  Raises BadLine: such a source is not compiled.
    """
    rules: dict[bytes, tuple[int, bytes, bytes]] = {}
    for number, line in enumerate(source.split(b"\n"), 1):
        rule = rule_of(line)
        for key in rule[2] if rule is not None else ():
            rules.setdefault(key, (number, line, rule[1]))

    def key_lengths(starts):
        return {len(key) for key in rules if key.startswith(starts)}

    out = []
    for key in addresses(ip, host, info, key_lengths):
        if key not in rules:
            place = key.rpartition(b"@")[2]
            if b":" not in place or not ip.startswith(place):  # one that only the IPv6 patch would compile
                out.append(b"no rule for %b\n" % _named(key))
            continue
        number, line, data = rules[key]
        out.append(b"line %d holds: %b\n" % (number, _shown(line)))
        out.append(b"it is the rule for %b: %b\n" % (_named(key), _kind(key, host, info)))
        out.append(Instruction(key, data).told())
        return b"".join(out)
    return b"".join(out) + b"no line holds\nallow connection\n"


def _named(key):
    return readable(key).translate(_CLEAN) or b"everybody else"


def _kind(key, host, info):
    """Return in words what a key that was found is to the client."""
    if info is not None and key.startswith(info + b"@"):
        return b"what is known of the user, and the %b" % (b"name" if key[len(info) + 1 :][:1] == b"=" else b"address")
    if host is not None and key.startswith(b"="):
        return b"any name" if key == b"=" else b"the name" if key[1:] == host else b"the end of the name"
    if readable(key) != key:
        return b"a network that the address is in"
    if key.endswith((b".", b":")):
        return b"the start of the address"
    return b"the address" if key else b"the empty address"


def lint(source: bytes) -> list[tuple[int, str, bytes]]:
    """Return (line number, problem, printable line) for each line that can never hold, or that is not a rule."""
    return [(number, problem, _shown(line)) for number, problem, line, _ in _problems(source)]


def warnings(source: bytes) -> list[tuple[int, str, bytes]]:
    """Return those of them that a compilation reports: a denial that does not hold, or a value that is no number."""
    return [(number, problem, _shown(line)) for number, problem, line, is_grave in _problems(source) if is_grave]


def _problems(source):
    """Yield (line number, problem, line, whether a client may be admitted by mistake) in the order of the lines."""
    owners, denies, lines = {}, {}, source.split(b"\n")
    for number, line in enumerate(lines, 1):
        rule = _rule(line)
        for key in rule[2] if rule is not None else ():
            if key not in owners:
                owners[key], denies[key] = number, rule[1].startswith(b"D")
    covered = unreached(denies)
    for number, line in enumerate(lines, 1):
        problem, is_harmless = _problem(line, number, owners, denies, covered)
        if problem:
            _, _, instruction = line.partition(b":")
            denies_somebody = b"deny" in (instruction or line)
            yield number, problem, line, denies_somebody and not is_harmless
        else:
            yield from ((number, text, line, is_grave) for text, is_grave in _odd_variables(line))


def _rule(line):
    try:
        rule = rule_of(line)
        return None if rule is None else (rule[0], rule[1], list(rule[2]))
    except BadLine:
        return None


def _odd_variables(line):
    """Yield (oddity of a variable of a rule, whether a client may be admitted by mistake)."""
    rule = _rule(line)
    for name, value in Instruction(b"", rule[1]).variables if rule is not None else ():
        if not name:
            yield "a variable without a name, which cannot be set", False
        elif name.strip(b" \t") != name or b" " in name or b"\t" in name:
            yield f"a blank in the name of a variable: {_text(name)!r}", False
        elif name in NUMBERS:
            number = leading_number(value, UINT32 if name == b"DATABYTES" else ULONG)
            if not says_just(value, number):
                what = "is too large a number" if is_number(value) else "is no number"
                yield f"{_text(name)} {what}, and is read as {number}: {_text(value[:64])!r}", True
        elif name in RATES and not _is_rate(value):
            yield f"{_text(name)} is no rate, and has no effect: {_text(value[:64])!r}", True
        elif name in LIMITS and not (is_number(value) and leading_number(value) <= _MAX_LIMIT):
            yield f"{_text(name)} is no number up to {_MAX_LIMIT}, and has no effect: {_text(value[:64])!r}", True


def _text(name):
    return name[:64].translate(_CLEAN).decode()


def _shown(line):
    line = line.rstrip(b" \t\r").translate(_CLEAN)
    return line if len(line) <= _SHOWN_BYTES else line[:_SHOWN_BYTES] + b"..."


def _problem(line, number, owners, denies, covered):
    """Return (problem of a line, None if it has none; whether its clients are denied even so).

    owners: key -> number of its line; denies: key -> whether that denies; covered: see unreached().
    """
    text = line.rstrip(b" \t")
    if text.startswith(b"#") or text in (b"", b"\r"):
        return None, True
    if b":" not in text:
        return "no colon, so it is skipped", False
    try:
        address, _, keys = rule_of(line)
    except BadLine as bad:
        return "not a rule: it ends in a carriage return" if text.endswith(b"\r") else f"not a rule: {bad}", False
    keys = list(keys)
    if not keys:
        return "an empty range, so it is skipped", False
    why = _why_never(address, keys[0])
    if why:
        return f"never matches: {why}", False
    taken = [key for key in keys if owners[key] != number]
    if taken:
        one = f"line {owners[taken[0]]} has the same address, and the first counts"
        part = "" if len(taken) == len(keys) else f" for {len(taken)} of its {len(keys)} addresses"
        return f"never matches{part}: {one}", all(denies[key] for key in taken)
    if all(key in covered for key in keys):
        one = _line_with_all(keys[0], owners) if len(keys) == 1 else None
        others = f"line {one} is" if one else "other lines are"
        return f"never matches: {others} looked at before it, with all of its addresses", all(map(covered.get, keys))
    return None, True


def _line_with_all(key, owners):
    """Return the number of a line that alone has all addresses of a key and is searched before it, or None."""
    span = span_of(key)
    for other, number in owners.items():
        its = span_of(other)
        is_before = its is not None and its.family == span.family and its.rank < span.rank
        if is_before and its.low <= span.low and span.high <= its.high:
            return number
    return None


def _why_never(address, key):
    """Return why no client is ever looked up by key, the first key of an address; None if one may be."""
    if any(blank in address for blank in (b" ", b"\t", b"\0")):
        return "a blank or NUL in the address"
    info, at, place = address.rpartition(b"@")
    if place.startswith(b"="):
        return _why_no_name(place[1:], bool(at))
    if b":" in place:
        return _why_no_ip6(place)
    if b"/" in place:
        bits = place.partition(b"/")[2]
        if key.startswith(IP4_NETWORK):
            return None
        return "a network of 0 bits; the empty address is for everybody" if bits == b"0" else _NO_NETWORK
    if place == b"unix" or not address:
        return None
    return _why_no_ip4(place if at else key, bool(at))


_NO_NETWORK = "not a network: those are four numbers, /, and 1 to 32, without a user before them"
_NOTHING = "neither an address, a prefix, a range nor a name, which starts with ="


def _why_no_name(name, has_info):
    if name != name.lower():
        return "upper case in the name"
    if name.endswith(b"."):
        return "a dot at the end of the name"
    if has_info and (not name or name.startswith(b".")):
        return "after user@ only a whole address or name can stand"
    return None


def _why_no_ip6(place):
    ip, slash, bits = place.partition(b"/")
    packed = ip6_packed(ip)
    is_mapped = packed is not None and packed.startswith(MAPPED)
    return "such clients are looked up by their IPv4 address" if is_mapped and int(bits or 128) >= 96 else None


def _why_no_ip4(place, has_info):
    groups = place.removesuffix(b".").split(b".")
    if not all(group.isdigit() for group in groups):
        return _NOTHING
    if any(len(group) > 1 and group.startswith(b"0") for group in groups):
        return "zeros before a number"
    if any(len(group) > 3 or int(group) > 255 for group in groups):
        return "a number above 255"
    if len(groups) > 4 or (len(groups) == 4 and place.endswith(b".")):
        return "more than four numbers, or a dot after the fourth"
    if has_info and len(groups) < 4:
        return "after user@ only a whole address or name can stand"
    if len(groups) < 4 and not place.endswith(b"."):
        return "neither an address nor a prefix, which ends in a dot"
    return None


def _is_rate(value):
    try:
        return bool(event_rate(value, _MAX_LIMIT))
    except ValueError:
        return False
