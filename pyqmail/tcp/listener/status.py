"""The status socket: each client that connects gets the status of the server (protocol/wires/status_wire.py).

A child of the server answers: it has the table as of its fork, and can wait for the kernel and for a client that does
not read.  There are _MAX_CHILDREN of them at most; more clients wait to be accepted.
"""

import os
import signal
import socket
import time

from pyqmail.base.failure import Temporary, reason
from pyqmail.protocol.wires import status_wire
from pyqmail.protocol.wires.status_wire import text
from pyqmail.system import sock_diag
from pyqmail.system.listener import Troubles, listen_at
from pyqmail.system.loop import READ
from pyqmail.tcp.listener.hooks import ServerHook
from pyqmail.tcp.listener.listening_socket import ListeningSocket
from pyqmail.tcp.listener.unix_relay import fork_owner

_MAX_CHILDREN = 4
_BACKLOG = 16
_PATIENCE_SECONDS = 5
_PAUSE_SECONDS = 0.1


class StatusSocket(ServerHook):
    """Listens at path; a stale socket there is replaced.  Raises Temporary.

    Only its owner can connect: the user that we are when it is made.  The server removes the file at its end if its
    rights suffice.
    """

    def __init__(self, path: str):
        path = path if "/" in path else f"./{path}"
        self._children: set[int] = set()
        self._is_watched, self._troubles = False, Troubles()
        try:
            self._socket = ListeningSocket(listen_at(path, _BACKLOG, 0o600), is_made=True)
            self._socket.refuse_descriptors()
        except Temporary as failure:
            raise Temporary(f"{failure.text} {path}", failure.error) from None

    def started(self, server) -> None:
        self._server = server
        self._watch()

    def child_ended(self, pid: int) -> None:
        if pid in self._children:
            self._children.discard(pid)
            self._watch()

    def close_in_child(self) -> None:
        self._socket.close()

    def close(self) -> None:
        self._socket.close_and_unlink()

    def _watch(self):
        wanted = len(self._children) < _MAX_CHILDREN
        if wanted != self._is_watched:
            self._is_watched = wanted
            if wanted:
                self._server.loop.watch_surely(self._socket.fileno(), READ, self._accept)
            else:
                self._server.loop.forget(self._socket.fileno())

    def _accept(self, _):
        try:
            client, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # the client stays ready: without a pause we would spin
            self._server.loop.forget(self._socket.fileno())
            self._is_watched = False
            self._server.loop.after(_PAUSE_SECONDS, self._watch)
            if self._troubles.is_new(error):
                self._server.complain(f"unable to accept on status socket: {reason(error)}")
                self._server.flush()
            return
        self._server.flush()
        try:
            self._children.add(fork_owner(client, lambda: self._answer(client)))
        except OSError:
            client.close()  # it sees the end
        self._watch()

    def _answer(self, client):
        signal.alarm(2 * _PATIENCE_SECONDS)  # the end, whatever keeps us waiting
        server = self._server
        places = [(listening.family, listening.local_ip, listening.local_port) for listening in server.sockets]
        server.close_in_child()
        client.settimeout(_PATIENCE_SECONDS)
        try:
            client.sendall(status_wire.pack(describe(server, places)))
        except OSError:
            return 1
        return 0


def describe(server, places) -> dict:
    """Return the fields of the status of the server.  places: (family, address, port) of its sockets."""
    measures = _measures(places)
    clients = sorted(server.clients.values(), key=lambda client: client.since)
    return {
        "server": "tcpserver",
        "pid": os.getppid(),
        "since": round(server.since, 3),
        "now": round(time.time(), 3),
        "serving_mode": server.mode.name,
        "listening": [text(_place(*place)) for place in places],
        "limit": server.limit,
        "count": server.count,
        "is_ending": server.is_ending,
        "workers": [{"pid": pid, "sessions": sessions} for pid, sessions in server.mode.workers()],
        "connections": [
            _row(client, measures.get((client.ip, int(client.port or 0), client.local_port))) for client in clients
        ],
    }


def _row(client, measure):
    """Return the fields of a connection; measure None: the kernel reports nothing about it."""
    return {
        "number": client.number,
        "protocol": text(client.protocol),
        "ip": text(client.ip),
        "port": int(client.port or 0),
        "since": round(client.since, 3),
        "state": measure and measure.state,
        "received": measure and measure.received,
        "sent": measure and measure.sent,
        "idle_ms": measure and measure.idle_ms,
    }


def _measures(places):
    """Return {(client's address, its port, ours): Measure} of those that the kernel reports."""
    found = {}
    for family, port in {(family, port) for family, _, port in places if family != socket.AF_UNIX}:
        try:
            for (ip, other), measure in sock_diag.connections(family, int(port)).items():
                found[ip, other, port] = measure
        except OSError:
            pass  # no netlink here, or not this part of it
    return found


def _place(family, ip, port):
    if family == socket.AF_INET:
        return b"%b:%b" % (ip or b"0.0.0.0", port)
    return b"[%b]:%b" % (ip or b"::", port) if family == socket.AF_INET6 else ip
