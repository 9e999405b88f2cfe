"""A session's questions to a listener that answers, that does not, too late, and that has gone.

With a real listener: tests/interop/test_client_limits.py.
"""

import socket

import pytest

from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.loop import Loop
from pyqmail.tcp.access.connection import TCP, TCP6, Connection
from pyqmail.tcp.serving import client_meter
from pyqmail.tcp.serving.client_meter import ClientMeter
from pyqmail.tcp.serving.worker_stream import WorkerStream
from tests.waiting import until


def turn_and_look(loop, condition):
    """Turn the loop until condition() is true, and look in between: what is asked for is not an event of this loop."""
    until(condition, wait=lambda left: loop.turn(0.01))


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def listener():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def stream(loop, listener):
    return WorkerStream(loop, listener[1], lambda *_: None, lambda *_: None, lambda: None)


def client(number, ip=b"192.0.2.1", counts=(3, 7, 0)):
    client = Connection(TCP6 if b":" in ip else TCP, ip, b"4711", b"", b"25", counts=counts)
    client.number = number
    return client


def ask(loop, stream, number):
    """Ask for the client of a session; return the promise of the answer."""
    meter = ClientMeter(stream, client(number), set())
    return loop.start(meter.admit("clientmessages", 5, 60)).promise


def question(loop, ours):
    """Return (session, serial number) of the next question."""
    heard = []
    ours.setblocking(False)

    def has_come():
        try:
            heard.extend(wire.Unpacker().receive(ours.recv(65536)))
        except BlockingIOError:
            pass
        return heard

    turn_and_look(loop, has_come)
    ((kind, session, body),) = heard
    assert kind == wire.ASK
    return session, wire.split_ask(body)[0]


@pytest.mark.parametrize("may", [True, False])
def test_the_answer_is_the_listeners(loop, stream, listener, may):
    promise = ask(loop, stream, 77)
    ours, _ = listener
    ours.sendall(wire.answer(*question(loop, ours), may))
    turn_and_look(loop, lambda: promise.done)
    assert promise.value is may


def test_a_listener_that_does_not_answer_limits_nobody_and_a_late_answer_is_none(loop, stream, listener, monkeypatch):
    ours, _ = listener
    monkeypatch.setattr(client_meter, "PATIENCE_SECONDS", 0.01)
    first = ask(loop, stream, 77)
    late = question(loop, ours)
    turn_and_look(loop, lambda: first.done)
    assert first.value is True
    monkeypatch.setattr(client_meter, "PATIENCE_SECONDS", 60.0)
    second = ask(loop, stream, 77)
    session, serial = question(loop, ours)
    ours.sendall(wire.answer(*late, True) + wire.answer(session, serial, False))
    turn_and_look(loop, lambda: second.done)
    assert second.value is False


def test_a_listener_that_has_gone_limits_nobody(loop, stream, listener):
    waiting = ask(loop, stream, 77)
    question(loop, listener[0])
    listener[0].close()
    turn_and_look(loop, lambda: waiting.done)
    later = ask(loop, stream, 78)
    turn_and_look(loop, lambda: later.done)
    assert waiting.value is True and later.value is True


COUNTS = [
    # address, (from it, from its network, new ones), of the limit on addresses, on networks
    (b"192.0.2.1",    (3, 7, 0),  3, 7),
    (b"2001:db8::1",  (3, 7, 0),  7, 7),
    (b"192.0.2.1",    (),         0, 0),
]  # fmt: skip


@pytest.mark.parametrize("ip, counts, address, network", COUNTS)
def test_an_ip6_client_is_its_network(stream, ip, counts, address, network):
    meter = ClientMeter(stream, client(1, ip, counts), {b"MAXCONNC", b"DIEMSG"})
    assert meter.connections == {"clientconnections": address, "clientnetwork": network}
    assert meter.limited_before == {"clientnetwork"}
