"""pysmtpsource and pyqmqpsource against servers that say too much, too early, nonsense, or vanish at any step."""

import json
import socket
import struct
import threading

import pytest

LARGE = 8_000_000  # more than the kernel buffers of a connection
REPLIES = [b"220 x\r\n", *[b"250 x\r\n"] * 3, b"354 x\r\n", b"250 x\r\n"]  # of a session without PIPELINING


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def up_to(client, count):
    """Give so many replies, each when the client has spoken."""
    for number, reply in enumerate(REPLIES[:count]):
        if number:
            client.recv(65536)
        client.sendall(reply)


@pytest.fixture
def source(run):
    """source(session, *options) -> (exit code, report); session(client) is the server, for each connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(session):
        while True:
            try:
                client = listening.accept()[0]
            except OSError:
                return
            with client:
                try:
                    session(client)
                except OSError:
                    pass  # the client has gone

    def start(session, *options, program="pysmtpsource"):
        thread = threading.Thread(target=serve, args=(session,))
        thread.start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        code, out, err = run(program, "--json", "-A", "-m", "2", *options, address)
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        assert err == b""
        return code, json.loads(out)

    yield start
    listening.close()


@pytest.mark.parametrize("said, what, counted", [
    (b"220 x\r\n421 y\r\n", "failed", {"connection closed": 2}),  # the connection is no better than what came behind
    (b"421 x\r\n421 y\r\n", "refused", {"CONNECT 421": 2}),
    (b"100 continue\r\n", "refused", {"CONNECT 100": 2}),
    (b"\0" * 100 + b"\r\n", "failed", {"no reply": 2}),
    (b"220-x\r\n" * 20_000, "failed", {"reply too long": 2}),
    (b"\n", "failed", {"no reply": 2}),
    (b"22", "failed", {"connection closed": 2}),
])  # fmt: skip
def test_what_it_greets_with(source, said, what, counted):
    def session(client):
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass

    code, report = source(session)
    assert (code, report["messages"], report[what]) == (1, 0, counted)


@pytest.mark.parametrize("count", range(len(REPLIES)))
@pytest.mark.parametrize("options", [[], ["-d"]])
def test_a_reset_at_each_step(source, count, options):
    def session(client):
        up_to(client, count)
        if count:
            client.recv(1)
        reset(client)

    code, report = source(session, "-l", str(LARGE), *options)
    assert (code, report["messages"], sum(report["failed"].values())) == (1, 0, 2)


def read_to_the_end(client):
    last = b""
    while data := client.recv(1 << 20):
        last = (last + data)[-16:]
        if b"\r\n.\r\n" in last:  # QUIT may stand behind it
            return


def test_a_reply_that_comes_before_the_content_has_gone_out(source):
    def session(client):
        up_to(client, 5)
        client.recv(1)
        client.sendall(b"552 too large\r\n")
        read_to_the_end(client)

    code, report = source(session, "-l", str(LARGE), "--timeout", "60")
    assert (code, report["failed"], report["refused"]) == (1, {}, {". 552": 2})


def test_a_session_that_was_refused_more_than_it_asked_is_not_used_again(source):
    def session(client):
        client.sendall(b"220 x\r\n")
        client.recv(100)
        client.sendall(b"250 x\r\n")
        client.recv(100)
        client.sendall(b"550 x\r\n421 too many errors\r\n")
        client.recv(100)

    code, report = source(session, "-d")
    assert (code, report["failed"], report["refused"], report["sessions"]) == (1, {}, {"MAIL 550": 2}, 2)


@pytest.mark.parametrize("said", [b"421 timeout\r\n", b""])
def test_a_server_that_ends_a_session_between_two_messages_costs_none(source, said):
    def session(client):
        up_to(client, 4)
        client.recv(100)
        client.sendall(b"354 x\r\n")
        read_to_the_end(client)
        client.sendall(b"250 x\r\n")
        client.sendall(said)

    code, report = source(session, "-d", "-w", "0.2")
    assert (code, report["messages"], report["sessions"], report["failed"]) == (0, 2, 2, {})


@pytest.mark.parametrize("said", [b":", b"9" * 5000 + b":", b"-1:", b"0:,", b"\0" * 10, b"2:Kx;"])
def test_a_qmqp_server_whose_reply_is_none(source, said):
    def session(client):
        client.recv(65536)
        client.sendall(said)
        client.recv(1)

    code, report = source(session, program="pyqmqpsource")
    assert (code, report["messages"], report["failed"]) == (1, 0, {"no reply": 2})
