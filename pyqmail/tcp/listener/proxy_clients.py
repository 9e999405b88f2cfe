"""Read the PROXY header of listed proxies (protocol/proxy_header.py); the connection becomes that of the client named.

Nothing is read from others.  A header that is malformed, or not complete in time, ends the connection: the proxy is no
client, and the client behind it must not pass for the proxy.
"""

import socket

from pyqmail.base.failure import reason
from pyqmail.protocol.proxy_header import PEEK_BYTES, Header, MalformedProxyHeader
from pyqmail.system.coroutines import READ
from pyqmail.tcp.access.connection import TCP, TCP6, UNIX, UNIX_CLIENT, Connection, plain

PATIENCE_SECONDS = 3.0


def listed(text: str):
    """Return is_listed(client), which tells whether a Connection is from one of the proxies listed.

    text: addresses and networks, `192.0.2.1,2001:db8::/32`, and `unix` for all clients of UNIX sockets.
    Raises ValueError.
    """
    import ipaddress

    words = text.split(",")
    has_unix = UNIX_CLIENT.decode() in words
    try:
        networks = [ipaddress.ip_network(plain(word)) for word in words if word != UNIX_CLIENT.decode()]
    except ValueError:
        raise ValueError(f"not addresses and networks: {text}") from None

    def is_listed(client) -> bool:
        if client.protocol == UNIX:
            return has_unix
        address = ipaddress.ip_address(client.ip.decode())
        return any(address in network for network in networks)

    return is_listed


class ProxyClients:
    """The connections of proxies whose header is not complete.

    is_listed(client) tells whether a Connection is from a proxy.  The server gets each connection back by
    header_received() or header_refused().
    """

    def __init__(self, loop, is_listed, patience_seconds: float = PATIENCE_SECONDS):
        self._loop, self._is_listed, self._patience = loop, is_listed, patience_seconds
        self._waiting: set[_Waiting] = set()

    def hold_if_proxy(self, sock, client, server) -> bool:
        """Take over a connection and return True if a proxy has made it; otherwise return False."""
        if not self._is_listed(client):
            return False
        waiting = _Waiting(sock, client, server)
        waiting.timer = self._loop.after(self._patience, lambda: self._refuse(waiting, "timed out"))
        self._waiting.add(waiting)
        try:
            self._loop.watch(sock.fileno(), READ, lambda _: self._ready(waiting))
        except OSError as error:
            self._refuse(waiting, reason(error))
        return True

    def close_in_child(self) -> None:
        for waiting in self._waiting:
            waiting.sock.close()

    def _ready(self, waiting):
        sock, header = waiting.sock, waiting.header
        try:
            data = sock.recv(PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            taken = header.receive(data)
            sock.recv(taken, socket.MSG_DONTWAIT)  # no more: the rest is for the program, which reads the socket itself
        except BlockingIOError:
            return
        except OSError as error:
            self._refuse(waiting, reason(error))
        except MalformedProxyHeader:
            self._refuse(waiting, "protocol error")
        else:
            if not data:
                self._refuse(waiting, "end of file")
            elif header.ended:
                self._forget(waiting)
                waiting.server.header_received(sock, _named(waiting.client, header.ends))

    def _refuse(self, waiting, why):
        self._forget(waiting)
        waiting.server.header_refused(waiting.sock, waiting.client, f"unable to read PROXY header: {why}")

    def _forget(self, waiting):
        self._waiting.discard(waiting)
        self._loop.forget(waiting.sock.fileno())
        waiting.timer.cancel()
        waiting.timer = None  # it holds us: nothing that holds itself is left behind


class _Waiting:
    """One of these connections."""

    __slots__ = ("sock", "client", "server", "header", "timer")

    def __init__(self, sock, client, server):
        self.sock, self.client, self.server = sock, client, server
        self.header, self.timer = Header(), None


def _named(proxy, ends):
    """Return the client with these addresses and ports; the proxy itself if there are none."""
    if ends is None:
        return proxy
    ip, port, local_ip, local_port = ends
    ip, local_ip = (plain(text.decode()).encode() for text in (ip, local_ip))
    client = Connection(TCP6 if b":" in ip else TCP, ip, port, local_ip, local_port)
    client.since = proxy.since
    return client
