"""A connection by itself: frames in pieces, and the time they have."""

import os
import socket

import pytest

from pyqmail.mail.queue_server import connection
from pyqmail.mail.queue_server.connection import Connection
from pyqmail.protocol.wires import queue_wire
from pyqmail.protocol.wires.queue_wire import INLINE
from pyqmail.system.loop import Loop
from tests.waiting import turn_until

FRAME = queue_wire.pack(INLINE, 7, queue_wire.inline_body(b"Fa\0Tb\0\0", b"hello"))


class Server:
    """Keeps what it is told."""

    def __init__(self):
        self.inline, self.why, self.lost_ones, self.parts = [], [], 0, []

    def take_inline(self, _, number, body):
        self.inline.append((number, body))

    def receiving(self, client):
        self.parts.append(client.wanted_bytes)

    def dropped(self, _, why):
        self.why.append(why)

    def lost(self, _):
        self.lost_ones += 1


@pytest.fixture
def made(monkeypatch):
    """made(is_patient) -> (loop, server, Connection, the client's socket); a frame has a twentieth of a second."""
    monkeypatch.setattr(connection, "FRAME_SECONDS", 0.05)
    loops, socks = [], []

    def make(is_patient):
        loop, server, (ours, theirs) = Loop(), Server(), socket.socketpair()
        loops.append(loop), socks.append(theirs)
        return loop, server, Connection(server, loop, ours, os.getuid(), is_patient), theirs

    yield make
    for loop in loops:
        loop.abandon()
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("is_patient", [True, False])
@pytest.mark.parametrize("part", [1, 5, 12, len(FRAME) - 1, len(FRAME) + 3])
def test_a_frame_that_does_not_go_on_ends_its_connection(made, is_patient, part):
    loop, server, _, client = made(is_patient)
    client.sendall((FRAME + FRAME)[:part])
    turn_until(loop, lambda: server.lost_ones)
    assert server.why == ["a frame was not complete after 0.05 seconds"]
    assert len(server.inline) == (part > len(FRAME))
    assert client.recv(1) == b""


def test_a_frame_that_comes_slowly_ends_its_connection_all_the_same(made):
    loop, server, _, client = made(False)
    client.sendall(queue_wire.pack(INLINE, 1, bytes(1 << 20))[:100])

    def dribble():
        if not server.lost_ones:
            client.send(b"x")
            loop.after(0.005, dribble)

    dribble()
    turn_until(loop, lambda: server.lost_ones)
    assert server.parts[0] == (1 << 20) + 10 and len(server.parts) > 1


@pytest.mark.parametrize("is_patient", [True, False])
def test_between_frames_there_is_no_limit(made, is_patient):
    loop, server, _, client = made(is_patient)
    client.sendall(FRAME)
    loop.after(0.2, loop.stop)
    loop.run()
    client.sendall(FRAME)
    turn_until(loop, lambda: len(server.inline) == 2)
    assert not server.lost_ones


def test_each_frame_has_its_own_time(made, monkeypatch):
    """There is always one under way; the time of each begins with its first byte."""
    monkeypatch.setattr(connection, "FRAME_SECONDS", 30)
    loop, server, ours, client = made(False)
    client.sendall(FRAME[:12])
    timers = []
    for count in range(1, 4):
        turn_until(loop, lambda count=count: len(server.parts) == count)
        timers.append(ours._timer)
        client.sendall(FRAME[12:] + FRAME[:12])
    assert len(set(map(id, timers))) == 3 and [timer.when is None for timer in timers] == [True, True, False]


def test_while_nothing_is_read_no_time_passes(made):
    loop, server, ours, client = made(False)
    client.sendall(FRAME[:12])
    turn_until(loop, lambda: server.parts)
    ours.listen(False)
    loop.after(0.2, loop.stop)
    loop.run()
    assert not server.lost_ones
    client.sendall(FRAME[12:])
    ours.listen(True)
    turn_until(loop, lambda: server.inline)


def test_one_of_our_own_is_not_ended_for_what_lies_there_unread(made):
    loop, server, ours, client = made(True)
    client.sendall(FRAME[:12])
    turn_until(loop, lambda: server.parts)
    ours.hold(True)
    client.sendall(FRAME[12:])
    loop.after(0.2, loop.stop)
    loop.run()
    ours.hold(False)
    turn_until(loop, lambda: server.inline)
    assert not server.lost_ones
