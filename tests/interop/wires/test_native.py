"""The native dialect with real spawners, from the page alone."""

import os
import socket

import pytest

from tests.interop.wires.spoken import (
    CLOSE,
    CLOSED,
    DELIVER,
    FAILED,
    MESSAGE,
    MORE,
    OPEN,
    READY,
    RECIPIENT,
    REFUSED,
    RESULT,
    SENDER,
    UNSENT,
    WAITING,
    content,
    frame,
    greeting,
    make_mailbox,
    native,
    put_message,
    strings,
    texts_of,
)

# local


def deliver(number, path, *pairs):
    texts = [text for delivery, recipient in pairs for text in (b"%d" % delivery, recipient)]
    return native(DELIVER, number, strings(path, SENDER, *texts))


def test_native_local(part, home):
    make_mailbox(home)
    spawner, path = part("pylspawn", "--native", "./Mailbox", home=home), put_message(home)
    assert greeting(spawner.out) > 1
    spawner.put(deliver(70_000, path, (70_000, RECIPIENT)) + deliver(3, b"x/46", (3, RECIPIENT)))
    results = {number: (kind, texts_of(body)) for kind, number, body in (spawner.out.native(), spawner.out.native())}
    assert results[70_000] == (RESULT, [b"70000", b"Kdid 1+0+0\n"])
    assert results[3] == (RESULT, [b"3", b"DInternal error: messid has nonnumerics. (#5.3.5)\n"])
    assert content(f"{home.alias}/box").endswith(MESSAGE + b"\n")
    assert spawner.end() == 0


def test_native_local_batch(part, home):
    """Maildirs alone: together is 1; a program: 0; each has its own result, and the batch's number."""
    batch, path = 0x8000_0005, put_message(home)
    for folder in ("tmp", "new", "cur"):
        os.makedirs(f"{home.alias}/dir/{folder}")
    for name, line in ((b"joe", b"./dir/\n"), (b"prog", b"|cat > seen\n")):
        with open(os.path.join(os.fsencode(home.alias), b".qmail-" + name), "wb") as file:
            file.write(line)
    spawner = part("pylspawn", "--native", "./Mailbox", home=home)
    assert greeting(spawner.out) > 1
    spawner.put(b"".join(deliver(batch, path, (slot, RECIPIENT)) for slot in range(20)))
    results = [spawner.out.native() for _ in range(20)]
    assert {(kind, number) for kind, number, _ in results} == {(RESULT, batch)}
    assert [texts_of(body) for *_, body in results] == [[b"%d" % n, b"Kdid 1+0+0\n", b"1"] for n in range(20)]
    assert len(os.listdir(f"{home.alias}/dir/new")) == 20
    spawner.put(deliver(batch, b"0/404", (1, RECIPIENT)) + deliver(batch, path, (2, b"prog@here.example")))
    kind, number, body = spawner.out.native()
    assert (kind, number, texts_of(body)) == (
        RESULT,
        batch,
        [b"1", b"Zqmail-spawn unable to open message. (#4.3.0)\n", b"0"],
    )
    kind, number, body = spawner.out.native()
    assert (kind, number, texts_of(body)) == (RESULT, batch, [b"2", b"Kdid 0+0+1\n", b"0"])
    assert content(f"{home.alias}/seen") == MESSAGE
    assert spawner.end() == 0


NONSENSE = [
    native(99, 1),
    frame(DELIVER, 1, strings(b"0/7", b"", b"1", b"a@x")),  # of version 1
    b"no frame of this wire",
    native(DELIVER, 1, b"unterminated"),
    native(DELIVER, 1, strings(b"1")),
]


@pytest.mark.parametrize("data", NONSENSE)
@pytest.mark.parametrize("name, words", [("pylspawn", ["./Mailbox"]), ("pyrspawn", [])])
def test_native_spawners_end_at_nonsense(part, home, name, words, data):
    spawner = part(name, "--native", *words, home=home)
    greeting(spawner.out)
    spawner.put(data)
    assert spawner.wait() == 111


# remote


def place(port, host=b"mx.example", hedge=0, flags=b"", source=b"", name=b""):
    """Return the body of OPEN and MORE; nothing takes longer than ten seconds."""
    return strings(source, name, host, b"127.0.0.1", b"%d" % port, b"10000", b"10000", b"10000", b"%d" % hedge, flags)


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


def failure(remote):
    """Return (kind, number, stage, code, host, address) of REFUSED or FAILED, whose report is a deferral."""
    kind, number, body = remote.out.native()
    *texts, report = texts_of(body)
    assert report.startswith(b"Z")
    return kind, number, *texts


def test_native_remote(remote, home, smtp_peer):
    path = put_message(home)
    remote.put(native(OPEN, 9, place(free_port(), b"gone.example")))
    assert failure(remote) == (FAILED, 9, b"connect", b"111", b"gone.example", b"127.0.0.1")
    remote.put(native(MORE, 9, place(smtp_peer.port)))
    assert remote.out.native() == (READY, 9, strings(b"mx.example", b"127.0.0.1", b"0", b"0", b""))
    remote.put(deliver(9, path, (1, b"a@there.example"), (70_000, b"b@there.example")))
    results = {}
    for _ in range(2):
        kind, number, body = remote.out.native()
        delivery, report, carried, accepted = texts_of(body)
        assert (kind, number, carried, accepted) == (RESULT, 9, b"0", b"0")
        results[delivery] = report[:1]
    assert results == {b"1": b"K", b"70000": b"K"}
    remote.put(native(CLOSE, 9))
    assert remote.out.native() == (CLOSED, 9, strings(b"", b"0", b"", b"1"))
    late = deliver(9, path, (2, b"a@there.example")) + native(MORE, 9, place(smtp_peer.port)) + native(CLOSE, 9)
    remote.put(late)  # all ignored: it is not there
    assert remote.end() == 0
    ((commands, data),) = smtp_peer.mails
    assert commands.count(b"RCPT TO:") == 2 and data.endswith(MESSAGE.replace(b"\n", b"\r\n"))


def test_native_remote_without_a_host(remote, smtp_peer):
    smtp_peer.scripts = [[(b"S", b"554 not today\r\n"), (b"C", b"QUIT\r\n")]]
    remote.put(native(OPEN, 1, place(smtp_peer.port)))
    assert failure(remote) == (REFUSED, 1, b"greeting", b"554", b"mx.example", b"127.0.0.1")
    remote.put(native(CLOSE, 1))
    assert remote.out.native() == (CLOSED, 1, strings(b"", b"0", b"", b"0"))
    remote.put(native(OPEN, 2, place(free_port(), source=b"192.0.2.1")))
    assert failure(remote) == (FAILED, 2, b"here", b"99", b"mx.example", b"127.0.0.1")
    remote.put(native(CLOSE, 2))
    assert remote.out.native()[:2] == (CLOSED, 2)
    assert remote.end() == 0


def test_native_remote_takes_the_first_that_greets(remote, smtp_peer):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote.put(native(OPEN, 1, place(silent.getsockname()[1], b"slow.example", hedge=10)))
        peer, _ = silent.accept()
        with peer:
            assert remote.out.native() == (WAITING, 1, b"")
            remote.put(native(MORE, 1, place(smtp_peer.port, flags=b"ep")))
            assert failure(remote) == (FAILED, 1, b"connect", b"125", b"slow.example", b"127.0.0.1")
            assert remote.out.native() == (READY, 1, strings(b"mx.example", b"127.0.0.1", b"0", b"0", b"hp"))
            assert peer.recv(100) == b""
    remote.put(native(CLOSE, 1))
    assert remote.out.native()[:2] == (CLOSED, 1)


def test_native_remote_gives_back_what_a_used_connection_did_not_take(remote, home, smtp_peer):
    path = put_message(home)
    smtp_peer.decide = lambda seen, line: b"452 enough\r\n" if seen.messages and line.startswith(b"MAIL") else None
    remote.put(native(OPEN, 1, place(smtp_peer.port)))
    assert remote.out.native()[:2] == (READY, 1)
    remote.put(deliver(1, path, (5, b"a@there.example")))
    assert remote.out.native()[:2] == (RESULT, 1)
    remote.put(deliver(1, path, (6, b"b@there.example")))
    assert remote.out.native() == (UNSENT, 1, strings(b"6"))
    kind, number, body = remote.out.native()
    stage, code, report, carried = texts_of(body)
    assert (kind, number, stage, code, carried) == (CLOSED, 1, b"sender", b"452", b"1") and report[:1] == b"Z"
    assert remote.end() == 0
