"""What happens to a connection before its program: options, banner, names, ident, rules; and the lines about it.

One coroutine for all ways to run a program: over the blocking driver in a child, over the event driver in a
worker, and in the listener itself when nothing in it can wait.
"""

import os
import socket

from pyqmail.base.failure import reason
from pyqmail.system.channel import Gone
from pyqmail.system.loop import TimedOut
from pyqmail.tcp.names import ask_ident, find_name

LABEL = b"tcpserver: "
_CLEAN = bytes(c if 32 < c < 127 and c not in b"%:" else 63 for c in range(256))
_FIELD_BYTES = 100


class Terms:
    """What the command line says about connections, the same for all of them.

    local_host None: look it up.  local_ip None: ask the kernel for each connection.  banner may be empty.
    rules: Rules or None; rules_name is what messages call them.
    """

    def __init__(self, local_port, **settings):
        self.local_port = local_port
        self.local_ip = self.local_host = self.rules = None
        self.looks_up_name = self.is_paranoid = self.asks_ident = False
        self.keeps_options, self.has_no_delay = False, False
        self.ident_seconds, self.banner, self.rules_name = 26, b"", ""
        self.__dict__.update(settings)

    @property
    def looks_up(self) -> bool:
        """Whether a connection has to wait for anybody else's answer."""
        return self.local_host is None or self.looks_up_name or self.asks_ident


class Drop(Exception):
    """The connection cannot be served: the text after `dropping connection, `.  Its exit code is 111."""


class Admission:
    """The outcome: whether the rules deny it, and the variables to set (None: to unset), in their order."""

    __slots__ = ("is_denied", "additions", "fields")

    def __init__(self, is_denied, additions, fields):
        self.is_denied, self.additions, self.fields = is_denied, additions, fields


async def admit(terms, sock, peer, ip: bytes, port: bytes, driver, names, local_ip: bytes | None = None) -> Admission:
    """Do all that comes before the program.  peer writes to sock.  Raises Drop."""
    if not terms.keeps_options:
        _try_option(sock, socket.IPPROTO_IP, socket.IP_OPTIONS, b"")
    if terms.has_no_delay:
        _try_option(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if terms.banner:
        await _greet(peer, terms.banner)
    local_ip = local_ip or terms.local_ip or _own_address(sock)
    local_host = terms.local_host
    if local_host is None:
        local_host = await find_name(names, local_ip, False)
    host = info = None
    if terms.looks_up_name:
        host = await find_name(names, ip, terms.is_paranoid)
    if terms.asks_ident:
        info = await ask_ident(driver, (ip, port, local_ip, terms.local_port), terms.ident_seconds)
    additions = [
        (b"PROTO", b"TCP"),
        (b"TCPLOCALIP", local_ip),
        (b"TCPLOCALPORT", terms.local_port),
        (b"TCPLOCALHOST", local_host),
        (b"TCPREMOTEIP", ip),
        (b"TCPREMOTEPORT", port),
        (b"TCPREMOTEHOST", host),
        (b"TCPREMOTEINFO", info),
    ]
    rule = None
    if terms.rules is not None:
        try:
            rule = terms.rules.find(ip, host, info)
        except OSError as error:
            raise Drop(f"unable to read {terms.rules_name}: {reason(error)}") from None
    if rule is not None:
        additions += rule.variables
    fields = (local_host, local_ip, terms.local_port, host, ip, info, port)
    return Admission(rule is not None and rule.is_denied, additions, fields)


def opening_line(number: int, ip: bytes) -> bytes:
    return LABEL + b"pid %d from %b\n" % (number, ip)


def verdict_line(number: int, admission: Admission) -> bytes:
    """Return the `ok` or `deny` line: what was found out, not what a rule made of it."""
    word = b"deny" if admission.is_denied else b"ok"
    return LABEL + b"%b %d %b:%b:%b %b:%b:%b:%b\n" % (word, number, *map(_field, admission.fields))


def drop_line(text: str) -> bytes:
    return LABEL + b"warning: dropping connection, " + os.fsencode(text) + b"\n"


def status_line(count: int, limit: int) -> bytes:
    return LABEL + b"status: %d/%d\n" % (count, limit)


def end_line(number: int, wait_status: int) -> bytes:
    return LABEL + b"end %d status %d\n" % (number, wait_status)


def _field(text):
    """Clean and cut a field of the line; exactly 100 bytes are marked as cut too, as the original does."""
    if not text:
        return b""
    return (text[:_FIELD_BYTES] + b"..." if len(text) >= _FIELD_BYTES else text).translate(_CLEAN)


def _try_option(sock, level, option, value):
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        pass


def _own_address(sock):
    try:
        return sock.getsockname()[0].encode()
    except OSError as error:
        raise Drop(f"unable to get local address: {reason(error)}") from None


async def _greet(peer, banner):
    peer.put(banner)
    try:
        await peer.flush()
    except Gone as gone:
        error = gone.__context__
        raise Drop(f"unable to print banner: {reason(error if isinstance(error, OSError) else 0)}") from None
    except TimedOut:
        raise Drop("unable to print banner: timed out") from None
