"""A listening socket, and whom it hears: TCP over IPv4 or IPv6, or a UNIX socket."""

import os
import socket
import struct

from pyqmail.tcp.connection import TCP, TCP6, UNIX, UNIX_CLIENT, Connection, plain

_WILDCARDS = ("0.0.0.0", "::")
_CREDENTIALS = struct.Struct("3i")


class Ear:
    """accept() gives the next client.  sock listens and is non-blocking.

    local_port is bytes, empty for a UNIX socket.  knows_ip: our end of every connection is local_ip, so that the
    kernel need not be asked.
    """

    def __init__(self, sock):
        self.sock, self.family = sock, sock.family
        name = sock.getsockname()
        self._is_plain = self.family == socket.AF_INET
        if self.family == socket.AF_UNIX:
            self.local_ip, self.local_port = os.fsencode(name), b""
        else:
            self.local_ip = b"" if name[0] in _WILDCARDS else plain(name[0]).encode()
            self.local_port = b"%d" % name[1]

    def fileno(self) -> int:
        return self.sock.fileno()

    def accept(self):
        """Return (socket, Connection) of the next client.  Raises OSError, BlockingIOError when there is none."""
        sock, name = self.sock.accept()
        if self._is_plain:
            return sock, Connection(TCP, name[0].encode(), b"%d" % name[1], self.local_ip, self.local_port)
        return sock, self._describe(sock, name)

    def close(self) -> None:
        self.sock.close()

    def _describe(self, sock, name):
        if self.family == socket.AF_UNIX:
            return Connection(UNIX, UNIX_CLIENT, b"", self.local_ip, b"", credentials=_credentials(sock))
        ip = plain(name[0])
        if ":" not in ip:
            return Connection(TCP, ip.encode(), b"%d" % name[1], self.local_ip, self.local_port)
        interface = _interface(name[3])
        return Connection(TCP6, ip.encode(), b"%d" % name[1], self.local_ip, self.local_port, interface)


def _credentials(sock):
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return b"%d %d %d" % _CREDENTIALS.unpack(found)


def _interface(index):
    try:
        return socket.if_indextoname(index).encode() if index else b""
    except OSError:
        return b""
