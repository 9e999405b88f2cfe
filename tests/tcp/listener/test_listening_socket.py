"""Whom a listening socket hears, as a Connection says it."""

import os
import socket

import pytest

from pyqmail.system.listener import listen, listen_at
from pyqmail.tcp.access.connection import TCP, TCP6, UNIX, Connection, plain
from pyqmail.tcp.listener.listening_socket import ListeningSocket

PLACES = [
    # listens on        is dual   client from    connects to      protocol  ip             local_ip
    ("127.0.0.1",       False,    "127.0.0.3",   "127.0.0.1",     TCP,      b"127.0.0.3",  b"127.0.0.1"),
    ("0.0.0.0",         False,    "127.0.0.3",   "127.0.0.9",     TCP,      b"127.0.0.3",  b""),
    ("::1",             False,    "::1",         "::1",           TCP6,     b"::1",        b"::1"),
    ("::",              False,    "::1",         "::1",           TCP6,     b"::1",        b""),
    ("::",              True,     "::1",         "::1",           TCP6,     b"::1",        b""),
    ("::",              True,     "127.0.0.3",   "127.0.0.9",     TCP,      b"127.0.0.3",  b""),
]  # fmt: skip


def ready(listening):
    listening.sock.settimeout(10)
    sock, client = listening.accept()
    sock.close()
    return client


@pytest.mark.parametrize("place, is_dual, source, target, protocol, ip, local_ip", PLACES)
def test_clients_over_tcp(place, is_dual, source, target, protocol, ip, local_ip):
    listening = ListeningSocket(listen(place, 0, 5, is_dual))
    with pytest.raises(BlockingIOError):
        listening.accept()
    with socket.create_connection((target, int(listening.local_port)), 10, (source, 0)) as sock:
        client = ready(listening)
        port = b"%d" % sock.getsockname()[1]
    listening.close()
    assert (client.protocol, client.ip, client.port) == (protocol, ip, port)
    assert (client.local_ip, client.local_port) == (local_ip, listening.local_port)
    assert (client.interface, client.credentials, client.uid) == (b"", b"", None)


def test_ipv4_clients_are_not_heard_without_is_dual():
    listening = ListeningSocket(listen("::", 0, 5))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(listening.local_port)), 10)
    listening.close()


def test_a_link_local_client_has_its_interface():
    with open("/proc/net/if_inet6", encoding="ascii") as file:
        entries = [line.split() for line in file if line.startswith("fe80")]
    if not entries:
        pytest.skip("no link-local address here")
    ip, scope, name = (
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(entries[0][0])),
        int(entries[0][1], 16),
        entries[0][5],
    )
    listening = ListeningSocket(listen(ip, 0, 5, scope=scope))
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(10)
        sock.connect((ip, int(listening.local_port), 0, scope))
        client = ready(listening)
    listening.close()
    assert (client.ip, client.local_ip, client.interface) == (ip.encode(), ip.encode(), name.encode())


def test_clients_of_a_unix_socket(tmp_path):
    path = str(tmp_path / "s")
    listening = ListeningSocket(listen_at(path, 5), is_made=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        client = ready(listening)
    assert (client.protocol, client.ip, client.port) == (UNIX, b"unix", b"")
    assert (client.local_ip, client.local_port) == (path.encode(), b"")
    assert client.credentials == b"%d %d %d" % (os.getpid(), os.getuid(), os.getgid())
    assert client.uid == b"%d" % os.getuid()
    listening.close_and_unlink()
    assert os.listdir(tmp_path) == []


def test_a_connection_comes_back_from_its_texts():
    for client in (
        Connection(TCP, b"192.0.2.1", b"1", b"", b"25", counts=(1, 2, 3)),
        Connection(TCP6, b"fe80::1", b"1", b"fe80::2", b"25", b"eth0"),
        Connection(UNIX, b"unix", b"", b"/s", b"", credentials=b"1 2 3"),
    ):
        again = Connection.from_texts(client.texts())
        assert again.texts() == client.texts() and again.counts == client.counts and again.uid == client.uid


def test_addresses_are_shown_plainly():
    shown = {"::ffff:192.0.2.1": "192.0.2.1", "fe80::1%eth0": "fe80::1", "::1": "::1", "::ffff:0:1": "::ffff:0:1"}
    assert {ip: plain(ip) for ip in shown} == shown
