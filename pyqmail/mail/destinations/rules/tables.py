"""From rule text to the compiled table, and back.

What the table holds besides lines (text.py):

    #             the kinds of lines that are there, and the lengths of networks: what is not there is not looked for
    =             the response rules: each its line's number, NUL, the line, LF; `=-`: they are the shipped ones

Checked here is what needs more than one line: groups and pools that are missing, addresses that stand twice.
"""

from pyqmail.base.printable import printable
from pyqmail.mail.destinations.rules.policies import PoolMember
from pyqmail.mail.destinations.rules.responses import Response, read_response
from pyqmail.mail.destinations.rules.text import (
    EVERYTHING,
    GROUP,
    HOST_LINE,
    HOST_SUFFIX,
    IP4,
    IP6,
    POOL,
    RECIPIENT,
    SENDER,
    STAR,
    SUFFIX,
    BadPlace,
    BadRules,
    Problem,
    RuleLine,
    network_text,
    read_line,
)
from pyqmail.mail.destinations.sources.pools import problems_of_pools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Records = list[tuple[bytes, bytes]]

KINDS, RESPONSES, SHIPPED_MARK = b"#", b"=", b"=-"
MAX_PROBLEMS = 20


def has_no_dot(name: bytes) -> bool:
    """Return whether a name is a public suffix for those who have no list of them."""
    return b"." not in name


class Compiled:
    """Rules that were compiled: records [(key, value)] in the order of the lines, and what is odd about them."""

    __slots__ = ("records", "warnings")

    def __init__(self, records: "Records", warnings: list[Problem]) -> None:
        self.records, self.warnings = records, warnings


def compile_rules(
    destinations: bytes,
    responses: bytes | None,
    *,
    shipped_responses: bytes = b"",
    shipped: bytes = b"",
    is_public_suffix: "Callable[[bytes], bool]" = has_no_dot,
    most_sessions: int = 0,
    unbuilt: frozenset[bytes] = frozenset(),
    date: float | None = None,
) -> Compiled:
    """Compile the text of control/destinations and of control/responses (None: the shipped ones).

    A response rule that is shipped may name a group that no line defines: its provider has none then.

    shipped: the destinations that are shipped; who replaces a line of them is warned.  most_sessions: descriptors that
    a process may have, 0 if that is unknown.  unbuilt: as for read_lines().  date: Unix seconds; None: what depends on
    it is not looked at.  Raises BadRules.
    """
    lines = read_lines(destinations, is_public_suffix=is_public_suffix, unbuilt=unbuilt)
    rules, raw = read_responses(shipped_responses if responses is None else responses)
    ours = {rule.text for rule in read_responses(shipped_responses)[0]}
    problems = [
        *_check_members(lines),
        *check_pools(lines, date),
        *_check_groups_of((rule for rule in rules if rule.text not in ours), lines),
    ]
    if problems:
        raise BadRules(sorted(problems, key=lambda one: (one.is_of_responses, one.line))[:MAX_PROBLEMS])
    records = _records(lines)
    records += [(RESPONSES, raw)] if responses is not None else [(RESPONSES, raw), (SHIPPED_MARK, b"")]
    warnings = [*_unused_pools(lines), *_overlapping(lines), *_too_many(lines, most_sessions)]
    return Compiled(records, [*warnings, *_replaced(lines, shipped)])


def read_lines(
    text: bytes,
    *,
    is_overlay: bool = False,
    is_public_suffix: "Callable[[bytes], bool]" = has_no_dot,
    unbuilt: frozenset[bytes] = frozenset(),
) -> list[RuleLine]:
    """Return the lines of a text, each checked by itself, no address twice.

    unbuilt: keys that are unknown to those who obey the rules (defaults.UNBUILT).  Raises BadRules.
    """
    lines, problems = [], []
    known: dict[bytes, int] = {}
    for number, raw in enumerate(text.split(b"\n"), 1):
        try:
            line = read_line(number, raw, is_overlay)
            if line is None:
                continue
            _refuse_unbuilt(line, unbuilt)
            if line.key in known:
                raise BadPlace(0, f"the same address as in line {known[line.key]}: {printable(line.address)}")
            if line.kind in (SUFFIX, HOST_SUFFIX) and is_public_suffix(line.key[1:]):
                raise BadPlace(0, f"this is a public suffix: {printable(line.address)}")
        except BadPlace as bad:
            problems.append(Problem(number, bad.offset + 1, str(bad)))
            continue
        known[line.key] = number
        lines.append(line)
    if problems:
        raise BadRules(problems[:MAX_PROBLEMS])
    return lines


def _refuse_unbuilt(line: RuleLine, unbuilt: frozenset[bytes]) -> None:
    """Raise BadPlace if a line has a key that nobody obeys, or one that nobody obeys at such an address."""
    for key, _, _, offset in line.items:
        if key in unbuilt:
            raise BadPlace(offset, f"unknown key: {printable(key)}")


def read_responses(text: bytes) -> tuple[list[Response], bytes]:
    """Return the response rules of a text, and the record of them.  Raises BadRules."""
    rules, kept, problems = [], [], []
    for number, raw in enumerate(text.split(b"\n"), 1):
        try:
            rule = read_response(number, raw)
        except BadPlace as bad:
            problems.append(Problem(number, bad.offset + 1, str(bad), is_of_responses=True))
            continue
        if rule is not None:
            rules.append(rule)
            kept.append(b"%d\0%b\n" % (number, raw.rstrip(b" \t")))
    if problems:
        raise BadRules(problems[:MAX_PROBLEMS])
    return rules, b"".join(kept)


def responses_of(record: bytes) -> list[Response]:
    """Return the response rules of a record."""
    rules = []
    for entry in record.split(b"\n")[:-1]:
        number, _, line = entry.partition(b"\0")
        rule = read_response(int(number), line)
        if rule is not None:
            rules.append(rule)
    return rules


def table_of(lines: list[RuleLine]) -> dict[bytes, bytes]:
    """Return the table of lines alone, in memory."""
    return dict(_records(lines))


def _records(lines: list[RuleLine]) -> "Records":
    counts = _attached(lines)
    records = []
    for line in lines:
        size = b"\0%d" % counts.get(line.key, 0) if line.kind == GROUP else b""
        mark = b"!" if line.is_meant else b""
        records.append((line.key, b"%b%d\0%b%b" % (mark, line.number, line.text, size)))
    records.append((KINDS, _kinds(lines)))
    return records


def _kinds(lines: list[RuleLine]) -> bytes:
    """Return `d . h` and lengths of networks, `424`, `6032`, each once; `f%` if a sender has a pool."""
    kinds: dict[bytes, None] = {}
    for line in lines:
        length = {IP4: 3, IP6: 4}.get(line.kind, 1)
        kinds[line.key[:length] if line.kind != GROUP or b"/" not in line.key else b"@/"] = None
        if line.kind == SENDER and any(item[0] == b"src" for item in line.items):
            kinds[SENDER + POOL] = None
    return b" ".join(sorted(kinds))


def groups_of(line: RuleLine) -> list[bytes]:
    """Return the groups that a line attaches."""
    return [item[2] for item in line.items if item[0] == b"@"]


def _parents(lines: list[RuleLine]) -> "dict[bytes, list[bytes]]":
    return {line.key: groups_of(line) for line in lines if line.kind == GROUP and b"/" not in line.key}


def _with_parents(groups: list[bytes], parents: "Mapping[bytes, list[bytes]]") -> list[bytes]:
    """Return groups, then the groups that these are in, each once."""
    found = dict.fromkeys(groups)
    queue = list(found)
    for group in queue:
        news = [one for one in parents.get(group, ()) if one not in found]
        found.update(dict.fromkeys(news))
        queue += news
    return queue


def _attached(lines: list[RuleLine]) -> dict[bytes, int]:
    """Return how many lines attach each group, through other groups, too."""
    parents, counts = _parents(lines), dict[bytes, int]()
    for line in lines:
        if line.kind != GROUP:
            for group in _with_parents(groups_of(line), parents):
                counts[group] = counts.get(group, 0) + 1
    return counts


def _check_members(lines: list[RuleLine]) -> "Iterable[Problem]":
    """Yield groups and pools that are named and missing, groups nobody is in, and groups within themselves."""
    defined = {line.key.partition(b"/")[0] for line in lines if line.kind == GROUP}
    pools = {line.key for line in lines if line.kind == POOL}
    used: dict[bytes, None] = {}
    for line in lines:
        for key, value, text, offset in line.items:
            if key == b"@":
                used[text] = None
                if text not in defined:
                    yield Problem(line.number, offset + 1, f"no line defines the group {printable(text)}")
            elif key == b"src" and value not in pools:
                yield Problem(line.number, offset + 5, f"no line defines the pool {printable(text[4:])}")
    parents = _parents(lines)
    for line in lines:
        if line.kind == GROUP and line.key.partition(b"/")[0] not in used:
            yield Problem(line.number, 1, f"no line is in the group {printable(line.address)}")
        elif line.kind == GROUP and _is_within_itself(line.key, parents):
            yield Problem(line.number, 1, f"the group is within itself: {printable(line.address)}")


def _is_within_itself(group: bytes, parents: "Mapping[bytes, list[bytes]]") -> bool:
    return any(group in parents.get(one, ()) for one in _with_parents([group], parents))


def _check_groups_of(rules: "Iterable[Response]", lines: list[RuleLine]) -> "Iterable[Problem]":
    defined = {line.key.partition(b"/")[0] for line in lines if line.kind == GROUP}
    for rule in rules:
        if rule.group and rule.group not in defined:
            text = f"no line of destinations defines the group {printable(rule.group)}"
            yield Problem(rule.line, 1, text, is_of_responses=True)


def check_pools(lines: list[RuleLine], date: float | None = None) -> "Iterable[Problem]":
    """Yield what is wrong with pools; date as for compile_rules()."""
    return (Problem(line.number, offset + 1, text) for line, offset, text in problems_of_pools(lines, date))


def _unused_pools(lines: list[RuleLine]) -> "Iterable[Problem]":
    used = {item[1] for line in lines for item in line.items if item[0] == b"src"}
    sources = {item[1].address for line in lines for item in line.items if isinstance(item[1], PoolMember)}
    for line in lines:
        if line.kind == POOL and line.key not in used:
            yield Problem(line.number, 1, f"no line uses the pool {printable(line.address)}")
        if line.kind == GROUP and b"/" in line.key and line.key.partition(b"/")[2] not in sources:
            yield Problem(line.number, 1, f"no pool has the source of {printable(line.address)}")


def _overlapping(lines: list[RuleLine]) -> "Iterable[Problem]":
    """Yield pairs of groups that have members in common while neither is within the other."""
    parents, counts = _parents(lines), _attached(lines)
    together: dict[tuple[bytes, bytes], list[int]] = {}
    for line in lines:
        groups = sorted(_with_parents(groups_of(line), parents)) if line.kind != GROUP else []
        for at, group in enumerate(groups):
            for other in groups[at + 1 :]:
                together.setdefault((group, other), []).append(line.number)
    for (group, other), numbers in together.items():
        if len(numbers) < min(counts[group], counts[other]):
            text = f"groups overlap, and none is within the other: {printable(group)}, {printable(other)}"
            yield Problem(numbers[0], 1, text)


def _too_many(lines: list[RuleLine], most: int) -> "Iterable[Problem]":
    for line in lines if most else ():
        for key, value, text, offset in line.items:
            if key in (b"c", b"C") and isinstance(value, tuple) and value[0] > most:
                yield Problem(line.number, offset + 1, f"{printable(text)}: a process may have {most} descriptors")


def _replaced(lines: list[RuleLine], shipped: bytes) -> "Iterable[Problem]":
    """Yield lines that say something else than the shipped line of that address, without a ! that confirms it.

    A group is the shipped one if a line that is shipped is in it.
    """
    known = {line.key: line for line in read_lines(shipped)} if shipped else {}
    same = [line for line in lines if line.key in known and known[line.key].text == line.text]
    theirs = {group for line in same for group in groups_of(line)}
    for line in lines:
        is_theirs = line.key in theirs if line.kind == GROUP else line.kind != EVERYTHING and line.key in known
        if is_theirs and known[line.key].text != line.text and not line.is_meant:
            text = f"shipped as {printable(known[line.key].text)}; if another value is meant, begin the line with !"
            yield Problem(line.number, 1, text)


# back to text


def decompile(records: "Iterable[tuple[bytes, bytes]]") -> tuple[bytes, bytes | None]:
    """Return the texts (destinations, responses or None) that compile to these records, comments left out."""
    lines: dict[int, bytes] = {}
    responses, is_shipped = b"", False
    for key, value in records:
        if key == RESPONSES:
            responses = value
        elif key == SHIPPED_MARK:
            is_shipped = True
        elif key != KINDS:
            number, items = value.split(b"\0")[:2]
            mark = b"!" if number.startswith(b"!") else b""
            lines[int(number.lstrip(b"!"))] = b"%b%b:%b" % (mark, address_of(key), items)
    entries = (entry.partition(b"\0") for entry in responses.split(b"\n")[:-1])
    told = {int(number): line for number, _, line in entries}
    return _joined(lines), None if is_shipped else _joined(told)


def _joined(lines: "Mapping[int, bytes]") -> bytes:
    return b"".join(lines.get(number, b"") + b"\n" for number in range(1, max(lines, default=0) + 1))


def address_of(key: bytes) -> bytes:
    """Return the address of a key as it is written."""
    kind, name = key[:1], key[1:]
    if kind in (IP4, IP6):
        return b"ip=" + network_text(key)
    if kind in (GROUP, POOL):
        return key
    if kind == SUFFIX:
        return key
    if kind == b"d":
        return b"[%b]" % name if b":" in name else name
    form = {EVERYTHING: b"%b", STAR: b"%b.*", HOST_LINE: b"mx=%b", HOST_SUFFIX: b"mx=.%b"}
    return (form | {SENDER: b"from=%b", RECIPIENT: b"rcpt=%b"})[kind] % name
