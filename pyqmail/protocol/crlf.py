"""Carriage returns before newlines: put there, put there where missing, removed.

Each is fed a stream in any pieces and returns what has become of it.  Source: addcr, fixcrio and delcr of ucspi-tcp
"""


def add_returns(data: bytes) -> bytes:
    """Put a CR before every LF, even where one stands already: CR LF becomes CR CR LF."""
    return data.replace(b"\n", b"\r\n")


class MissingReturns:
    """Put a CR before every LF that has none directly before it.  Nothing is held back."""

    def __init__(self) -> None:
        self._is_after_return = False

    def receive(self, data: bytes) -> bytes:
        text = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if self._is_after_return and data.startswith(b"\n"):
            text = text[1:]
        if data:
            self._is_after_return = data.endswith(b"\r")
        return text


class ReturnRemoval:
    """Remove the one CR directly before each LF; any other stays: CR CR LF becomes CR LF.

    A CR at the end of a piece is held back until it is known what follows; end() gives the one that was the last byte.
    """

    def __init__(self) -> None:
        self._held = b""

    def receive(self, data: bytes) -> bytes:
        block = self._held + data
        self._held = b"\r" if block.endswith(b"\r") else b""
        return block[: len(block) - len(self._held)].replace(b"\r\n", b"\n")

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held
