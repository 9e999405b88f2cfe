"""Addresses of machines written as they are, instead of a name that DNS must explain."""

from pyqmail.base.numbers import is_number


def literal_address(text: bytes) -> bytes | None:
    """Return the address that text is, in its usual form; None if it is a name.

    `1.2.3.4`, `[1.2.3.4]`, `[IPv6:2001:db8::1]`, `[2001:db8::1]` and the same without brackets.
    """
    if text.startswith(b"[") and text.endswith(b"]"):
        text = text[1:-1]
        if text[:5].lower() == b"ipv6:":
            text = text[5:]
    parts = text.split(b".")
    if len(parts) == 4 and all(is_number(part) and len(part) < 9 and int(part) < 256 for part in parts):
        return b".".join(b"%d" % int(part) for part in parts)
    if b":" in text:
        import _socket  # without the enums of socket

        try:
            return _socket.inet_ntop(_socket.AF_INET6, _socket.inet_pton(_socket.AF_INET6, text.decode())).encode()
        except (OSError, ValueError):
            return None
    return None
