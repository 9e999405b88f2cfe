"""Proxies: whoever is listed says first for whom it speaks (protocol/proxy_header.py), and the connection is that client's.

From others nothing is read.  What a listed one fails to say within its time, or says wrongly, ends its connection: it
is no client, and whoever is behind it must not pass for it.
"""

import socket

from pyqmail.base.failure import reason
from pyqmail.protocol.proxy_header import PEEK_BYTES, Header, MalformedProxyHeader
from pyqmail.system.loop import READ
from pyqmail.tcp.access.connection import TCP, TCP6, UNIX, UNIX_CLIENT, Connection, plain

PATIENCE_SECONDS = 3.0


def listed(text: str):
    """Return the test of whether a Connection is from one of the proxies listed.

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
    """The connections of proxies that have not yet said for whom they speak; see tcp/listener/server.py for how it is called.

    is_listed(client) says who is a proxy.
    """

    def __init__(self, loop, is_listed, patience_seconds: float = PATIENCE_SECONDS):
        self._loop, self._is_listed, self._patience = loop, is_listed, patience_seconds
        self._waiting: set[_Waiting] = set()

    def begin(self, sock, client, server) -> bool:
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

    def let_go(self) -> None:
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
                waiting.server.introduced(sock, _named(waiting.client, header.ends))

    def _refuse(self, waiting, why):
        self._forget(waiting)
        waiting.server.refused(waiting.sock, waiting.client, f"unable to read PROXY header: {why}")

    def _forget(self, waiting):
        self._waiting.discard(waiting)
        self._loop.forget(waiting.sock.fileno())
        waiting.timer.cancel()
        waiting.timer = None  # it holds us: nothing that holds itself is left behind


class _Waiting:
    """One of them."""

    __slots__ = ("sock", "client", "server", "header", "timer")

    def __init__(self, sock, client, server):
        self.sock, self.client, self.server = sock, client, server
        self.header, self.timer = Header(), None


def _named(proxy, ends):
    """Return the client at these ends; the proxy itself if there are none."""
    if ends is None:
        return proxy
    ip, port, local_ip, local_port = ends
    ip, local_ip = (plain(text.decode()).encode() for text in (ip, local_ip))
    client = Connection(TCP6 if b":" in ip else TCP, ip, port, local_ip, local_port)
    client.since = proxy.since
    return client
