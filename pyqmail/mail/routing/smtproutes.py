"""control/smtproutes: which relay takes a domain's mail in place of its exchangers.  Source: qmail-remote"""

from pyqmail.base.addresses import suffixes
from pyqmail.base.numbers import count_digits, leading_number

SMTP_PORT = 25


def route_key(domain: bytes, routes: dict[bytes, bytes]) -> bytes | None:
    """Return the key of the line that decides for a domain, whatever it says; None if there is none."""
    return next((key for key in (*suffixes(domain.lower()), b"") if key in routes), None) if routes else None


def route_for(domain: bytes, routes: dict[bytes, bytes]) -> tuple[bytes, int] | None:
    """Return (relay, port) from control/smtproutes for a domain, None to use its mail exchangers.

    Tried: the domain, its ends that start with a dot, the empty key; the first one found decides, and nothing
    behind its colon means None.  A relay in brackets may be an IPv6 address.
    """
    key = route_key(domain, routes)
    route = routes[key] if key is not None else b""
    if not route:
        return None
    relay, port = _split(route)
    return relay, leading_number(port, 65536) if count_digits(port) else SMTP_PORT


def _split(route: bytes) -> tuple[bytes, bytes]:
    """Return (relay, port as text) of `relay:port`; the port is empty if there is none."""
    if route.startswith(b"[") and b"]" in route:
        inner, _, port = route.partition(b"]")
        return inner + b"]", port.removeprefix(b":")
    relay, _, port = route.partition(b":")
    return relay, port
