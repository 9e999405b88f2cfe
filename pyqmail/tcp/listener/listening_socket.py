"""A listening socket, over TCP on IPv4 or IPv6 or a UNIX socket, and the clients it accepts."""

import os
import socket

from pyqmail.system.channel import refuse_descriptors
from pyqmail.system.credentials import peer_credentials
from pyqmail.system.listener import socket_file, unlink_socket
from pyqmail.tcp.access.connection import TCP, TCP6, UNIX, UNIX_CLIENT, Connection, plain

_WILDCARDS = ("0.0.0.0", "::")


class ListeningSocket:
    """accept() returns the next client.  sock listens and is non-blocking.

    local_ip and local_port are bytes, as in a Connection.  refuses_descriptors: refuse_descriptors() was called and
    matters here.  is_made: the socket file was made for this listener, which removes it again.
    """

    def __init__(self, sock, is_made: bool = False):
        self.sock, self.family = sock, sock.family
        name = sock.getsockname()
        self._is_plain = self.family == socket.AF_INET
        if self.family == socket.AF_UNIX:
            # an abstract name starts with NUL, which no variable could hold
            self.local_ip, self.local_port = os.fsencode(name).replace(b"\0", b"@"), b""
        else:
            self.local_ip = b"" if name[0] in _WILDCARDS else plain(name[0]).encode()
            self.local_port = b"%d" % name[1]
        self._made = socket_file(name) if is_made else None
        self.refuses_descriptors = False

    def refuse_descriptors(self) -> None:
        """Take no descriptors from clients: those of a UNIX socket can pass some (tcp/listener/unix_relay.py)."""
        if self.family == socket.AF_UNIX:
            self.refuses_descriptors = True
            refuse_descriptors(self.sock)

    def fileno(self) -> int:
        return self.sock.fileno()

    def accept(self):
        """Return (socket, Connection) of the next client.  Raises OSError, BlockingIOError if there is none."""
        sock, name = self.sock.accept()
        if self._is_plain:
            return sock, Connection(TCP, name[0].encode(), b"%d" % name[1], self.local_ip, self.local_port)
        return sock, self._describe(sock, name)

    def close(self) -> None:
        self.sock.close()

    def close_and_unlink(self) -> None:
        """Close, and remove the socket file if it is still the one that was made for us, and we may."""
        unlink_socket(self.sock, self.local_ip, self._made)
        self.close()

    def _describe(self, sock, name):
        if self.family == socket.AF_UNIX:
            credentials = b"%d %d %d" % peer_credentials(sock)
            return Connection(UNIX, UNIX_CLIENT, b"", self.local_ip, b"", credentials=credentials)
        ip = plain(name[0])
        if ":" not in ip:
            return Connection(TCP, ip.encode(), b"%d" % name[1], self.local_ip, self.local_port)
        interface = _interface(name[3])
        return Connection(TCP6, ip.encode(), b"%d" % name[1], self.local_ip, self.local_port, interface)


def _interface(index):
    try:
        return socket.if_indextoname(index).encode() if index else b""
    except OSError:
        return b""
