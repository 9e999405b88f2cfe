"""Connect to a host as tcpclient does: from the words of a command line to a connected socket.

    addresses = find_addresses("example.org")
    sock = connect(addresses, port_number("smtp"))      # port_number is tcp/client/addresses.py's
    if sock is None:
        return 111                                      # the reasons are in the log, line by line

All lines and failures are those of the original, under its name where they are printed here.
"""

import _socket as socket  # without its enums and its selectors: each start would pay for them
import errno
import os
import select

from pyqmail.base.failure import Temporary, reason
from pyqmail.base.literals import literal_address
from pyqmail.system.descriptors import log
from pyqmail.tcp.client.addresses import literal
from pyqmail.tcp.client.dns_rewrite import alternatives, find_rules

LABEL = "tcpclient"  # at the head of the lines about a connection
WAITS = (2, 58)  # seconds for each address, in the first pass and in the second


def find_addresses(
    host: str, own: str = "127.0.0.1", kinds=("A", "AAAA"), environ=None, waits=None, is_shuffled=True
) -> list[str]:
    """Return the addresses a host word means, at least one; those of a name shuffled, or in the order of the answer.

    Empty or `0` means own.  A name is rewritten first (tcp/client/dns_rewrite.py); its addresses are those of the first
    kind that it has.  An IPv6 address is used as it is if kinds has AAAA.  environ names the DNS servers and rewriting
    rules; None: the environment of the process.  waits as in system/resolver.py.
    Raises Temporary, both if there is no address and if the look-up fails for now.
    """
    host = own if host in ("", "0") else host
    address = literal_address(os.fsencode(host)) if ":" in host else None
    if address is not None and "AAAA" in kinds:
        return [address.decode()]
    environ = os.environb if environ is None else environ
    try:
        names = alternatives(os.fsencode(host), find_rules(environ)) if address is None else []
    except OSError as error:
        raise Temporary(f"temporarily unable to figure out IP address for {host}", error) from None
    for name in names:
        found = literal(os.fsdecode(name))
        if found is None:
            found = _ask(host, name, kinds, environ, waits, is_shuffled)
        elif "A" not in kinds:
            continue
        if found:
            return found
    raise Temporary(f"no IP address for {host}")


def connect(
    addresses: list[str], port: int, waits=WAITS, local: str = "", local_port: int = 0, scope: int = 0, say=log
):
    """Return a socket connected to the first of addresses that answers, blocking and close-on-exec; None if none does.

    waits are seconds: of the first pass over the addresses, and of a second over those that did not answer in
    time; a single address gets both at once.  say(line) reports each failure as it happens, but not that of an address
    that will be tried again.  local, local_port: our address and port, empty and 0 for any.  scope: the number of the
    interface of IPv6 addresses that need one.
    Raises Temporary if no socket can be had, or our address cannot be bound.
    """
    first, second = waits if len(addresses) > 1 else (sum(waits), 0)
    for seconds, again in ((first, second), (second, 0)):
        late = []
        for ip in addresses:
            sock = _socket(ip, local, local_port, scope)
            number = _connect(sock, _end(ip, port, scope), seconds)
            if not number:
                sock.setblocking(True)
                return sock
            sock.close()
            if number == errno.ETIMEDOUT and again:
                late.append(ip)
            else:
                say(f"{LABEL}: unable to connect to {ip} port {port}: {reason(number)}")
        addresses = late
    return None


def _ask(host, name, kinds, environ, waits, is_shuffled):
    from pyqmail.system import resolver

    try:
        found = resolver.addresses_of(name, environ, resolver.WAITS if waits is None else waits, kinds)
    except resolver.Soft as failure:
        raise Temporary(f"temporarily unable to figure out IP address for {host}: {failure}") from None
    if is_shuffled and len(found) > 1:
        import random

        random.shuffle(found)
    return [address.decode() for address in found]


def _end(ip, port, scope):
    return (ip, port, 0, scope) if ":" in ip else (ip, port)


def _socket(ip, local, local_port, scope):
    """Return a non-blocking socket for a connection to ip, bound to our address.  Raises Temporary."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise Temporary("unable to create socket", error) from None
    if local or local_port:
        try:
            if local and (":" in local) != (":" in ip):
                raise OSError(errno.EAFNOSUPPORT, "")
            sock.bind(_end(local, local_port, scope))
        except OSError as error:
            sock.close()
            raise Temporary("unable to bind socket", error) from None
    return sock


def _connect(sock, address, seconds):
    """Return 0 once the connection is established, otherwise the number of the error."""
    number = sock.connect_ex(address)
    if number != errno.EINPROGRESS:
        return number
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    if not poll.poll(seconds * 1000):
        return errno.ETIMEDOUT
    try:
        sock.getpeername()
    except OSError:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.EAGAIN
    return 0
