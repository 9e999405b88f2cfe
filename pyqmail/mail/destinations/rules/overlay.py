"""control/destinations.now: lines that win over all others, each until a date.

They are what somebody types while something burns, for example `@yahoo:hold,until=2026-11-01T14:05Z`.  A line without
`until` holds until it is removed.
"""

from pyqmail.base.printable import printable
from pyqmail.mail.destinations.rules.tables import check_pools, groups_of, has_no_dot, read_lines, table_of
from pyqmail.mail.destinations.rules.text import GROUP, BadRules, Problem, RuleLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.rules.lookup import Table


class Overlay:
    """The lines of control/destinations.now."""

    __slots__ = ("_lines",)

    def __init__(self, lines: list[RuleLine]) -> None:
        self._lines = lines

    @classmethod
    def of_text(
        cls,
        text: bytes,
        base: "Table",
        *,
        is_public_suffix: "Callable[[bytes], bool]" = has_no_dot,
        unbuilt: frozenset[bytes] = frozenset(),
    ) -> "Overlay":
        """Return the overlay of a text; unbuilt: as for read_lines().

        Raises BadRules; a group that neither the text nor base knows is an error, too.
        """
        lines = read_lines(text, is_overlay=True, is_public_suffix=is_public_suffix, unbuilt=unbuilt)
        known = {line.key for line in lines}
        problems = list(check_pools(lines))
        for line in lines:
            named = [line.key.partition(b"/")[0]] if line.kind == GROUP else []
            for group in [*groups_of(line), *(item[2][4:] for item in line.items if item[0] == b"src")]:
                if group not in known and base.get(group) is None:
                    problems.append(Problem(line.number, 1, f"no line defines {printable(group)}"))
            if named and base.get(named[0]) is None and not any(named[0] in groups_of(one) for one in lines):
                problems.append(Problem(line.number, 1, f"no line is in the group {printable(named[0])}"))
        if problems:
            raise BadRules(problems)
        return cls(lines)

    def table(self, date: float) -> "dict[bytes, bytes] | None":
        """Return the lines that hold at a date, as the overlay of a RuleSet; None if there are none."""
        lines = [line for line in self._lines if _until(line) > date]
        return table_of(lines) if lines else None

    def next_change(self, date: float) -> float | None:
        """Return when the next line ends after date; None: none ends."""
        ends = [end for line in self._lines if date < (end := _until(line)) < float("inf")]
        return min(ends, default=None)


def _until(line: RuleLine) -> float:
    ends = [value for key, value, _, _ in line.items if key == b"until"]
    return ends[0] if ends and isinstance(ends[0], float) else float("inf")


class OtherItems(Exception):
    """A line about an address says more than `hold`: number is the line's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def with_hold(text: bytes, address: bytes, until: bytes, date: float) -> bytes:
    """Return destinations.now with a line that holds what address means, until a date (empty: until it is removed).

    A line that held it goes, and so do lines that have ended.  Raises BadRules; OtherItems if a line about the address
    says something else.
    """
    line = address + b":hold" + (b",until=" + until if until else b"")
    wanted = read_lines(line, is_overlay=True)
    if len(wanted) != 1:
        raise BadRules([Problem(1, 1, "no address")])
    return _without_holds(text, wanted[0].key, date) + line + b"\n"


def without_hold(text: bytes, address: bytes, date: float) -> bytes | None:
    """Return destinations.now without the line that holds what address means; None if there is none.

    Lines that have ended go, too.  Raises BadRules, OtherItems.
    """
    wanted = {line.key for line in read_lines(address + b":hold", is_overlay=True)}
    key = next((line.key for line in read_lines(text, is_overlay=True) if line.key in wanted), None)
    return None if key is None else _without_holds(text, key, date)


def held(text: bytes, date: float) -> list[tuple[bytes, bytes]]:
    """Return (address, date as it is written, empty for none) of the lines that hold something.  Raises BadRules."""
    found = []
    for line in read_lines(text, is_overlay=True):
        items = {key: written for key, _, written, _ in line.items}
        if b"hold" in items and _until(line) > date:
            found.append((line.address, items.get(b"until", b"").partition(b"=")[2]))
    return found


def _without_holds(text: bytes, key: bytes, date: float) -> bytes:
    gone = set()
    for line in read_lines(text, is_overlay=True):
        if line.key == key and any(item[0] not in (b"hold", b"until") for item in line.items):
            raise OtherItems(line.number)
        if line.key == key or _until(line) <= date:
            gone.add(line.number)
    kept = [line for number, line in enumerate(text.split(b"\n"), 1) if number not in gone]
    rest = b"\n".join(kept)
    return rest + b"\n" if rest and not rest.endswith(b"\n") else rest
