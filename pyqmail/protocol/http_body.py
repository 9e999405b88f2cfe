"""The text of an HTTP/1.0 answer, for people."""


class Body:
    """What stands after the first empty line of an answer, less its own empty lines.  Source: http@ of ucspi-tcp

    receive() takes the answer in any pieces, its lines ended by LF, and returns what of the body they bring; end() the
    newline that the last line lacks.  An answer without an empty line has no body.
    """

    def __init__(self) -> None:
        self._is_header = True
        self._last = b"\n"  # the byte before what comes: as if a line had just ended

    def receive(self, data: bytes) -> bytes:
        block = self._last + data
        if self._is_header:
            end = block.find(b"\n\n")
            if end < 0:
                self._last = block[-1:]
                return b""
            self._is_header = False
            block = block[end + 1 :]
        while b"\n\n" in block:
            block = block.replace(b"\n\n", b"\n")
        self._last = block[-1:]
        return block[1:]

    def end(self) -> bytes:
        return b"" if self._is_header or self._last == b"\n" else b"\n"
