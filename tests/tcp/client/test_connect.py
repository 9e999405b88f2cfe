"""From host words to addresses, and from addresses to a connection, with real sockets and a small name server.

Untested: the second pass after 2 and 58 seconds; shorter ones are, here and beside the original.
"""

import contextlib
import fcntl
import os
import socket

import pytest

from pyqmail.base.failure import Temporary
from pyqmail.tcp.client.connect import connect, find_addresses

QUICK = (0.1,)
A, CNAME, AAAA, TXT = 1, 5, 28, 16
LOCAL = socket.inet_aton("127.0.0.1")
LOCAL6 = bytes(15) + b"\1"


@pytest.fixture
def find(name_server):
    """find(host, **more): find_addresses with the name server's environment, and no rules but those given."""

    def ask(host, *arguments, rules=None, waits=QUICK, **more):
        environ = {**name_server.environ(), b"DNSREWRITEFILE": b"/dev/null", **(rules or {})}
        return find_addresses(host, *arguments, environ=environ, waits=waits, **more)

    return ask


LITERALS = [
    ("", ["127.0.0.1"]),
    ("0", ["127.0.0.1"]),
    ("1.2.3.4", ["1.2.3.4"]),
    ("[1.2.3.260]", ["1.2.3.4"]),
    ("1.2.3.4.5.6.7.8", ["1.2.3.4", "5.6.7.8"]),
    ("::1", ["::1"]),
    ("[2001:DB8:0::1]", ["2001:db8::1"]),
]


@pytest.mark.parametrize("host, addresses", LITERALS)
def test_addresses_are_taken_as_they_are(find, name_server, host, addresses):
    assert find(host) == addresses
    assert not name_server.asked


def test_nothing_means_what_the_caller_says(find):
    assert find("0", "::1") == find("", "::1") == ["::1"]


def test_of_a_name_the_first_kind_counts(find, name_server):
    name_server.zone |= {
        (b"both.test", A): [LOCAL],
        (b"both.test", AAAA): [LOCAL6],
        (b"six.test", AAAA): [LOCAL6],
    }
    assert find("both.test") == ["127.0.0.1"]
    assert find("both.test", kinds=("AAAA", "A")) == ["::1"]
    assert find("six.test") == ["::1"]
    with pytest.raises(Temporary, match=r"^no IP address for six\.test$"):
        find("six.test", kinds=("A",))


@pytest.mark.parametrize("host, kinds", [("::1", ("A",)), ("127.0.0.1", ("AAAA",)), ("127.1", ("A",))])
def test_an_address_of_another_kind_is_none(find, name_server, host, kinds):
    with pytest.raises(Temporary, match="^no IP address for "):
        find(host, kinds=kinds)
    assert not name_server.asked


def test_alternatives_are_tried_until_one_has_addresses(find, name_server):
    name_server.zone[b"h.b", A] = [LOCAL]
    assert find("h", rules={b"DNSREWRITEFILE": b"/nowhere", b"LOCALDOMAIN": b"a b c"}) == ["127.0.0.1"]
    assert [name for name, kind in name_server.asked if kind == A] == [b"h.a", b"h.b"]


def test_addresses_of_a_name_are_shuffled(find, name_server):
    addresses = [f"127.0.0.{number}" for number in range(1, 7)]
    name_server.zone[b"many.test", A] = [socket.inet_aton(address) for address in addresses]
    found = [find("many.test") for _ in range(12)]
    assert all(sorted(one) == addresses for one in found)
    assert len(set(map(tuple, found))) > 1


TROUBLES = [
    ("servfail", "temporarily unable to figure out IP address for h.test: temporary failure"),
    ("silent", "temporarily unable to figure out IP address for h.test: timed out"),
    ("malformed", "temporarily unable to figure out IP address for h.test: timed out"),
    ([], "no IP address for h.test"),
    ([(TXT, b"\1x")], "no IP address for h.test"),
    ([(CNAME, b"\xc0\x0c")], "no IP address for h.test"),
    ([(CNAME, b"\1a\xc0\x0c"), (CNAME, b"\1b\xc0\x0c")], "no IP address for h.test"),
    ([b"\1\2\3"], "temporarily unable to figure out IP address for h.test: timed out"),
]


@pytest.mark.parametrize("answer, line", TROUBLES)
def test_bad_answers_are_one_line(find, name_server, answer, line):
    name_server.zone[b"h.test"] = answer
    with pytest.raises(Temporary) as failure:
        find("h.test")
    assert str(failure.value) == line
    assert failure.value.code == 111


def test_a_huge_answer_is_taken(find, name_server):
    name_server.zone |= {
        b"huge.test": "cut",
        (b"huge.test", A): [(0x7F000000 + number).to_bytes(4, "big") for number in range(1, 3001)],
    }
    assert len(set(find("huge.test", waits=(10,)))) == 3000


@pytest.mark.parametrize("host", ["a" * 64, ".".join(["a" * 50] * 6)])
def test_what_is_no_name_is_a_protocol_error(find, host):
    with pytest.raises(Temporary, match=f"^temporarily unable to figure out IP address for {host}: protocol error$"):
        find(host)


def test_rules_that_cannot_be_read_are_an_error(find, tmp_path):
    with pytest.raises(Temporary, match="^temporarily unable to figure out IP address for h: is a directory$"):
        find("h", rules={b"DNSREWRITEFILE": bytes(tmp_path)})


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def port(listener):
    return listener.getsockname()[1]


@pytest.fixture
def silent(port):
    """An address that never answers on port: the kernel's queue is full."""
    with contextlib.ExitStack() as opened:
        full = opened.enter_context(socket.create_server(("127.0.0.82", port), backlog=0))
        for _ in range(3):
            sock = opened.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        yield "127.0.0.82"


def test_the_connection_is_blocking_and_not_for_children(listener, port):
    with contextlib.closing(connect(["127.0.0.1"], port)) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)
        assert sock.gettimeout() is None
        assert not fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK
        assert not os.get_inheritable(sock.fileno())


def test_each_failure_is_told_and_the_next_address_tried(listener, port):
    said = []
    with contextlib.closing(
        connect(["127.0.0.2", "127.0.0.3", "127.0.0.1", "127.0.0.4"], port, say=said.append)
    ) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"
    assert said == [
        f"tcpclient: unable to connect to {ip} port {port}: connection refused" for ip in ("127.0.0.2", "127.0.0.3")
    ]


def test_no_address_is_no_connection(port):
    said = []
    assert connect(["127.0.0.2"], port, say=said.append) is None
    assert len(said) == 1


def test_who_is_silent_is_tried_again_after_all_others(silent, port):
    said = []
    assert connect([silent, "127.0.0.2"], port, (0, 0.05), say=said.append) is None
    ends = [line.split("connect to ")[1] for line in said]
    assert ends == [f"127.0.0.2 port {port}: connection refused", f"{silent} port {port}: timed out"]


@pytest.mark.parametrize("waits", [(0.05, 0), (0, 0.05)])
def test_a_single_address_has_all_the_time_at_once(silent, port, waits):
    said = []
    assert connect([silent], port, waits, say=said.append) is None
    assert said == [f"tcpclient: unable to connect to {silent} port {port}: timed out"]


def test_our_end_may_be_chosen(listener, port):
    with socket.create_server(("127.0.0.7", 0)) as reserved:
        free = reserved.getsockname()[1]
    with contextlib.closing(connect(["127.0.0.1"], port, local="127.0.0.7", local_port=free)) as sock:
        assert sock.getsockname() == ("127.0.0.7", free)


@pytest.mark.parametrize("local, why", [("10.9.8.7", "address not available"), ("::1", "address family not supported")])
def test_our_end_must_be_ours(port, local, why):
    with pytest.raises(Temporary, match=f"^unable to bind socket: {why}$"):
        connect(["127.0.0.1"], port, local=local)


def test_no_descriptor_left(port):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        with pytest.raises(Temporary, match="^unable to create socket: process cannot open more files$"):
            connect(["127.0.0.1"], port)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
