"""The native dialect with real spawners, from the page alone."""

import socket

import pytest

from tests.interop.wires.spoken import (
    CLOSE,
    CLOSED,
    DELIVER,
    FAILED,
    MESSAGE,
    OPEN,
    READY,
    RECIPIENT,
    REFUSED,
    RESULT,
    SENDER,
    TRYING,
    UNSENT,
    content,
    frame,
    greeting,
    make_mailbox,
    put_message,
    strings,
    texts_of,
)

# local


def deliver(number, path, *pairs):
    texts = [text for delivery, recipient in pairs for text in (b"%d" % delivery, recipient)]
    return frame(DELIVER, number, strings(path, SENDER, *texts))


def test_native_local(part, home):
    make_mailbox(home)
    spawner, path = part("pylspawn", "--native", "./Mailbox", home=home), put_message(home)
    assert greeting(spawner.out) > 1
    spawner.put(deliver(70_000, path, (70_000, RECIPIENT)) + deliver(3, b"x/46", (3, RECIPIENT)))
    results = {number: (kind, texts_of(body)) for kind, number, body in (spawner.out.frame(), spawner.out.frame())}
    assert results[70_000] == (RESULT, [b"70000", b"Kdid 1+0+0\n"])
    assert results[3] == (RESULT, [b"3", b"DInternal error: messid has nonnumerics. (#5.3.5)\n"])
    assert content(f"{home.alias}/box").endswith(MESSAGE + b"\n")
    assert spawner.end() == 0


NONSENSE = [
    frame(99, 1),
    b"no frame of this wire",
    frame(DELIVER, 1, b"unterminated"),
    frame(DELIVER, 1, strings(b"1")),
]


@pytest.mark.parametrize("data", NONSENSE)
@pytest.mark.parametrize("name, words", [("pylspawn", ["./Mailbox"]), ("pyrspawn", [])])
def test_native_spawners_end_at_nonsense(part, home, name, words, data):
    spawner = part(name, "--native", *words, home=home)
    greeting(spawner.out)
    spawner.put(data)
    assert spawner.wait() == 111


# remote


def open_session(session, *candidates):
    texts = [text for host, port in candidates for text in (host, b"127.0.0.1", b"%d" % port)]
    return frame(OPEN, session, strings(b"there.example", b"", *texts))


@pytest.fixture
def remote(part, home):
    """A greeted pyrspawn --native."""
    spawner = part("pyrspawn", "--native", home=home)
    assert greeting(spawner.out) > 1
    return spawner


def free_port():
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_native_remote(remote, home, smtp_peer):
    path = put_message(home)
    remote.put(open_session(9, (b"gone.example", free_port()), (b"mx.example", smtp_peer.port)))
    assert remote.out.frame() == (READY, 9, strings(b"mx.example", b"127.0.0.1"))
    remote.put(deliver(9, path, (1, b"a@there.example"), (70_000, b"b@there.example")))
    results = {}
    for _ in range(2):
        kind, number, body = remote.out.frame()
        delivery, report = texts_of(body)
        assert (kind, number) == (RESULT, 9)
        results[delivery] = report[:1]
    assert results == {b"1": b"K", b"70000": b"K"}
    remote.put(frame(CLOSE, 9))
    assert remote.out.frame() == (CLOSED, 9, strings(b"mx.example", b"127.0.0.1"))
    remote.put(deliver(9, path, (2, b"a@there.example")) + frame(CLOSE, 9))  # both ignored: it is not there
    assert remote.end() == 0
    ((commands, data),) = smtp_peer.mails
    assert commands.count(b"RCPT TO:") == 2 and data.endswith(MESSAGE.replace(b"\n", b"\r\n"))


def test_native_remote_without_a_host(remote, smtp_peer):
    smtp_peer.scripts = [[(b"S", b"554 not today\r\n"), (b"C", b"QUIT\r\n")]]
    remote.put(open_session(1, (b"mx.example", smtp_peer.port)))
    kind, number, body = remote.out.frame()
    *texts, report = texts_of(body)
    assert (kind, number, texts) == (REFUSED, 1, [b"greeting", b"554", b"mx.example", b"127.0.0.1"])
    assert report.startswith(b"Z")
    assert remote.out.frame() == (CLOSED, 1, strings(b"mx.example", b"127.0.0.1"))
    remote.put(open_session(2, (b"gone.example", free_port())))
    kind, number, body = remote.out.frame()
    *texts, report = texts_of(body)
    assert (kind, number, texts) == (FAILED, 2, [b"connect", b"111", b"gone.example", b"127.0.0.1"])
    assert report.startswith(b"Z")
    assert remote.out.frame()[:2] == (CLOSED, 2)
    assert remote.end() == 0


def test_native_remote_tells_whom_it_tries(remote):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote.put(open_session(1, (b"gone.example", free_port()), (b"mx.example", silent.getsockname()[1])))
        peer, _ = silent.accept()
        assert remote.out.frame() == (TRYING, 1, strings(b"mx.example", b"127.0.0.1"))
        peer.close()
    kind, number, body = remote.out.frame()
    assert (kind, number) == (FAILED, 1)
    assert texts_of(body)[:4] == [b"connect", b"111", b"gone.example", b"127.0.0.1"]  # the first trouble counts
    assert remote.out.frame()[:2] == (CLOSED, 1)


def test_native_remote_gives_back_what_a_used_connection_did_not_take(remote, home, smtp_peer):
    path = put_message(home)
    smtp_peer.decide = lambda seen, line: b"" if seen.messages and line.startswith(b"MAIL") else None
    remote.put(open_session(1, (b"mx.example", smtp_peer.port)))
    assert remote.out.frame()[:2] == (READY, 1)
    remote.put(deliver(1, path, (5, b"a@there.example")))
    assert remote.out.frame()[:2] == (RESULT, 1)
    remote.put(deliver(1, path, (6, b"b@there.example")))
    assert remote.out.frame() == (UNSENT, 1, strings(b"6"))
    assert remote.out.frame()[:2] == (CLOSED, 1)
    assert remote.end() == 0
