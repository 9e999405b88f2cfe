"""Time labels at the start of lines."""

LF = b"\n"


def stamp_lines(block: bytes, stamp: bytes, at_start: bool) -> bytes:
    """Return block with stamp before the first byte of each of its lines.

    at_start: block begins a line.  A line that the next block begins gets its stamp there, by its own arrival.
    """
    stamped = block.replace(LF, LF + stamp)
    if block.endswith(LF):
        stamped = stamped[: -len(stamp)]
    return stamp + stamped if at_start and block else stamped
