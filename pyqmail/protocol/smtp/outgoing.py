"""A message on its way out: Unix lines to SMTP's.  RFC 5321 sections 2.3.8 and 4.5.2

LF becomes CR LF, a dot at the start of a line is doubled.  CR LF in the message is one line end; a CR that no
LF follows becomes a space, so that neither a lone CR nor a lone LF is ever sent: those are how mail is smuggled.
A CR as the very last byte counts as a line end, as in the original.
"""


class PartialLine(ValueError):
    """The message does not end with a line end; SMTP has no way to say so."""


class Outgoing:
    """Takes the message in any pieces; send() returns what to put on the wire, end() the rest and the lone dot."""

    __slots__ = ("_at_start", "_held")

    def __init__(self) -> None:
        self._at_start = True  # of a line: a dot here is doubled
        self._held = b""  # a CR whose next byte is not known yet

    def send(self, block: bytes) -> bytes:
        if self._held:
            block, self._held = b"\r" + block, b""
        if b"\r" in block:
            if block.endswith(b"\r"):
                block, self._held = block[:-1], b"\r"
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b" ")
        if not block:
            return b""
        if self._at_start and block.startswith(b"."):
            block = b"." + block
        self._at_start = block.endswith(b"\n")
        if b"\n." in block:
            block = block.replace(b"\n.", b"\n..")
        return block.replace(b"\n", b"\r\n")

    def end(self) -> bytes:
        """Return what ends the message.  Raises PartialLine, after which the connection must just be closed."""
        if self._held:
            return b"\r\n.\r\n"
        if not self._at_start:
            raise PartialLine
        return b".\r\n"
