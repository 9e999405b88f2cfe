"""The hand-over to a worker of pytcpserver, from the page alone."""

import socket
import struct

import pytest

from tests.interop.wires.spoken import SECONDS, Stream, frame, send_with, strings

CONNECTION, RESOLVER, PING, TAKEN, END, PONG, ENDED, LIMITS, STARTED, ASK, ANSWER, ABOVE = range(1, 13)


@pytest.fixture
def worker(home, wire_end):
    """(our end of the stream to a worker of pytcpserver that serves pysmtpd, its process)."""
    ours, theirs = socket.socketpair()
    process = wire_end(theirs, 0, "worker", env={"PYQMAIL_HOME": home.path})
    yield ours, process
    ours.close()


def pair():
    """Return (client's end, server's end) of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


def connection(session, *counts):
    texts = b"TCP", b"192.0.2.7", b"4711", b"192.0.2.1", b"25", b"", b"", b" ".join(counts)
    return frame(CONNECTION, session, strings(*texts))


def frames_of(stream, count):
    return sorted(stream.frame() for _ in range(count))


def test_hand_over(worker):
    ours, process = worker
    stream = Stream(ours.fileno())
    ours.sendall(frame(PING, 5))
    assert stream.frame() == (PONG, 5, b"")
    client, server = pair()
    other, other_server = pair()
    send_with(ours, connection(70_001) + connection(70_002), server.fileno(), other_server.fileno())
    server.close()
    other_server.close()
    assert stream.frame() == (TAKEN, 2, b"")
    for one in (client, other):
        said = Stream(one.fileno())
        assert said.read_to(b"\n").startswith(b"220 ")
        one.sendall(b"QUIT\r\n")
        assert said.read_to(b"\n").startswith(b"221 ")
        assert said.is_at_end()
        one.close()
    assert frames_of(stream, 2) == [(END, 70_001, b"\0"), (END, 70_002, b"\0")]
    ours.shutdown(socket.SHUT_WR)
    assert stream.is_at_end() and process.wait(SECONDS) == 0


def test_hand_over_limits_without_a_descriptor_and_the_end(worker):
    ours, process = worker
    stream = Stream(ours.fileno())
    ours.sendall(frame(LIMITS, 0, strings(b"MAXCONNIP", b"1")))
    client, server = pair()
    send_with(ours, connection(70_001, b"2", b"2", b"2"), server.fileno())
    server.close()
    assert Stream(client.fileno()).is_at_end()
    client.close()
    assert frames_of(stream, 2) == [(TAKEN, 1, b""), (END, 70_001, b"\x64")]
    ours.sendall(connection(70_002))
    assert frames_of(stream, 2) == [(TAKEN, 1, b""), (END, 70_002, b"\x6f")]
    client, server = pair()
    send_with(ours, connection(70_003, b"1", b"1", b"1"), server.fileno())
    server.close()
    said = Stream(client.fileno())
    assert said.read_to(b"\n").startswith(b"220 ")
    assert stream.frame() == (TAKEN, 1, b"")
    ours.shutdown(socket.SHUT_WR)  # the session goes on to its end
    client.sendall(b"QUIT\r\n")
    assert said.read_to(b"\n").startswith(b"221 ")
    assert stream.is_at_end()  # nobody is there to be told of it
    assert process.wait(SECONDS) == 0
    client.close()


def greeted(worker, stream, session, *counts):
    """Hand over a connection; return (its socket, Stream), after HELO; nothing was asked but for its start."""
    ours, _ = worker
    client, server = pair()
    send_with(ours, connection(session, *counts), server.fileno())
    server.close()
    assert stream.frame() == (TAKEN, 1, b"")
    return client, Stream(client.fileno())


def answer(ours, stream, session, limit, question, may):
    kind, number, body = stream.frame()
    serial, index, events, seconds = struct.unpack(">IBII", body)
    assert (kind, number, index, events, seconds) == (ASK, session, limit, *question)
    ours.sendall(frame(ANSWER, session, struct.pack(">IB", serial + 1, 1)))  # of no question
    ours.sendall(frame(ANSWER, session, struct.pack(">IB", serial, may)))


def test_hand_over_questions_about_a_client(worker, home):
    for name, text in (("clientrate", b"7"), ("clientmessages", b"5/1h"), ("clientrecipients", b"9/2")):
        with open(f"{home.control}/{name}", "wb") as file:
            file.write(text)
    ours, process = worker
    stream = Stream(ours.fileno())
    client, said = greeted(worker, stream, 70_001, b"1", b"1", b"0")
    answer(ours, stream, 70_001, 2, (7, 60), 1)
    assert said.read_to(b"\n").startswith(b"220 ")
    client.sendall(b"MAIL FROM:<a@b>\r\n")
    answer(ours, stream, 70_001, 3, (5, 3600), 0)
    assert said.read_to(b"\n") == b"450 too much mail (#4.7.1)\r\n"
    client.sendall(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<c@d>\r\n")
    answer(ours, stream, 70_001, 3, (5, 3600), 1)
    answer(ours, stream, 70_001, 4, (9, 2), 1)
    answer(ours, stream, 70_001, 4, (9, 2), 0)
    replies = [said.read_to(b"\n") for _ in range(3)]
    assert replies == [b"250 ok\r\n", b"250 ok\r\n", b"450 too many recipients (#4.7.1)\r\n"]
    other, heard = greeted(worker, stream, 70_002, b"1", b"251", b"0")
    assert heard.read_to(b"\n") == b"421 too many connections (#4.7.0)\r\n" and heard.is_at_end()
    assert frames_of(stream, 2) == [(END, 70_002, b"\1"), (ABOVE, 70_002, b"\1")]
    client.sendall(b"MAIL FROM:<a@b>\r\n")
    assert stream.frame()[:2] == (ASK, 70_001)
    ours.shutdown(socket.SHUT_WR)  # nobody is there to count any more
    assert said.read_to(b"\n") == b"250 ok\r\n"
    client.sendall(b"QUIT\r\n")
    assert said.read_to(b"\n").startswith(b"221 ")
    client.close()
    other.close()
    assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("data", [frame(77, 0), frame(CONNECTION, 1, b"TCP\0"), struct.pack(">IBBI", 1025, 1, 3, 0)])
def test_hand_over_of_nonsense_ends_the_worker(worker, data):
    ours, process = worker
    ours.sendall(data)
    assert process.wait(SECONDS) == 111


def test_hand_over_to_a_worker_that_starts_programs(wire_end):
    ours, theirs = socket.socketpair()
    process = wire_end(theirs, 0, "helper", "sh", "-c", "echo $$; read line; exit 7")
    stream = Stream(ours.fileno())
    client, server = pair()
    send_with(ours, connection(70_001), server.fileno())
    server.close()
    said = Stream(client.fileno())
    pid = int(said.read_to(b"\n"))
    assert frames_of(stream, 2) == [(TAKEN, 1, b""), (STARTED, 70_001, struct.pack(">I", pid))]
    client.sendall(b"\n")
    assert stream.frame() == (ENDED, 70_001, struct.pack(">II", pid, 7 << 8))
    client.close()
    ours.close()
    assert process.wait(SECONDS) == 0
