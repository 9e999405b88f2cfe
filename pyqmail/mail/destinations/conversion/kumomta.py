"""KumoMTA's shaping files as rules: what destinations get, and what replies mean.

What counts here what there counts: connection_limit is one for each site (or, without mx_rollup, each domain),
provider_connection_limit one for all of a provider.  A provider is a group of MX hosts; a domain that has automation is
a group, too, since response rules speak of groups.  A pattern without anything but its own letters is words of a reply;
any other becomes a remark, and so does what has no counterpart.

Source: KumoMTA's user guide, Traffic Shaping; kumo.make_egress_path, kumo.shaping.load of its reference
"""

from pyqmail.base.numbers import is_number
from pyqmail.mail.destinations.conversion.convert import RuleText, time_text
from pyqmail.mail.destinations.rules.responses import read_response
from pyqmail.mail.destinations.rules.text import BadPlace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Table = Mapping[str, Any]

# option -> key, and the scope of a domain whose MX set counts; _OF_ALL: of a provider
_NUMBERS = {
    "connection_limit": (b"c", b"/site"),
    "max_deliveries_per_connection": (b"n", b""),
    "max_recipients_per_batch": (b"m", b""),
    "consecutive_connection_failures_before_delay": (b"dead", b""),
}
_RATES = {"max_message_rate": (b"r", b"/site"), "max_connection_rate": (b"k", b"/site")}
_OF_ALL = {"provider_connection_limit": b"c", "provider_max_message_rate": b"r"}
_TIMEOUTS = ("connect_timeout", "banner_timeout", "data_dot_timeout")
_FAMILIES = {"Ipv4Only": b"4", "Ipv6Only": b"6", "Ipv4AndIpv6": b"46", "Ipv6AndIpv4": b"46"}
_PERIODS = {
    **dict.fromkeys(("s", "sec", "second", "seconds", "secs"), b"s"),
    **dict.fromkeys(("m", "min", "minute", "minutes", "mins"), b"m"),
    **dict.fromkeys(("h", "hr", "hour", "hours", "hrs"), b"h"),
    **dict.fromkeys(("d", "day", "days"), b"d"),
}
_UNIT_SECONDS = {b"s": 1, b"m": 60, b"h": 3600, b"d": 86400}
_ABOUT_SECTIONS = ("match", "mx_rollup", "replace_base", "sources")
MAX_DEPTH = 50  # of tables and lists in one another
MAX_NUMBER = (1 << 63) - 1  # of an integer, and its opposite but for one.  TOML 1.0, Integer
# what a SetConfig lowers -> what is learned here; the value itself is not taken: it is measured
_LEARNED = {"max_message_rate": b"rate site", "max_connection_rate": b"rate site", "connection_limit": b"ceiling",
            "max_deliveries_per_connection": b"n"}  # fmt: skip
_SPECIAL = frozenset(".^$*+?{}[]()|")
_ESCAPES = frozenset(_SPECIAL | set("\\-/#&~ !\"'%,:;<=>@`"))


class Section:
    """A block of the files, merged: name; is_provider; options; automation, a list of tables."""

    __slots__ = ("name", "is_provider", "options", "automation")

    def __init__(self, name: str, is_provider: bool) -> None:
        self.name, self.is_provider = name, is_provider
        self.options: dict[str, Any] = {}
        self.automation: list[Table] = []

    @property
    def origin(self) -> bytes:
        return f'provider "{self.name}"'.encode() if self.is_provider else f'"{self.name}"'.encode()

    @property
    def address(self) -> bytes:
        """The address of its line: empty for the default, a group for a provider and for what has automation."""
        if self.name == "default" and not self.is_provider:
            return b""
        if self.is_provider or self.automation:
            return b"@" + self.name.replace(" ", "-").lower().encode()
        return self.name.lower().encode()


def kumomta(files: "Sequence[Table]") -> tuple[bytes, bytes]:
    """Return (text of control/destinations, text of control/responses) of shaping files that were parsed, in order."""
    text, sections = RuleText(), _sections(files)
    for section in sections:
        _section(text, section)
    if any(section.automation for section in sections):
        text.remark(b"automation: the rules of replies are written by pydestrules -c kumomta-responses")
    destinations = text.text()
    groups = {line.partition(b":")[0] for line in destinations.split(b"\n") if line.startswith(b"@")}
    return destinations, _responses(sections, groups)


def oddity_of(file: "Table") -> str:
    """Return why a parsed file cannot be converted, empty if it can: a parser takes more than TOML says there is."""
    level: list[Any] = [file]
    for _ in range(MAX_DEPTH):
        values = [one for held in level for one in (held.values() if isinstance(held, dict) else held)]
        if any(isinstance(one, int) and abs(one) > MAX_NUMBER for one in values):
            return "an integer has more than 64 bits"
        level = [one for one in values if isinstance(one, (dict, list))]
        if not level:
            return ""
    return f"nested deeper than {MAX_DEPTH}"


def _list_of(value: "Any") -> "list[Any]":
    """Return the elements of a list; anything else counts as its only one."""
    return value if isinstance(value, list) else [value]


def _sections(files: "Sequence[Table]") -> list[Section]:
    """Merge the files: what stands later wins; replace_base forgets what stood before."""
    found: dict[tuple[str, bool], Section] = {}
    for file in files:
        providers = file.get("provider")
        tables = [(name, False, table) for name, table in file.items() if name != "provider"]
        if isinstance(providers, dict):
            tables += [(name, True, table) for name, table in providers.items()]
        for name, is_provider, table in tables:
            if isinstance(table, dict):
                _merge(found, name, is_provider, table)
    return list(found.values())


def _merge(found: "dict[tuple[str, bool], Section]", name: str, is_provider: bool, table: "Table") -> None:
    key = name, is_provider
    if key not in found or table.get("replace_base") is True:
        found[key] = Section(name, is_provider)
    section = found[key]
    rules = [rule for rule in _list_of(table.get("automation", [])) if isinstance(rule, dict)]
    section.automation += rules
    section.options |= {option: value for option, value in table.items() if option != "automation" or not rules}


def _section(text: RuleText, section: Section) -> None:
    address, options, origin = section.address, section.options, section.origin
    if section.is_provider:
        _members(text, section)
    elif section.automation and address:
        text.set(section.name.lower().encode(), address, origin + b": a group, since replies have rules")
    is_rolled = address and not section.is_provider and options.get("mx_rollup", True) is not False
    if is_rolled:
        text.remark(b"mx_rollup: a line of a domain speaks of that domain alone; for others on its hosts write mx=")
    own = b"/dom" if address.startswith(b"@") else b""  # of a domain that is a group here
    for option, value in options.items():
        said = b"%b: %b = %b" % (origin, option.encode(), _shown(value))
        scope = b"/site" if section.is_provider or is_rolled else own
        _option(text, address, option, value, scope if address else b"", said)
    _timeouts(text, address, options, origin)
    sources = options.get("sources", [])
    for source in sources if isinstance(sources, dict) else _list_of(sources):
        text.remark(b'%b, source "%b": not converted: of one source only' % (origin, str(source).encode()))


def _option(text: RuleText, address: bytes, option: str, value: "Any", scope: bytes, said: bytes) -> None:
    if option in _NUMBERS:
        key, scoped = _NUMBERS[option]
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            text.remark(said + b": not converted")
        else:
            text.set(address, b"%b=%d%b" % (key, value, scope if scoped else b""), said)
    elif option in _OF_ALL or option in _RATES:
        key, suffix = (_OF_ALL[option], b"") if option in _OF_ALL else (_RATES[option][0], scope)
        number = _OF_ALL.get(option) == b"c"
        rate = str(value).encode() if number and is_number(str(value).encode()) else rate_of(str(value))
        if rate is None:
            text.remark(said + b": not converted")
        else:
            text.set(address, b"%b=%b%b" % (key, rate, suffix), said)
    elif option == "idle_timeout" and (seconds := seconds_of(value)):
        text.set(address, b"idle=" + time_text(seconds), said)
    elif option == "ip_lookup_strategy" and str(value) in _FAMILIES:
        text.set(address, b"v=" + _FAMILIES[str(value)], said)
    elif option == "smtp_port" and isinstance(value, int):
        text.set(address, b"route=:%d" % value, said)
    elif option not in _ABOUT_SECTIONS and option not in _TIMEOUTS:
        text.remark(said + b": no counterpart")


def _members(text: RuleText, section: Section) -> None:
    """Put the hosts and domains of a provider into its group."""
    group, origin = section.address, section.origin
    for match in _list_of(section.options.get("match", [])):
        for kind, name in match.items() if isinstance(match, dict) else [("", match)]:
            said = b'%b: match %b "%b"' % (origin, str(kind).encode(), str(name).encode())
            addresses = _addresses(str(kind), str(name).lower().encode())
            if not addresses:
                text.remark(said + b": not converted")
            for address in addresses:
                text.set(address, group, said)


def _addresses(kind: str, name: bytes) -> list[bytes]:
    """Return the addresses of lines for what a provider matches; a suffix is one of labels, as far as rules have it."""
    start = {"MXSuffix": b"mx=", "DomainSuffix": b"", "HostName": b"mx="}.get(kind)
    if start is None or not name.strip(b".") or name.startswith(b"-"):
        return []
    if kind == "HostName":
        return [start + name]
    return [start + name] if name.startswith(b".") else [start + name, start + b"." + name]


def _timeouts(text: RuleText, address: bytes, options: "Table", origin: bytes) -> None:
    found = [seconds_of(options.get(name)) for name in _TIMEOUTS]
    if any(found):
        item = b"to=" + b"/".join(time_text(seconds) if seconds else b"" for seconds in found)
        named = ", ".join(name for name, seconds in zip(_TIMEOUTS, found, strict=True) if seconds)
        text.set(address, item, origin + b": " + named.encode())


def rate_of(value: str) -> bytes | None:
    """Return `N/P` or `N/P~B` of `100/min`, `1,000/hour`, `10/s,max_burst=5`; None: no rate."""
    amount, slash, rest = value.strip().removeprefix("local:").partition("/")
    period, _, burst = rest.partition(",")
    number = amount.replace(",", "").replace("_", "").strip().encode()
    unit = _PERIODS.get(period.strip().lower())
    if not slash or unit is None or not _is_positive(number):
        return None
    burst_number = burst.strip().removeprefix("max_burst=").strip().encode()
    if burst and not _is_positive(burst_number):
        return None
    return number + b"/" + unit + (b"~" + burst_number if burst else b"")


def _is_positive(text: bytes) -> bool:
    return is_number(text) and text.strip(b"0") != b""


def seconds_of(value: "Any") -> int | None:
    """Return the seconds of `60s`, `2 hours`, `1h30m`, a number; None: no time of at least a second."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value) or None if abs(value) <= MAX_NUMBER else None  # there are inf and nan
    seconds, rest = 0, str(value or "").replace(" ", "")
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        word = len(rest[digits:]) - len(rest[digits:].lstrip("abcdefghijklmnopqrstuvwxyz"))
        unit = _PERIODS.get(rest[digits : digits + word])
        if not 0 < digits < 10 or unit is None:
            return None
        seconds += int(rest[:digits]) * _UNIT_SECONDS[unit]
        rest = rest[digits + word :]
    return seconds or None


# replies


def _responses(sections: list[Section], groups: set[bytes]) -> bytes:
    rules: dict[bytes, bytes] = {}
    remarks: dict[bytes, None] = {}
    for section in sections:
        for automation in section.automation:
            for pattern in _list_of(automation.get("regex", [])):
                _response(rules, remarks, section, groups, str(pattern), automation)
    lines = [*(b"# " + remark for remark in remarks)]
    for rule, origin in rules.items():
        lines += [b"# " + origin, rule]
    return b"".join(line + b"\n" for line in lines)


def _response(
    rules: dict[bytes, bytes],
    remarks: dict[bytes, None],
    section: Section,
    groups: set[bytes],
    pattern: str,
    automation: "Table",
) -> None:
    origin = _one_line(b"%b: %b" % (section.origin, pattern.encode()))
    action, group, words = _action(automation), section.address, words_of(pattern)
    if group and group not in groups:
        remarks[origin + b": not converted: nothing is in the group " + group] = None
    elif words is None:
        remarks[origin + b": not converted: a pattern, and here are words only"] = None
    elif action is None:
        remarks[b"%b: not converted: no action here is %b" % (origin, _shown(automation.get("action")))] = None
    else:
        code, text = words
        rule = b"%b:%b:%b:%b" % (group, code, text, action)
        try:
            read_response(1, rule)
        except BadPlace as bad:
            remarks[b"%b: not converted: %b" % (origin, str(bad).encode())] = None
            return
        trigger = automation.get("trigger")
        rules.setdefault(rule, origin + (b"; there after " + _shown(trigger) if trigger else b""))


def _action(automation: "Table") -> bytes | None:
    """Return what is done here, None if nothing is like what is done there.  Of several actions the first that is."""
    for action in _list_of(automation.get("action", [])):
        if action == "Suspend" and (seconds := seconds_of(automation.get("duration"))):
            return b"pause %b site" % time_text(seconds)
        change = action.get("SetConfig", action.get("SetDomainConfig")) if isinstance(action, dict) else None
        if isinstance(change, dict) and str(change.get("name")) in _LEARNED:
            return _LEARNED[str(change["name"])]
    return None


def words_of(pattern: str) -> tuple[bytes, bytes] | None:
    """Return (code or empty, words) that a pattern stands for letter by letter; None if it stands for more.

    What may follow the end is left out, and a dot before a blank or the end is taken for one: it ends a sentence.
    """
    found, rest = "", pattern.removesuffix(".*")
    while rest:
        letter, rest = rest[0], rest[1:]
        if letter == "\\":
            if rest[:1] not in _ESCAPES or not rest:
                return None
            letter, rest = rest[0], rest[1:]
        elif letter in _SPECIAL and (letter != "." or rest[:1].strip()):
            return None
        found += letter
    words = found.strip().encode()
    code, blank, text = words.partition(b" ")
    if blank and len(code) == 3 and code.isdigit() and code[:1] in b"245" and text.strip():
        return code, text.strip()
    return (b"", words) if words else None


def _shown(value: "Any") -> bytes:
    """Return a value as it may stand in a comment."""
    if isinstance(value, dict):
        return b"{%b}" % b", ".join(b"%b = %b" % (str(key).encode(), _shown(one)) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return b"[%b]" % b", ".join(_shown_all(value))
    return _one_line(str(value).encode())


def _shown_all(values: "Iterable[Any]") -> "Iterable[bytes]":
    return [_shown(value) for value in values]


def _one_line(text: bytes) -> bytes:
    return bytes(byte if byte >= 32 and byte != 127 else 63 for byte in text)
