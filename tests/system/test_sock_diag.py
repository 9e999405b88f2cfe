"""What the kernel tells of connections on loopback.  Not here: IPv6 where the machine has none."""

import socket
import time

import pytest

from pyqmail.system import sock_diag
from tests.waiting import until


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request):
    """A connection on loopback: (our end, the client's, family, our port)."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        listener = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    client = socket.create_connection(listener.getsockname()[:2])
    ours = listener.accept()[0]
    yield ours, client, family, listener.getsockname()[1]
    for sock in (ours, client, listener):
        sock.close()


def measure(pair):
    ours, client, family, port = pair
    ip, other = client.getsockname()[:2]
    return sock_diag.connections(family, port).get((ip.encode(), other))


def test_bytes_are_those_of_our_end(pair):
    ours, client, _, _ = pair
    began = time.monotonic() - 1
    first = measure(pair)
    assert (first.state, first.received, first.sent) == ("established", 0, 0)
    client.sendall(b"x" * 70000)
    got = 0
    while got < 70000:
        got += len(ours.recv(65536))
    ours.sendall(b"hello")
    assert client.recv(10) == b"hello"
    until(lambda: measure(pair).sent == 5)
    assert measure(pair).received == 70000
    assert 0 <= measure(pair).idle_ms <= (time.monotonic() - began) * 1000


def test_only_our_port_is_told(pair):
    ours, client, family, port = pair
    ip, other = ours.getsockname()[0].encode(), client.getsockname()[1]
    assert list(sock_diag.connections(family, port)) == [(ip, other)]
    assert list(sock_diag.connections(family, other)) == [(ip, port)]


def test_an_end_is_a_state(pair):
    ours, client, _, _ = pair
    client.shutdown(socket.SHUT_WR)
    until(lambda: measure(pair).state == "close-wait")
    ours.close()
    until(lambda: measure(pair) is None)


def test_an_ipv4_client_of_an_ipv6_socket_has_its_dotted_address():
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0]:
            assert list(sock_diag.connections(socket.AF_INET6, port)) == [(b"127.0.0.1", client.getsockname()[1])]


def test_many_come_in_several_pieces():
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        port = listener.getsockname()[1]
        ends = []
        for _ in range(600):
            ends.append(socket.create_connection(("127.0.0.1", port)))
            ends.append(listener.accept()[0])
        found = sock_diag.connections(socket.AF_INET, port)
        assert sorted(other for _, other in found) == sorted(end.getsockname()[1] for end in ends[::2])
        for end in ends:
            end.close()


def test_nobody_is_no_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert sock_diag.connections(socket.AF_INET, listener.getsockname()[1]) == {}
