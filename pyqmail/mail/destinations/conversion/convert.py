"""Settings of the channels patch and of indimail's drate as rule text; what conversions have in common.

A converter reads texts and fills a RuleText.  Nothing that it writes is in error: what would be becomes a comment, and
so does a setting without a counterpart.  Where each line comes from stands above it.
"""

from pyqmail.base.controls import read_integer, read_lines
from pyqmail.base.numbers import count_digits
from pyqmail.mail.destinations.rules.defaults import UNBUILT
from pyqmail.mail.destinations.rules.items import LIMITS, BadValue
from pyqmail.mail.destinations.rules.policies import SCOPES
from pyqmail.mail.destinations.rules.text import BadPlace, read_address, read_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Files = Sequence[tuple[bytes, bytes]]

CHANNELS_DEFAULT = 20  # what the patch takes without a file
_UNITS = {b"s": 1, b"m": 60, b"h": 3600, b"d": 86400, b"w": 7 * 86400}


class RuleText:
    """Rule lines that are collected: items by address, where each comes from, and remarks."""

    __slots__ = ("_items", "_origins", "_remarks")

    def __init__(self) -> None:
        self._items: dict[bytes, dict[bytes, bytes]] = {}
        self._origins: dict[bytes, dict[bytes, None]] = {}
        self._remarks: dict[bytes, None] = {}

    def set(self, address: bytes, item: bytes, origin: bytes) -> None:
        """Give an address an item; if it has one of that key, the first counts and this becomes a remark."""
        try:
            address = read_address(address)[1]
        except BadValue as bad:
            self.remark(b"%b: not converted: %b" % (origin, str(bad).encode()))
            return
        key, _, value = (item, b"", b"") if item.startswith(b"@") else item.partition(b"=")
        scope = value.rpartition(b"/")[2]
        if key in LIMITS and scope.decode("latin-1") in SCOPES:
            key += b"/" + scope  # of another scope it is another limit
        if key in UNBUILT:
            self.remark(b"%b: not converted: no rule can say this yet" % origin)
            return
        items = self._items.setdefault(address, {})
        if items.setdefault(key, item) != item:
            self.remark(b"%b: not converted: %b has %b already" % (origin, address, items[key]))
            return
        self._origins.setdefault(address, {})[origin.replace(b"\n", b" ")] = None

    def groups_of(self, address: bytes) -> list[bytes]:
        """Return the groups that an address is in so far."""
        return [key for key in self._items.get(address.lower(), {}) if key.startswith(b"@")]

    def remark(self, text: bytes) -> None:
        self._remarks[text.replace(b"\n", b" ")] = None

    def text(self) -> bytes:
        """Return the text: remarks first, then the lines, groups last."""
        self._drop_what_is_no_group()
        lines: list[bytes] = []
        for address in sorted(self._items, key=lambda one: one.startswith(b"@")):
            line = b"%b:%b" % (address, b",".join(self._items[address].values()))
            try:
                read_line(1, line)
                lines += [*(b"# " + origin for origin in self._origins[address]), line]
            except BadPlace as bad:
                self.remark(b"%b: not converted: %b" % (line, str(bad).encode()))
        return b"".join(line + b"\n" for line in (*(b"# " + text for text in self._remarks), *lines))

    def _drop_what_is_no_group(self) -> None:
        """Take out members of groups that have no limit, and groups that have no member."""
        groups = [address for address in self._items if address.startswith(b"@")]
        members = {key for items in self._items.values() for key in items if key.startswith(b"@")}
        for group in groups:
            if group.partition(b"/")[0] not in members:
                self.remark(
                    b"%b: not converted: nothing is in the group %b" % (b", ".join(self._origins[group]), group)
                )
                del self._items[group]
        known = {address.partition(b"/")[0] for address in self._items}
        for address, items in list(self._items.items()):
            for key in [key for key in items if key.startswith(b"@") and key not in known]:
                del items[key]
                self.remark(b"%b: the group %b has no limit" % (address, key))
            if not items:
                del self._items[address]


def channels(files: "Mapping[bytes, bytes]") -> bytes:
    """Return the rules of control files concurrencysupplN and supplsN.  A domain in several lists is in the first."""
    text = RuleText()
    numbers = {name[6:]: name for name in files if name.startswith(b"suppls") and name[6:].isdigit()}
    for number, name in sorted(numbers.items(), key=lambda item: (int(item[0]), item[0])):
        group = b"@suppl" + number
        limit = read_integer(files.get(b"concurrencysuppl" + number, b""))
        for domain in read_lines(files[name]):
            _channel_member(text, domain, group, name)
        if limit == 0:
            text.set(group, b"hold", b"concurrencysuppl%b: 0 holds them" % number)
        else:
            text.set(group, b"C=%d" % (CHANNELS_DEFAULT if limit is None else limit), b"concurrencysuppl" + number)
    for name in files:
        if name.startswith(b"concurrencysuppl") and b"suppls" + name[16:] not in files:
            text.remark(b"%b: not converted: there is no suppls%b" % (name, name[16:]))
    return text.text()


def _channel_member(text: RuleText, domain: bytes, group: bytes, origin: bytes) -> None:
    held = text.groups_of(domain)
    if held and group not in held:
        text.remark(b"%b: %b is in %b already" % (origin, domain, held[0]))
    else:
        text.set(domain, group, origin)


def drate(files: "Mapping[bytes, bytes]", links: "Mapping[bytes, bytes]") -> bytes:
    """Return the rules of rate files: name -> content.  links: names that are links -> the file they share.

    A file is an expression, messages a second, and then counts.  Domains with one file share its count: a group.
    `.global` is for domains without a file; here each of them gets it.
    """
    text = RuleText()
    shared = {target: b"@drate-" + target for target in links.values() if target in files}
    for name, content in files.items():
        expression = content.replace(b"\0", b"\n").partition(b"\n")[0].strip()
        rate = rate_of(expression)
        origin = b"%b: %b" % (name, expression)
        if rate is None:
            text.remark(origin + b": not converted")
            continue
        address = b"" if name == b".global" else shared.get(name, name)
        if name in shared:
            text.set(name, shared[name], b"%b: shared with links to it" % name)
        text.set(address, b"r=" + rate, origin)
    for name, target in links.items():
        if target in shared:
            text.set(name, shared[target], b"%b: a link to %b" % (name, target))
        else:
            text.remark(b"%b: not converted: a link to %b, which is no rate file" % (name, target))
    return text.text()


def rate_of(expression: bytes) -> bytes | None:
    """Return `N/P~N` for messages a second, given as `100/3600`, `0.5` or sums of such; None: no rate.

    The period is the shortest of s, m, h, d of which N is a whole number, or otherwise the longest, rounded down.
    """
    total = 0.0
    for term in expression.replace(b" ", b"").split(b"+"):
        above, slash, below = term.partition(b"/")
        try:
            total += float(above) / (float(below) if slash else 1.0)
        except (ValueError, ZeroDivisionError):
            return None
    if not 0 < total < 1e9:
        return None
    for unit in (b"s", b"m", b"h", b"d"):
        count = total * _UNITS[unit]
        if count >= 1 and abs(count - round(count)) < 1e-6 * count:
            return b"%d/%b~%d" % (round(count), unit, round(count))
    count = int(total * 86400)
    return b"%d/d~%d" % (count, count) if count else None


def seconds_there(text: bytes, unit: bytes = b"") -> int | None:
    """Return the seconds of `300s`, `5d`, `4d12h`; unit is what counts without one, empty: then it is no time."""
    seconds, rest = 0, text.strip()
    if not rest:
        return None
    while rest:
        count = count_digits(rest)
        letter = rest[count : count + 1].lower() or unit
        if not count or count > 9 or letter not in _UNITS:
            return None
        seconds += int(rest[:count]) * _UNITS[letter]
        rest = rest[count + 1 :]
    return seconds


def time_text(seconds: int) -> bytes:
    """Return a time as rules have it, in the longest unit of which it is a whole number."""
    unit = next(unit for unit in (b"d", b"h", b"m", b"s") if seconds % _UNITS[unit] == 0)
    return b"%d%b" % (seconds // _UNITS[unit], unit)


def logical_lines(text: bytes, comment: bytes = b"#") -> "Iterable[bytes]":
    """Yield lines without comments, each with the lines that continue it: those that begin with a blank."""
    held = b""
    for line in text.split(b"\n"):
        line = line.rstrip()
        if not line or line.lstrip().startswith(comment):
            continue
        if line[:1] in (b" ", b"\t") and held:
            held += b" " + line.strip()
            continue
        if held:
            yield held
        held = line.strip()
    if held:
        yield held
