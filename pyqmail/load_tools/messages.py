"""The messages that a source sends: made of a length, or read from a file."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LINE = b"X" * 72 + b"\r\n"


def header(sender: bytes, recipient: bytes, subject: bytes, message_id: bytes, date: bytes) -> bytes:
    """Return the header fields of a message, without the empty line.  An empty subject is none."""
    fields = [
        b"From: <%b>" % sender,
        b"To: <%b>" % recipient,
        b"Date: %b" % date,
        b"Message-Id: <%b>" % message_id,
    ]
    if subject:
        fields.append(b"Subject: %b" % subject)
    return b"".join(field + b"\r\n" for field in fields)


def payload(length: int) -> bytes:
    """Return so many bytes of lines; shorter lengths than a line end's are one letter."""
    lines, rest = divmod(length, len(_LINE))
    tail = b"X" * max(0, rest - 2) + b"\r\n" if rest > 1 else b"X" * rest
    return _LINE * lines + tail


def stuffed(lines: "Iterable[bytes]") -> bytes:
    """Return lines of a file as they go over SMTP: ended by CR LF, with a dot before a dot."""
    bare = [line.rstrip(b"\n").removesuffix(b"\r") for line in lines]
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in bare)
