"""The client's side of the identification protocol.  RFC 1413

What an answer means is tcpserver's: blanks and CR count nowhere, everything up to and with the third colon is
skipped, the rest of the line is the answer.  An error reply has only two colons: its answer is empty.
"""

PORT = 113
_MOST = 257


def question(remote_port: bytes, local_port: bytes) -> bytes:
    """Return what to send: the client's port, ours."""
    return remote_port + b" , " + local_port + b"\r\n"


class Answer:
    """Takes the server's bytes in any pieces; once `ended`, `text` is the answer, at most 257 bytes, cut at a NUL.

    An end of file before `ended` is a failure, whatever came.
    """

    def __init__(self) -> None:
        self.ended = False
        self._colons, self._text = 0, b""

    def receive(self, data: bytes) -> None:
        line, newline, _ = data.partition(b"\n")
        line = line.translate(None, b" \t\r")
        while self._colons < 3 and line:
            _, colon, line = line.partition(b":")
            self._colons += len(colon)
        self._text = (self._text + line)[:_MOST]
        self.ended = bool(newline) or len(self._text) == _MOST

    @property
    def text(self) -> bytes:
        return self._text.partition(b"\0")[0]
