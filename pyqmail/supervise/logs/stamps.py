"""Times at the start of lines."""

import time

from pyqmail.system.clock import now, now_text_label

LF = b"\n"


def stamp_lines(block: bytes, stamp: bytes, at_start: bool) -> bytes:
    """Return block with stamp before the first byte of each of its lines.

    at_start: block begins a line.  A line that the next block begins is stamped there, with its own time of arrival.
    """
    stamped = block.replace(LF, LF + stamp)
    if block.endswith(LF):
        stamped = stamped[: -len(stamp)]
    return stamp + stamped if at_start and block else stamped


def iso_time(seconds: int, nanoseconds: int) -> bytes:
    """Return a moment as `YYYY-MM-DDThh:mm:ss.uuuuuuZ`, UTC.  RFC 3339 section 5.6"""
    return b"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ" % (*time.gmtime(seconds)[:6], nanoseconds // 1000)


CLOCKS = {"tai": now_text_label, "iso": lambda: iso_time(*now())}  # format -> what gives this moment in it


def clock_of(time_format: str):
    """Return the function that gives this moment in a format.  Raises ValueError for an unknown format."""
    if time_format not in CLOCKS:
        raise ValueError(f"not a format of time: {time_format}")
    return CLOCKS[time_format]
