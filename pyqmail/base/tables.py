"""Tables for people to read: columns of plain ASCII, and times and amounts in few digits."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence


def duration(seconds: float) -> str:
    """Return a time that has passed in at most two units: 7s, 3m05s, 2h00m, 4d11h."""
    whole = max(0, int(seconds))
    for unit, smaller, size, part in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{smaller}"
    return f"{whole}s"


def amount(count: int) -> str:
    """Return a number of bytes in at most four digits and a letter for 1024, 1024^2...: 999, 1.5k, 10M."""
    size, letters = float(count), iter("kMGTPE")
    letter = ""
    while size >= 1024 and letter != "E":
        size, letter = size / 1024, next(letters)
    return f"{size:.1f}{letter}" if letter and size < 9.95 else f"{size:.0f}{letter}"


def columns(rows: "Sequence[Sequence[str]]", to_the_left: "Container[str]") -> list[str]:
    """Return rows of texts, the heads first, as lines; each column is as wide as its widest text.

    to_the_left: the heads of the columns that are not numbers.
    """
    heads, widths = rows[0], [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if head in to_the_left else text.rjust(width)
            for head, text, width in zip(heads, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def shortened(lines: list[str], most_lines: int | None) -> list[str]:
    """Return at most so many lines; the last of them then says how many are left out.  None: all."""
    if most_lines is None or len(lines) <= most_lines:
        return lines
    kept = max(0, most_lines - 1)
    return [*lines[:kept], f"and {len(lines) - kept} more"]
