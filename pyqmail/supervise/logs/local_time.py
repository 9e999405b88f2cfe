"""TAI64N labels at the start of lines, turned into local time."""

import time

from pyqmail.base.tai import EPOCH

_DIGITS = b"0123456789abcdef"
_MAX_LABEL = 1000  # bytes; no longer label is held or read
_COUNTS = 1 << 64
_NANOSECONDS = 1 << 32


class LocalTime:
    """Replace the label at the start of each line by `YYYY-MM-DD hh:mm:ss.nnnnnnnnn`.

    A label is @ and as many lower-case hexadecimal digits as follow; the last eight are nanoseconds.  If its time
    cannot be written, the line stays as it is.  receive() takes the text in any pieces; a label at the end of a piece
    is held until its end is seen, and lost if the text ends there.
    """

    def __init__(self) -> None:
        self._held = b""
        self._at_start = True
        self._count, self._time = b"", b""  # the latest seconds, as digits, and how they are written

    def receive(self, block: bytes) -> bytes:
        """Return the text that block completes."""
        lines = (self._held + block).split(b"\n")
        first = 0 if self._at_start else 1
        self._held = b""
        self._at_start = not lines[-1]
        for at in range(first, len(lines)):
            if lines[at].startswith(b"@"):
                lines[at] = self._convert(lines[at], at == len(lines) - 1)
        return b"\n".join(lines)

    def _convert(self, line, is_last):
        rest = line[1:].lstrip(_DIGITS)
        if is_last and not rest and len(line) <= _MAX_LABEL:
            self._held, self._at_start = line, True
            return b""
        digits = line[1 : len(line) - len(rest)]
        if digits[:-8] != self._count:
            self._time = _local(digits[:-8])
            self._count = digits[:-8]
        if not self._time or len(line) - len(rest) > _MAX_LABEL:
            return line
        return b"%s.%09d%s" % (self._time, int(digits[-8:], 16) % _NANOSECONDS, rest)


def _local(digits: bytes) -> bytes:
    """Return the local time of a TAI64 count in hexadecimal digits; b"" if it cannot be written."""
    seconds = (int(digits or b"0", 16) - EPOCH) % _COUNTS
    try:
        moment = time.localtime(seconds - _COUNTS if seconds >> 63 else seconds)
    except (OverflowError, OSError, ValueError):
        return b""
    return b"%d-%02d-%02d %02d:%02d:%02d" % (moment[0] % _COUNTS, *moment[1:6])  # years are unsigned in the original
