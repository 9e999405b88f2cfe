"""A status socket by itself: what a client reads, and a client that does not read.  The rest: tests/interop."""

import os
import signal
import socket
import stat

import pytest

from pyqmail.base.failure import Temporary
from pyqmail.system.coroutines import READ
from pyqmail.system.loop import Loop
from pyqmail.system.processes import reap
from pyqmail.system.status_socket import StatusSocket, make_status_socket
from tests.waiting import turn_until


@pytest.fixture
def place(tmp_path):
    return f"{tmp_path}/status"


@pytest.fixture
def served(place):
    """served(report) -> (loop, what was flushed or warned of); children are waited for."""
    loop, made, said = Loop(), StatusSocket(place), []

    def reap_all():
        for pid, _ in reap():
            made.child_ended(pid)

    def start(report, **ways):
        if not ways.get("reaps"):
            loop.on_signal(signal.SIGCHLD, reap_all)
        made.start(loop, report, said.append, lambda: said.append("flush"), **ways)
        return loop, said

    yield start
    made.close()
    loop.abandon()


def connect(place):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(place)
    client.setblocking(False)
    return client


def read(loop, client):
    """Return all that a client is sent."""
    got = []
    loop.watch(client.fileno(), READ, lambda _: got.append(client.recv(1 << 20)))
    turn_until(loop, lambda: got and not got[-1])
    loop.forget(client.fileno())
    client.close()
    return b"".join(got)


def test_each_client_is_sent_the_report_once_by_a_child(served, place):
    loop, said = served(lambda _: b"%d" % os.getpid())
    pids = {int(read(loop, connect(place))) for _ in range(6)}  # more than at the same time
    assert len(pids) == 6 and os.getpid() not in pids
    assert said == ["flush"] * 6


def test_clients_that_do_not_read_hold_up_nobody(served, place):
    loop, _ = served(lambda _: bytes(400_000))
    silent = [connect(place) for _ in range(3)]
    assert len(read(loop, connect(place))) == 400_000
    for client in silent:
        client.close()


def test_only_the_owner_can_connect_and_the_file_goes_with_the_server(place):
    made = StatusSocket(place)
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
    made.close()
    assert not os.path.exists(place)


def test_a_file_that_is_no_longer_ours_stays(place):
    made = StatusSocket(place)
    os.rename(place, f"{place}.old")
    with open(place, "w"):
        pass
    made.close()
    assert os.path.exists(place)


def test_where_it_cannot_be_is_said(tmp_path):
    with pytest.raises(Temporary) as failure:
        StatusSocket(f"{tmp_path}/missing/status")
    assert failure.value.text == f"unable to bind {tmp_path}/missing/status"


QUESTIONS = [
    # what the client sends, in pieces    what report() is given
    ([b"top 5\n"],                        b"top 5\n"),
    ([b"top", b" 5", b"\n"],              b"top 5\n"),
    ([b"top 5\nmore"],                    b"top 5\nmore"),  # split_question() refuses it
    ([b"x" * 100],                        b"x" * 64),
]  # fmt: skip


@pytest.mark.parametrize("pieces, question", QUESTIONS)
def test_a_client_asks(served, place, pieces, question):
    loop, _ = served(lambda asked: b"<%b>" % asked, question_bytes=64, reaps=True)
    client = connect(place)
    for piece in pieces:
        client.send(piece)
        loop.turn(0)
    assert read(loop, client) == b"<%b>" % question


def test_a_client_that_asks_nothing_sees_the_end(served, place):
    loop, _ = served(lambda asked: b"<%b>" % asked, question_bytes=64, reaps=True)
    client = connect(place)
    client.shutdown(socket.SHUT_WR)
    assert read(loop, client) == b"<>"


def test_children_that_the_loop_waits_for_make_room(served, place):
    loop, _ = served(lambda asked: asked, question_bytes=64, reaps=True)
    for number in range(10):
        client = connect(place)
        client.send(b"%d\n" % number)
        assert read(loop, client) == b"%d\n" % number


def test_a_socket_of_a_parent_stays_when_it_is_closed(place):
    listening = make_status_socket(place, 0o660)
    StatusSocket(place, listening).close()
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o660
