"""The wall clock, as daemontools reads it."""

import time

from pyqmail.base.tai import label, text_label


def now() -> tuple[int, int]:
    """Return (Unix seconds, nanoseconds) of the wall clock.

    The originals ask gettimeofday, so the nanoseconds are whole microseconds and 500: always 500 modulo 1000.
    """
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return seconds, nanoseconds - nanoseconds % 1000 + 500


def now_label() -> bytes:
    """Return the binary label of this moment."""
    return label(*now())


def now_text_label() -> bytes:
    """Return the text label of this moment."""
    return text_label(*now())
