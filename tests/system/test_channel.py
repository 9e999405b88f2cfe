"""Questions and answers over a UNIX socket, over both drivers, against a server in a thread."""

import errno
import os
import resource
import socket
import threading

import pytest

from pyqmail.protocol.wires import frames
from pyqmail.system.channel import (
    BlockingChannel,
    EventChannel,
    Gone,
    Unavailable,
    connect,
    receive_with,
    refuse_descriptors,
    send_with,
    takes_descriptors,
)
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.driver import drive
from pyqmail.system.loop import Loop
from tests.processes import open_descriptors


@pytest.fixture
def server(tmp_path):
    """serve(answer) -> path: each connection's frames are answered by answer(kind, number, body, descriptors)."""
    listener = socket.socket(socket.AF_UNIX)
    path = str(tmp_path / "socket")
    listener.bind(path)
    listener.listen()
    threads = []

    def serve(answer):
        def connection():
            sock, _ = listener.accept()
            unpacker = frames.Unpacker()
            with sock:
                while True:
                    data, descriptors = receive_with(sock, 65536, 10)
                    if not data:
                        return
                    for kind, number, body in unpacker.receive(data):
                        reply = answer(kind, number, body, descriptors)
                        if reply is None:
                            return
                        sock.sendall(reply)

        threads.append(threading.Thread(target=connection, daemon=True))
        threads[-1].start()
        return path

    yield serve
    listener.close()


def ask(kind, path, questions, seconds=None):
    """Ask all questions (kind, body, descriptors), at once in the loop; returns the answers in order."""
    if kind == "blocking":
        channel = BlockingChannel(path, frames)

        async def one_by_one():
            return [await channel.ask(*question, seconds=seconds) for question in questions]

        try:
            return drive(one_by_one())
        finally:
            channel.close()
    loop = Loop()
    channel = EventChannel(loop, path, frames)
    tasks = [loop.start(channel.ask(*question, seconds=seconds)) for question in questions]
    while loop.tasks:
        loop.turn(10)
    channel.close()
    loop.abandon()
    for task in tasks:
        if task.promise.error:
            raise task.promise.error
    return [task.promise.value for task in tasks]


@pytest.fixture(params=["blocking", "event"])
def kind(request):
    return request.param


def test_many_questions(server, kind):
    path = server(lambda asked, number, body, _: frames.pack(asked + 1, number, body[::-1]))
    questions = [(5, b"%d-" % n + bytes(n * 100), ()) for n in range(100)]
    assert ask(kind, path, questions) == [(6, body[::-1]) for _, body, _ in questions]


def test_descriptors_travel_with_their_frame(server, kind):
    def answer(asked, number, body, descriptors):
        text = b"".join(os.read(fd, 100) for fd in descriptors)
        for fd in descriptors:
            os.close(fd)
        return frames.pack(1, number, body + text)

    path = server(answer)
    pipes = [os.pipe() for _ in range(2)]
    for index, (_, write_end) in enumerate(pipes):
        os.write(write_end, b"text%d" % index)
    assert ask(kind, path, [(1, b"both:", [read_end for read_end, _ in pipes])]) == [(1, b"both:text0text1")]
    assert all(os.fstat(fd) for pair in pipes for fd in pair)  # the asker's own stay open


def test_a_descriptor_that_cannot_be_duplicated_leaves_no_other():
    loop, (ours, theirs) = Loop(), socket.socketpair()
    channel = EventChannel(loop, "", frames, ours)
    before = open_descriptors()
    with theirs, pytest.raises(OSError):
        channel.ask(1, b"", (theirs.fileno(), 1 << 20)).send(None)
    assert len(os.listdir("/proc/self/fd")) == len(before) - 1
    channel.close()
    loop.abandon()


def test_a_server_that_goes(server, kind):
    path = server(lambda *_: None)
    with pytest.raises(Gone):
        ask(kind, path, [(1, b"", ())])


def test_a_server_that_says_rubbish(server, kind):
    path = server(lambda *_: b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises((Gone, frames.MalformedFrame)):
        ask(kind, path, [(1, b"", ())])


def test_a_server_that_says_nothing(server, kind):
    path = server(lambda *_: b"")
    with pytest.raises(TimedOut):
        ask(kind, path, [(1, b"", ())], seconds=0.05)


def test_nobody_listens(tmp_path, kind):
    with pytest.raises(Unavailable) as nobody:
        ask(kind, str(tmp_path / "nothing"), [(1, b"", ())])
    assert nobody.value.error.errno == 2


def test_no_descriptor_for_a_connection(tmp_path, kind):
    """It is no other trouble than that nobody listens: nothing was done."""
    path = str(tmp_path / "nothing")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    loop = Loop()  # it has a descriptor itself
    channel = BlockingChannel(path, frames) if kind == "blocking" else EventChannel(loop, path, frames)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(Unavailable) as lack:
            channel.ask(1, b"").send(None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        loop.abandon()
    assert lack.value.error.errno == errno.EMFILE


def test_descriptors_that_we_do_not_want_are_refused_by_the_kernel():
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        refuse_descriptors(ours)
        if takes_descriptors(ours):
            pytest.skip("needs SO_PASSRIGHTS, Linux 6.16")
        with pytest.raises(PermissionError):
            send_with(theirs, b"x", [0])
        send_with(theirs, b"words")
        send_with(ours, b"x", [0])
        data, descriptors = receive_with(theirs, 10, 1)
        assert (ours.recv(10), data, len(descriptors)) == (b"words", b"x", 1)
        os.close(descriptors[0])


def test_a_listener_that_does_not_accept_holds_up_nobody(tmp_path):
    """Its backlog is full: whoever cannot wait is told at once, as without a listener."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/full")
        listener.listen(0)
        first = connect(f"{tmp_path}/full")
        with pytest.raises(Unavailable):
            connect(f"{tmp_path}/full", waits=False)
        first.close()


def test_a_backlog_that_is_full_for_a_moment_loses_no_question(tmp_path):
    path, loop = f"{tmp_path}/full", Loop()
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        first = connect(path)
        channel = EventChannel(loop, path, frames)
        task = loop.start(channel.ask(1, b"still there", (reader,)))
        os.close(reader)  # it waits, so this one is ours again
        assert loop.tasks  # nobody could listen yet
        listener.accept()[0].close()

        def answer():
            sock, _ = listener.accept()
            with sock:
                data, (fd,) = receive_with(sock, 1000, 1)
                os.close(fd)
                sock.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        while loop.tasks:
            loop.turn(10)
        thread.join()
        assert task.promise.value == (1, b"still there")
        first.close()
        channel.close()
    loop.abandon()
    os.close(writer)
