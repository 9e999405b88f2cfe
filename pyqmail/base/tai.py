"""TAI64N labels: moments as daemontools writes them.

A moment is given as Unix seconds and nanoseconds.  The TAI64 count is 2^62 + 10 + Unix seconds: the 10 is constant,
leap seconds are ignored in both directions.  A binary label is 12 bytes: the count (8) and the nanoseconds
(4), both big-endian.  A text label is `@` and 24 lower-case hexadecimal digits, 25 bytes.
"""

EPOCH = (1 << 62) + 10  # the count at 1970-01-01 00:00:00 UTC
TEXT_BYTES = 25
_COUNTS = 1 << 64
_DIGITS = frozenset(b"0123456789abcdef")


def label(seconds: int, nanoseconds: int) -> bytes:
    """Return the binary label, 12 bytes, of a moment."""
    return ((EPOCH + seconds) % _COUNTS).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")


def text_label(seconds: int, nanoseconds: int) -> bytes:
    """Return the text label, 25 bytes starting with `@`, of a moment."""
    return b"@%016x%08x" % ((EPOCH + seconds) % _COUNTS, nanoseconds)


def unix_moment(binary: bytes) -> tuple[int, int]:
    """Return (Unix seconds, nanoseconds) of a binary label; seconds before 1970 are negative."""
    return int.from_bytes(binary[:8], "big") - EPOCH, int.from_bytes(binary[8:12], "big")


def read_text_label(text: bytes) -> tuple[int, int] | None:
    """Return (Unix seconds, nanoseconds) of the text label that text starts with, None if none stands there."""
    digits = text[1:TEXT_BYTES]
    if text[:1] != b"@" or len(digits) != 24 or not _DIGITS.issuperset(digits):
        return None
    return unix_moment(bytes.fromhex(digits.decode()))
