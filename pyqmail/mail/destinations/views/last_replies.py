"""The last reply that deferred mail of a domain, for those who ask why it waits."""

from collections import OrderedDict

MAX_DOMAINS = 20_000  # those whose reply is the oldest go
MAX_TEXT = 200  # bytes of a reply


class LastReplies:
    """domain -> text, within bounds: what is forgotten stands in the log."""

    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: OrderedDict[bytes, bytes] = OrderedDict()

    def note(self, domain: bytes, text: bytes) -> None:
        """Mail for a domain was deferred with this reply or error."""
        self._texts[domain] = text[:MAX_TEXT]
        self._texts.move_to_end(domain)
        if len(self._texts) > MAX_DOMAINS:
            self._texts.popitem(last=False)

    def of(self, domain: bytes) -> bytes:
        """Return the last one, empty if none is known."""
        return self._texts.get(domain, b"")
