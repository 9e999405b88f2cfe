"""Where a load tool connects or listens: `[inet:]host[:port]`, `[inet:][host]:port`, `unix:path`.

Source: Postfix's smtp-source and smtp-sink
"""

import socket

from pyqmail.base.failure import Temporary
from pyqmail.base.numbers import whole_number

PORT_OF_SMTP, PORT_OF_QMQP = 25, 628
BOTH, IP4, IP6 = socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6


class Target:
    """family, and address as connect(2) and bind(2) take it."""

    __slots__ = ("address", "family")

    def __init__(self, family: int, address) -> None:
        self.family, self.address = family, address

    def __repr__(self) -> str:
        return self.address if isinstance(self.address, str) else f"{self.address[0]}:{self.address[1]}"


def find(text: str, family: int, port: int, to_listen: bool = False) -> Target:
    """Return the first address that a word means.  Raises ValueError if it means none, Temporary if none is found."""
    if text.startswith("unix:"):
        if not text[5:]:
            raise ValueError("no path after unix:")
        return Target(socket.AF_UNIX, text[5:])
    host, name = _split(text.removeprefix("inet:"), port, to_listen)
    if name.isdigit():
        whole_number(name, 65535)  # getaddrinfo(3) would take it modulo 65536
    flags = socket.AI_PASSIVE if to_listen else 0
    try:
        found = socket.getaddrinfo(host or None, name, family, socket.SOCK_STREAM, 0, flags)
    except (OSError, UnicodeError):
        raise Temporary(f"unable to find an address of {text}") from None
    return Target(found[0][0], found[0][4])


def _split(text, port, to_listen):
    """Return (host or empty, port or its name)."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or rest[:1] not in ("", ":"):
            raise ValueError(f"no address: {text}")
        name = rest[1:] or str(port)
    elif text.count(":") > 1:
        host, name = text, str(port)  # an IPv6 address without brackets
    else:
        host, _, name = text.partition(":")
        name = name or str(port)
    if not host and not to_listen:
        raise ValueError(f"no host: {text}")
    return host, name


def own_addresses(text: str) -> list[str]:
    """Return the addresses of a list with commas between.  Raises ValueError."""
    addresses = text.split(",")
    for one in addresses:
        try:
            socket.inet_pton(IP6 if ":" in one else IP4, one)
        except OSError:
            raise ValueError(f"no address: {one}") from None
    return addresses


def connect_socket(target: Target, local: str | None, window: int | None) -> socket.socket:
    """Return a socket that connects, or has.  local: the address it comes from.  Raises OSError."""
    sock = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        set_window(sock, window)
        if local is not None:
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect(2)
            sock.bind((local, 0))
        problem = sock.connect_ex(target.address)
        if problem and problem not in (115, 11):  # EINPROGRESS; EAGAIN of a Unix socket whose backlog is full
            raise OSError(problem, "connect")
        if problem == 11:
            raise ConnectionRefusedError(111, "backlog full")
        return sock
    except OSError:
        sock.close()
        raise


def listen_socket(target: Target, backlog: int, window: int | None, is_shared: bool) -> socket.socket:
    """Return a socket that listens.  is_shared: other processes listen beside it.  Raises OSError."""
    sock = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        set_window(sock, window)
        if target.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if target.family == IP6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(target.address)
        sock.listen(backlog)
        return sock
    except OSError:
        sock.close()
        raise


def set_window(sock: socket.socket, window: int | None) -> None:
    """Bound what the kernel buffers, and so the TCP window, in bytes; None: the kernel's own choice."""
    if window is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window)
