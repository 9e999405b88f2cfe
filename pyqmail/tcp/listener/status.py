"""pytcpserver's status socket (system/status_socket.py) and what it reports (protocol/wires/status_wire.py)."""

import os
import socket
import time

from pyqmail.protocol.wires import status_wire
from pyqmail.protocol.wires.status_wire import text
from pyqmail.system import sock_diag
from pyqmail.system.status_socket import StatusSocket
from pyqmail.tcp.listener.hooks import ServerHook


class StatusHook(ServerHook):
    """Reports on the server at path.  Raises Temporary."""

    def __init__(self, path: str) -> None:
        self._socket = StatusSocket(path)

    def started(self, server) -> None:
        self._socket.start(server.loop, lambda _: report(server), server.complain, server.flush)

    def child_ended(self, pid: int) -> None:
        self._socket.child_ended(pid)

    def close_in_child(self) -> None:
        self._socket.close_in_child()

    def close(self) -> None:
        self._socket.close()


def report(server) -> bytes:
    """Return what a client is sent, in a child of the server."""
    places = [(listening.family, listening.local_ip, listening.local_port) for listening in server.sockets]
    server.close_in_child()
    return status_wire.pack(describe(server, places))


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
        "limited": [
            {"client": client, "limit": name, "times": times, "idle_ms": idle_ns // 1_000_000}
            for client, name, times, idle_ns in server.mode.limited_clients()
        ],
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
