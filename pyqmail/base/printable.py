"""Names of strangers in a line for people: a module of its own, for programs that load little."""


def printable(name: bytes) -> str:
    """Return a name with `?` for every byte that is not printable ASCII: it cannot steer a terminal."""
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in name)
