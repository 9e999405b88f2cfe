"""control/destinations.now: lines that win over all others, each until a date.

They are what somebody types while something burns, for example `@yahoo:hold,until=2026-11-01T14:05Z`.  A line without
`until` holds until it is removed.
"""

from pyqmail.base.printable import printable
from pyqmail.mail.destinations.rules.tables import groups_of, has_no_dot, read_lines, table_of
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
        cls, text: bytes, base: "Table", *, is_public_suffix: "Callable[[bytes], bool]" = has_no_dot
    ) -> "Overlay":
        """Return the overlay of a text.  Raises BadRules; a group that neither it nor base knows is an error, too."""
        lines = read_lines(text, is_overlay=True, is_public_suffix=is_public_suffix)
        known = {line.key for line in lines}
        problems = []
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
