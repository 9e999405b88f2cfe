"""Message content as it comes over SMTP: to Unix text and back to the command line, whole blocks at a time."""

END = b"\r\n.\r\n"
HOPS_LIMIT = 100

_STARTS = tuple(END[:size] for size in range(len(END) - 1, 0, -1))
_HEADER_END = b"\n\r\n"
_RECEIVED, _DELIVERED = b"\nreceived", b"\ndelivered"


class StrayNewline(ValueError):
    """An LF without its CR: the way mail is smuggled in."""


class Content:
    """Undo SMTP transparency on message content.  RFC 5321 section 4.5.2

    receive() takes the client's bytes in any pieces and returns content as Unix text: CR LF becomes LF, the
    first dot of a line goes (unless only a CR follows it).  After the lone dot `ended` is True and `rest` holds
    the bytes beyond it.  Raises StrayNewline for an LF without its CR; a CR alone is content.

    `size` counts the bytes of text so far.  Once it is above limit_bytes (0: no limit) `is_too_big` is True and no
    more text is returned, though all is still read.  `hops` counts header lines that start with received or
    delivered in any case, colon or not, as they came; only those that can matter are counted.
    """

    __slots__ = ("ended", "rest", "size", "hops", "_limit", "_held", "_skip", "_header")

    def __init__(self, limit_bytes: int = 0) -> None:
        self.ended = False
        self.rest = b""
        self.size = self.hops = 0
        self._limit = limit_bytes
        self._held = b"\r\n"  # as if a line had just ended
        self._skip = 1  # that line's LF is not content
        self._header: bytes | None = b""  # last bytes of the header so far; None once it has ended

    @property
    def is_too_big(self) -> bool:
        return 0 < self._limit < self.size

    @property
    def is_looping(self) -> bool:
        return self.hops >= HOPS_LIMIT

    def receive(self, data: bytes) -> bytes:
        block = self._held + data
        cut = block.find(END)
        if cut >= 0:
            self.ended, self.rest = True, block[cut + len(END) :]
            cut += 2
        else:
            cut = len(block) - overlap(block)
        block, self._held = block[:cut], block[cut:]
        if block.count(b"\n") != block.count(b"\r\n"):
            raise StrayNewline
        if self._header is not None:
            self._count_hops(self._header, block)
        if b"\n.\r" in block:  # here a dot is content: its line is not the lone dot it looked like
            block = block.replace(b"\r\n.\r", b"\r\n..\r")
        text = block.replace(b"\r\n.", b"\r\n").replace(b"\r\n", b"\n")
        if self._skip and text:
            text, self._skip = text[1:], 0
        self.size += len(text)
        return b"" if self.is_too_big else text

    def _count_hops(self, kept: bytes, block: bytes) -> None:
        """Count in the raw header; its last bytes are kept, since a field's name may lie across two blocks."""
        block = kept + block
        end = block.find(_HEADER_END)
        if end >= 0:
            block, self._header = block[: end + 1], None
        else:
            self._header = block[-len(_RECEIVED) :]
        block, kept = block.lower(), kept.lower()
        self.hops += block.count(_RECEIVED) + block.count(_DELIVERED) - kept.count(_RECEIVED)


def overlap(block: bytes) -> int:
    """Return how many last bytes of block may be the start of END."""
    if block.endswith(_STARTS):
        return next(len(start) for start in _STARTS if block.endswith(start))
    return 0
