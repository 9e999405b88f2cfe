"""Numbers as the originals read them: the longest run of ASCII digits at the start, the rest ignored."""

import os

ULONG = 1 << 64
UINT32 = 1 << 32
_FEW_DIGITS = 10
_UNIT_SECONDS = {b"s": 1, b"m": 60, b"h": 3600, b"d": 86400}


def leading_number(text: str | bytes, wrap: int = ULONG) -> int:
    """Return the number at the start of text, modulo wrap, a power of 2 up to 2^64; 0 when no digit stands there.

    No sign, no blank, no hexadecimal.  Source: scan_ulong() of the originals
    """
    count = count_digits(text)
    return int(text[:count][-64:]) % wrap if count else 0  # 10^64 is a multiple of 2^64: earlier digits do not matter


def count_digits(text: str | bytes) -> int:
    """Return how many ASCII digits text starts with."""
    return len(text) - len(text.lstrip(b"0123456789") if isinstance(text, bytes) else text.lstrip("0123456789"))


def whole_number(text: str | bytes, maximum: int = ULONG - 1) -> int:
    """Return the number that all of text is, in ASCII digits.  Raises ValueError for anything else, or above maximum.

    int() would take blanks, signs, underscores and foreign digits, and fail in its own words beyond 4,300 digits.
    """
    if len(text) < _FEW_DIGITS and text.isdigit() and text.isascii() and (number := int(text)) <= maximum:
        return number
    count = count_digits(text)
    if not count or count != len(text):
        raise ValueError(f"not a number: {_shown(text)}")
    digits = text.lstrip(b"0") if isinstance(text, bytes) else text.lstrip("0")
    if len(digits) > len(str(maximum)) or int(digits or 0) > maximum:
        raise ValueError(f"above {maximum}: {_shown(text)}")
    return int(digits or 0)


def _shown(text: str | bytes) -> str:
    text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    return text if len(text) <= 64 else text[:64] + "..."


def session_processes(text: str) -> int:
    """Return the number of remote session processes that an option asks for.  Raises ValueError outside 1 to 64."""
    if not is_number(text) or len(text) > 2 or not 1 <= int(text) <= 64:
        raise ValueError(f"not a number from 1 to 64: {_shown(text)}")
    return int(text)


def event_rate(text: str | bytes, maximum: int = ULONG - 1, max_seconds: int = 30 * 86400) -> tuple[int, int]:
    """Return (events, seconds) of N, which is within 60 seconds, or N/PERIOD: digits, and s, m, h or d behind them.

    Raises ValueError for anything else, for N above maximum, and for a period of 0 or above max_seconds.
    """
    text = text if isinstance(text, bytes) else os.fsencode(text)
    count, slash, period = text.partition(b"/")
    if not slash:
        return whole_number(count, maximum), 60
    unit = _UNIT_SECONDS.get(period[-1:], 0)
    seconds = whole_number(period[:-1] if unit else period, max_seconds) * (unit or 1)
    if not 1 <= seconds <= max_seconds:
        raise ValueError(f"not a period up to {max_seconds} seconds: {_shown(period)}")
    return whole_number(count, maximum), seconds


def is_number(text: str | bytes) -> bool:
    """Return whether text is nothing but ASCII digits, at least one (int() would take blanks and signs)."""
    return text.isdigit() and text.isascii()


def says_just(text: str | bytes, number: int) -> bool:
    """Return whether text is that number and nothing else; zeros may stand before it."""
    text = text if isinstance(text, bytes) else text.encode()
    return is_number(text) and (text.lstrip(b"0") or b"0") == b"%d" % number
