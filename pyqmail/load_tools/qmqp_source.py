"""A client's side of QMQP, for load: one message a connection.

The conversation is that of smtp_source.py: it yields (bytes to send, 1), is sent [reply], and yields an Ended.
Source: cr.yp.to/proto/qmqp.html
"""

from pyqmail.load_tools.smtp_source import Ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from pyqmail.load_tools.smtp_source import Plan

MAX_REPLY_BYTES = 65536


def find_replies(held: bytearray, count: int) -> list[bytes] | None:
    """Return [reply] once its netstring is there.  Raises ValueError for bytes that are none."""
    digits, colon, rest = bytes(held).partition(b":")
    is_begun = not digits and not colon
    if len(digits) > 5 or not (is_begun or digits.isdigit()) or (colon and int(digits) > MAX_REPLY_BYTES):
        raise ValueError("no reply")
    if not colon or len(rest) <= int(digits):
        return None
    if rest[int(digits) : int(digits) + 1] != b"," or not int(digits):
        raise ValueError("no reply")
    return [rest[: int(digits)]]


def converse(plan: "Plan", number: int | None) -> "Generator[Any, Any, None]":
    """See the module."""
    parts = [plan.message(number or 0).removesuffix(b".\r\n").replace(b"\r\n", b"\n"), plan.sender, *plan.addresses()]
    inner = b"".join(netstring(part) for part in parts)
    [reply] = yield netstring(inner), 1
    refused = "" if reply[:1] == b"K" else f"QMQP {reply[:1].decode('ascii', 'replace')}"
    yield Ended(refused, reply, is_over=True)


def netstring(data: bytes) -> bytes:
    return b"%d:%b," % (len(data), data)
