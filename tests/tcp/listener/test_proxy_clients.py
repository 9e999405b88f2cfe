"""Proxies and their headers: real sockets and a real loop; only the server is a list of what it gets back."""

import contextlib
import gc
import resource
import socket
import struct

import pytest

from pyqmail.system.listener import listen
from pyqmail.system.loop import Loop
from pyqmail.tcp.access.connection import TCP, TCP6, UNIX, Connection
from pyqmail.tcp.listener.listening_socket import ListeningSocket
from pyqmail.tcp.listener.proxy_clients import ProxyClients, listed
from tests.waiting import turn_until, until

LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 25\r\n"
BLOCK = b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack(
    ">H16s16sHH", 36, *(socket.inet_pton(socket.AF_INET6, ip) for ip in ("2001:db8::7", "2001:db8::1")), 1, 2
)
MAPPED = b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 49152 25\r\n"


class Reports:
    """What the server gets back."""

    def __init__(self):
        self.received, self.refused = [], []

    def header_received(self, sock, client):
        self.received.append((sock, client))

    def header_refused(self, sock, client, why):
        sock.close()
        self.refused.append((client, why))


class Place:
    """A listening socket, its loop, and the proxies that connect to it."""

    def __init__(self, words, patience_seconds=30.0):
        self.loop, self.reports = Loop(), Reports()
        self.listening = ListeningSocket(listen("127.0.0.1", 0, 2000))
        self.proxies = ProxyClients(self.loop, listed(words), patience_seconds)
        self.clients = []

    def connect(self):
        """Return (the client's socket, the Connection accepted, whether it must send a header)."""
        self.clients.append(socket.create_connection(("127.0.0.1", int(self.listening.local_port)), 10))
        self.listening.sock.settimeout(10)
        sock, client = self.listening.accept()
        self.accepted = sock
        return self.clients[-1], client, self.proxies.hold_if_proxy(sock, client, self.reports)

    def watched(self):
        return len(self.loop._watched)

    def close(self):
        for sock in (*self.clients, *(sock for sock, _ in self.reports.received)):
            sock.close()
        self.proxies.close_in_child()
        self.listening.close()


@pytest.fixture
def place():
    made = []

    def make(*arguments):
        made.append(Place(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("size", [1, 7, 10000])
@pytest.mark.parametrize("header, texts", [
    (LINE,   (TCP, b"192.0.2.7", b"49152", b"198.51.100.1", b"25")),
    (MAPPED, (TCP, b"192.0.2.7", b"49152", b"198.51.100.1", b"25")),
    (BLOCK,  (TCP6, b"2001:db8::7", b"1", b"2001:db8::1", b"2")),
])  # fmt: skip
def test_the_client_is_the_one_named_and_what_follows_stays(place, header, texts, size):
    here = place("192.0.2.1,127.0.0.0/8")
    sock, proxy, has_to = here.connect()
    assert has_to
    proxy.since = 7.0
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = header + b"EHLO x\r\n"
    for at in range(0, len(data), size):
        sock.sendall(data[at : at + size])
        here.loop.turn(0.001)
    turn_until(here.loop, lambda: here.reports.received)
    ((taken, client),) = here.reports.received
    assert (client.protocol, client.ip, client.port, client.local_ip, client.local_port) == texts
    assert client.since == 7.0
    assert taken.gettimeout() is None and taken.recv(100) == b"EHLO x\r\n"
    assert here.watched() == 0
    here.loop.turn(0)
    assert not here.reports.refused


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"])
def test_a_proxy_may_speak_for_itself(place, header):
    here = place("127.0.0.1")
    sock, proxy, _ = here.connect()
    sock.sendall(header)
    turn_until(here.loop, lambda: here.reports.received)
    assert here.reports.received[0][1] is proxy


def test_of_others_nothing_is_read(place):
    here = place("192.0.2.0/24,::1,unix")
    sock, _, has_to = here.connect()
    assert not has_to and here.watched() == 0
    sock.sendall(LINE)
    assert here.accepted.recv(1000) == LINE
    here.accepted.close()


@pytest.mark.parametrize("data, ends_how, why", [
    (b"EHLO x\r\n",  None,       "protocol error"),
    (LINE[:-2],      "shut",     "end of file"),
    (b"",            "shut",     "end of file"),
    (LINE[:9],       "reset",    "connection reset"),
    (b"",            None,       "timed out"),
    (BLOCK[:-1],     None,       "timed out"),
])  # fmt: skip
def test_who_does_not_introduce_itself_is_refused(place, data, ends_how, why):
    here = place("127.0.0.1", 0.05 if why == "timed out" else 30.0)
    sock, proxy, _ = here.connect()
    sock.sendall(data)
    if ends_how == "shut":
        sock.shutdown(socket.SHUT_WR)
    elif ends_how == "reset":
        here.loop.turn(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    turn_until(here.loop, lambda: here.reports.refused)
    assert here.reports.refused == [(proxy, f"unable to read PROXY header: {why}")]
    assert (here.reports.received, here.watched()) == ([], 0)


def test_a_header_that_trickles_is_late_all_the_same(place):
    here = place("127.0.0.1", 0.1)
    sock, _, _ = here.connect()
    data = bytearray(b"PROXY UNKNOWN " + b"x" * 90)

    def trickle(seconds):
        with contextlib.suppress(OSError):
            sock.sendall(bytes([data.pop(0)]))
        for _ in range(2):  # one that reads, one that waits
            here.loop.turn(0.02)

    until(lambda: here.reports.refused, wait=trickle)
    assert "timed out" in here.reports.refused[0][1]


def test_hundreds_at_once_wait_for_nobody(place):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    here = place("127.0.0.1")
    silent = [here.connect()[0] for _ in range(500)]
    quick = [here.connect()[0] for _ in range(500)]
    for number, sock in enumerate(quick):
        sock.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 %d 25\r\n" % number)
    turn_until(here.loop, lambda: len(here.reports.received) == 500)
    assert {int(client.port) for _, client in here.reports.received} == set(range(500))
    assert here.watched() == 500
    here.proxies.close_in_child()
    assert {sock.recv(1) for sock in silent} == {b""}
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nothing_is_left_of_who_has_said_it():
    here = Place("127.0.0.1", 0.05)
    gc.collect()
    gc.disable()
    try:
        for header in (LINE, b"EHLO", b""):
            here.connect()[0].sendall(header)
        turn_until(here.loop, lambda: len(here.reports.received) + len(here.reports.refused) == 3)
        here.loop.turn(0.1)
        assert not [one for one in gc.get_objects() if type(one).__name__ == "_Waiting"]
    finally:
        gc.enable()
        here.close()


def test_who_is_listed():
    clients = {
        "10.1.2.3": Connection(TCP, b"10.1.2.3", b"1", b"", b"2"),
        "2001:db8::7": Connection(TCP6, b"2001:db8::7", b"1", b"", b"2"),
        "unix": Connection(UNIX, b"unix", b"", b"/s", b"", credentials=b"1 2 3"),
    }
    for words, names in {
        "10.0.0.0/8": ["10.1.2.3"],
        "10.1.2.3,unix": ["10.1.2.3", "unix"],
        "::ffff:10.1.2.3": ["10.1.2.3"],
        "2001:db8::/32": ["2001:db8::7"],
        "0.0.0.0/0,::/0": ["10.1.2.3", "2001:db8::7"],
        "10.1.2.4,2001:db8::8": [],
    }.items():
        is_listed = listed(words)
        assert [name for name, client in clients.items() if is_listed(client)] == names
    for words in ("", "x", "10.0.0.1/8", "10.0.0.1,", "10.0.0.1 ,unix", "1.2.3"):
        with pytest.raises(ValueError, match="not addresses and networks: "):
            listed(words)
