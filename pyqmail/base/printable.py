"""Bytes of strangers in a line for people: a module of its own, for programs that load little."""

_SAFE = bytes(47 if c == 10 else 95 if c < 33 or c > 126 or c == 37 else c for c in range(256))


def printable(name: bytes) -> str:
    """Return a name with `?` for every byte that is not printable ASCII: it cannot steer a terminal."""
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in name)


def logsafe(text: bytes) -> bytes:
    """Return text as it stands in a log line: `/` for LF, `_` for blanks, controls, 8-bit bytes and `%`.

    Source: logsafe() of qmail-send
    """
    return text.translate(_SAFE)
