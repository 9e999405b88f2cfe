"""Advice about rules in source form: which line holds for a client, and which lines can never hold."""

from pyqmail.tcp.rules import Instruction, addresses
from pyqmail.tcp.rules_keys import IP4_NETWORK, MAPPED, ip6_packed, readable
from pyqmail.tcp.rules_source import BadLine, rule_of

_SHOWN_BYTES = 200
_CLEAN = bytes(c if 32 <= c < 127 else 63 for c in range(256))


def explain(source: bytes, ip: bytes, host: bytes | None, info: bytes | None) -> bytes:
    """Return, line by line: the keys that no rule has, the rule that holds with its number, why, and what it does.

    ip, host and info as for find_rule(), IPv6 in its short form.  Raises BadLine: such a source would not be compiled.
    """
    rules = {}
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
    """Return what a key that was found is for its client."""
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
    """Return (line number, what is wrong, the line for print) for each line that can never hold, or that is no rule."""
    found, owners = [], {}
    for number, line in enumerate(source.split(b"\n"), 1):
        problem = _problem(line, number, owners)
        if problem:
            found.append((number, problem, _shown(line)))
    return found


def _shown(line):
    line = line.rstrip(b" \t\r").translate(_CLEAN)
    return line if len(line) <= _SHOWN_BYTES else line[:_SHOWN_BYTES] + b"..."


def _problem(line, number, owners):
    """Return what is wrong with a line, None if nothing is.  owners, key -> number of its line, is added to."""
    text = line.rstrip(b" \t")
    if text.startswith(b"#") or text in (b"", b"\r"):
        return None
    if b":" not in text:
        return "no colon, so it is skipped"
    try:
        address, _, keys = rule_of(line)
    except BadLine as bad:
        return "not a rule: it ends in a carriage return" if text.endswith(b"\r") else f"not a rule: {bad}"
    keys = list(keys)
    if not keys:
        return "an empty range, so it is skipped"
    taken = [key for key in keys if owners.setdefault(key, number) != number]
    why = _why_never(address, keys[0])
    if why:
        return f"never matches: {why}"
    if taken:
        one = f"line {owners[taken[0]]} has the same address, and the first counts"
        part = "" if len(taken) == len(keys) else f" for {len(taken)} of its {len(keys)} addresses"
        return f"never matches{part}: {one}"
    return None


def _why_never(address, key):
    """Return why no client is ever looked up under this key, the first of those of an address; None if one can be."""
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
