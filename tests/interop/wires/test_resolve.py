"""The resolve wire, and the process that starts resolvers, from the page alone.  Untested: UNABLE."""

import os
import socket

import pytest

from tests.interop.wires.spoken import (
    ADDRESSES,
    ADDRESSES4,
    ADDRESSES6,
    EXCHANGERS,
    FOUND,
    HOSTS,
    HOSTS_FOUND,
    NAME,
    NO_HOST,
    NO_MAIL,
    NO_RECORD,
    RELAY,
    SECONDS,
    SOFT,
    TEXT,
    Stream,
    frame,
    receive_with,
    strings,
    texts_of,
)

MX, A, AAAA, PTR, TXT = 15, 1, 28, 12, 16


def questions(name_server):
    """Return {question: (kind, strings of the answer)}."""
    name_server.zone |= {
        (b"d.example", MX): [b"\0\x0a" + name_server.name(b"mx.example")],
        (b"mx.example", A): [socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")],
        (b"mx.example", AAAA): [socket.inet_pton(socket.AF_INET6, "2001:db8::1")],
        (b"six.example", AAAA): [socket.inet_pton(socket.AF_INET6, "2001:db8::2")],
        (b"dead.example", MX): [b"\0\x0a" + name_server.name(b"gone.example")],
        (b"1.2.0.192.in-addr.arpa", PTR): [name_server.name(b"mx.example")],
        (b"t.example", TXT): [b"\2ab\1c"],
        (b"null.example", MX): [b"\0\0\0"],
        b"ill.example": "servfail",
    }
    mx = [b"10", b"mx.example", b"192.0.2.1", b"10", b"mx.example", b"192.0.2.2"]
    return {
        (EXCHANGERS, b"d.example"): (FOUND, mx),
        (EXCHANGERS, b"mx.example"): (FOUND, [b"0", *mx[1:3], b"0", *mx[4:]]),
        (EXCHANGERS, b"dead.example"): (NO_RECORD, []),
        (EXCHANGERS, b"gone.example"): (NO_HOST, []),
        (ADDRESSES, b"mx.example"): (FOUND, [b"192.0.2.1", b"192.0.2.2"]),
        (ADDRESSES, b"six.example"): (FOUND, [b"2001:db8::2"]),
        (ADDRESSES6, b"mx.example"): (FOUND, [b"2001:db8::1"]),
        (ADDRESSES4, b"six.example"): (NO_RECORD, []),
        (NAME, b"192.0.2.1"): (FOUND, [b"mx.example"]),
        (NAME, b"192.0.2.2"): (FOUND, []),
        (TEXT, b"t.example"): (FOUND, [b"abc"]),
        (HOSTS, b"d.example"): (HOSTS_FOUND, [b"SECONDS", b"0", *mx]),
        (HOSTS, b"dead.example"): (NO_RECORD, []),
        (HOSTS, b"null.example"): (NO_MAIL, []),
        (EXCHANGERS, b"null.example"): (NO_RECORD, []),
        (RELAY, b"six.example"): (HOSTS_FOUND, [b"SECONDS", b"0", b"0", b"six.example", b"2001:db8::2"]),
        (RELAY, b"gone.example"): (NO_HOST, []),
    }


def test_resolve(part, name_server):
    wanted = questions(name_server)
    resolver = part("pyresolve", env={"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"})
    numbers = {0xFFFF0000 + at: question for at, question in enumerate(wanted)}
    resolver.put(b"".join(frame(kind, number, strings(name)) for number, (kind, name) in numbers.items()))
    resolver.put(frame(EXCHANGERS, 1, strings(b"ill.example")))
    answers = [resolver.out.frame() for _ in range(len(wanted) + 1)]
    ((kind, body),) = [(kind, body) for kind, number, body in answers if number == 1]
    assert kind == SOFT and len(texts_of(body)) == 1
    found = {numbers[number]: (kind, texts_of(body)) for kind, number, body in answers if number != 1}
    for kind, texts in found.values():
        if kind == HOSTS_FOUND:
            assert name_server.ttl - SECONDS <= int(texts[0]) <= name_server.ttl
            texts[0] = b"SECONDS"
    assert found == wanted
    assert resolver.end() == 0


@pytest.mark.parametrize(
    "data", [frame(9, 1, strings(b"d.example")), frame(NAME, 1), frame(NAME, 1, b"x"), b"nonsense!!"]
)
def test_resolve_ends_at_nonsense(part, data):
    resolver = part("pyresolve")
    resolver.put(data)
    assert resolver.wait() == 111


def test_a_resolver_that_is_started_again(wire_end, name_server):
    """The first one finds no questions; then one is killed by us."""
    wanted = questions(name_server)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = wire_end(theirs, 0, "starter", env={"PYQMAIL_DNS": f"127.0.0.1:{name_server.port}"})
    with ours:
        ours.settimeout(SECONDS)
        ended = [int(word) for word in ours.recv(100).split()]
        assert ended[:2] == [0, 0] and os.waitstatus_to_exitcode(ended[2]) == 0 and ended[3] == 1
        packet, (write_end, read_end) = receive_with(ours)
        assert packet == b"0 1"
        os.write(write_end, frame(TEXT, 1, strings(b"t.example")))
        stream = Stream(read_end)
        kind, number, body = stream.frame()
        assert (number, (kind, texts_of(body))) == (1, wanted[TEXT, b"t.example"])
        ours.send(b"0 0")  # gone long ago
        ours.send(b"0 1")
        assert stream.is_at_end()
        assert [int(word) for word in ours.recv(100).split()] == [0, 1, 9, 2]
        os.close(write_end)
        os.close(read_end)
    assert process.wait(SECONDS) == 0
