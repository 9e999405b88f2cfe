"""The queue wire, from the page alone.  Untested: time limits."""

import os
import socket
import struct

import pytest

from tests.interop.wires.spoken import MESSAGE, RECIPIENT, SENDER, Stream, content, frame, send_with

INLINE, DESCRIPTORS, ANSWER = 1, 2, 3


def envelope(*recipients):
    return b"F" + SENDER + b"\0" + b"".join(b"T" + one + b"\0" for one in recipients) + b"\0"


@pytest.fixture
def queue(home, pyqueued):
    """A connected socket to a pyqueued of home."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(f"{home.path}/run/pyqueued")
    yield sock
    sock.close()


def inline(number, stream, message=MESSAGE):
    return frame(INLINE, number, struct.pack(">I", len(stream)) + stream + message)


def answer(stream):
    """Return (number, exit code, qp, text)."""
    kind, number, body = stream.frame()
    assert kind == ANSWER
    code, qp = struct.unpack(">BQ", body[:9])
    return number, code, qp, body[9:]


def queued(home):
    """Return {qp: (records, message without its Received line)}."""
    found = {}
    for name in os.listdir(f"{home.queue}/todo"):
        records = content(f"{home.queue}/todo/{name}").split(b"\0")[:-1]
        text = content(f"{home.queue}/mess/{int(name) % 23}/{name}")
        assert text.startswith(b"Received: (qmail %b invoked by uid %d); " % (records[1][1:], os.getuid()))
        found[int(records[1][1:])] = records, text.partition(b"\n")[2]
    return found


def test_queue_inline(home, queue):
    long_address = b"x" * 1003
    queue.sendall(
        inline(7, envelope(RECIPIENT, b"b@c.example"))
        + inline(8, envelope(long_address))
        + inline(9, b"X\0")
        + inline(10, envelope()[:-1])
        + inline(0xFFFFFFFF, envelope() + b"more is ignored", b"")
    )
    stream = Stream(queue.fileno())
    answers = {number: rest for number, *rest in (answer(stream) for _ in range(5))}
    assert [answers[number][0] for number in (7, 8, 9, 10, 0xFFFFFFFF)] == [0, 11, 91, 54, 0]
    assert [answers[number][1:] for number in (8, 9, 10)] == [[0, b""]] * 3
    uid, qp = b"u%d" % os.getuid(), answers[7][1]
    assert queued(home) == {
        qp: ([uid, b"p%d" % qp, b"F" + SENDER, b"T" + RECIPIENT, b"Tb@c.example"], MESSAGE),
        answers[0xFFFFFFFF][1]: ([uid, b"p%d" % answers[0xFFFFFFFF][1], b"F" + SENDER], b""),
    }


def test_queue_by_descriptors(home, queue):
    pipes = os.pipe(), os.pipe()
    send_with(queue, frame(DESCRIPTORS, 3), pipes[0][0], pipes[1][0])
    os.write(pipes[0][1], MESSAGE)
    os.write(pipes[1][1], envelope(RECIPIENT))
    for fd in (*pipes[0], *pipes[1]):
        os.close(fd)
    number, code, qp, text = answer(Stream(queue.fileno()))
    assert (number, code, text) == (3, 0, b"")
    assert queued(home)[qp][1] == MESSAGE


def test_queue_descriptors_from_their_offset(home, queue, tmp_path):
    (tmp_path / "message").write_bytes(b"skipped" + MESSAGE)
    (tmp_path / "envelope").write_bytes(envelope(RECIPIENT))
    with open(tmp_path / "message", "rb", buffering=0) as message, open(tmp_path / "envelope", "rb") as stream:
        message.seek(7)
        send_with(queue, frame(DESCRIPTORS, 1), message.fileno(), stream.fileno())
        number, code, qp, _ = answer(Stream(queue.fileno()))
    assert (number, code) == (1, 0) and queued(home)[qp][1] == MESSAGE


MALFORMED_REQUESTS = [
    struct.pack(">IBBI", 6, 2, INLINE, 1),  # another version
    struct.pack(">IBBI", 5, 1, INLINE, 1),  # too short
    struct.pack(">IBBI", 1_048_641, 1, INLINE, 1),  # too long
    frame(4, 1),
    frame(ANSWER, 1),
    frame(DESCRIPTORS, 1),  # without its two descriptors
    frame(INLINE, 1, struct.pack(">I", 9) + b"F\0\0"),  # an envelope longer than its frame
]


@pytest.mark.parametrize("request_bytes", MALFORMED_REQUESTS)
def test_queue_closes_at_what_is_malformed(home, queue, request_bytes):
    queue.sendall(request_bytes)
    assert Stream(queue.fileno()).is_at_end()
    assert queued(home) == {}


def test_queue_takes_the_longest_frame(home, queue):
    message = b"x" * (1_048_640 - 6 - 4 - len(envelope(RECIPIENT)))
    whole = inline(1, envelope(RECIPIENT), message)
    assert len(whole) - 4 == 1_048_640
    queue.sendall(whole)
    _, code, qp, _ = answer(Stream(queue.fileno()))
    assert code == 0 and queued(home)[qp][1] == message


def test_queue_refuses_a_third_descriptor(queue):
    with open("/dev/null", "rb") as null:
        send_with(queue, frame(INLINE, 1)[:4], *[null.fileno()] * 3)
    assert Stream(queue.fileno()).is_at_end()


def test_queue_ends_with_its_client(queue):
    queue.shutdown(socket.SHUT_WR)
    assert Stream(queue.fileno()).is_at_end()
