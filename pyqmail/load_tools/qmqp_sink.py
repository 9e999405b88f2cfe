"""A server's side of QMQP that takes every message and keeps none: an engine as that of smtp_sink.py.

Source: cr.yp.to/proto/qmqp.html
"""

from pyqmail.load_tools.qmqp_source import netstring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_MESSAGE_BYTES = 1 << 30
_MAX_DIGITS = 10


class QmqpSinkSession:
    """One message; what it holds is its head and the end of a netstring, never the message."""

    __slots__ = ("server", "client", "sender", "recipients", "messages", "out", "late", "is_over", "_held", "_left")

    def __init__(self, server: "Any", client: str, taken: "Any") -> None:
        self.server, self.client, self.sender, self.messages = server, client, "", 0
        self.recipients: list[str] = []
        self.out, self.is_over = bytearray(), False
        self.late: float | None = None
        self._held, self._left = bytearray(), -1

    @property
    def has_more(self) -> bool:
        """Nothing is ever left for later."""
        return False

    def begin(self) -> None:
        """The client speaks first."""

    def feed(self, data: bytes) -> None:
        """Bytes have come from the client."""
        if self._left < 0:
            self._held += data
            digits, colon, rest = bytes(self._held).partition(b":")
            if not (digits or b"0").isdigit() or len(digits) > _MAX_DIGITS:
                self.is_over = True
                return
            if not colon:
                return
            self._held.clear()
            self._left, data = int(digits or b"0") + 1, rest
            self.is_over = self._left > MAX_MESSAGE_BYTES
        self._left -= len(data)
        if self._left <= 0 and not self.is_over:
            self._end(data)

    def resume(self) -> None:
        """Nothing is ever late."""

    def _end(self, data: bytes) -> None:
        is_right = self._left == 0 and data[-1:] == b","
        if is_right:
            self.messages += 1
            self.server.add_message(self)
        self.out += netstring(b"Kok" if is_right else b"Dformat error")
        self.is_over = True
