"""The client's side of the identification protocol.  RFC 1413 sections 4 to 6

What an answer means is tcpserver's: blanks and CR count nowhere, everything up to and with the third colon is
skipped, the rest of the line is the answer.  An error reply has only two colons: its answer is empty.
"""

PORT = 113
REPLY_LIMIT = 65536  # bytes; RFC 1413 section 4 allows 1000
_MOST = 257


def question(remote_port: bytes, local_port: bytes) -> bytes:
    """Return what to send: the client's port, ours."""
    return remote_port + b" , " + local_port + b"\r\n"


class IdentAnswer:
    """Takes the server's bytes in any pieces; once `ended`, `text` is the answer, at most 257 bytes, cut at a NUL.

    An end of file before `ended` is a failure, whatever came; so is more than REPLY_LIMIT bytes: `is_too_long`.
    """

    def __init__(self) -> None:
        self.ended = self.is_too_long = False
        self._colons, self._text, self._size = 0, b"", 0

    def receive(self, data: bytes) -> None:
        line, newline, _ = data.partition(b"\n")
        self._size += len(line)
        self.is_too_long = self._size > REPLY_LIMIT
        line = line.translate(None, b" \t\r")
        while self._colons < 3 and line:
            _, colon, line = line.partition(b":")
            self._colons += len(colon)
        self._text = (self._text + line)[:_MOST]
        self.ended = bool(newline) or len(self._text) == _MOST

    @property
    def text(self) -> bytes:
        return self._text.partition(b"\0")[0]
