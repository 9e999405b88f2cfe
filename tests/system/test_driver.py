"""One session over both drivers, and what a driver does beside reading and writing."""

import errno
import inspect
import os
import socket
import threading
import types

import pytest

from pyqmail.system import coroutines, timers
from pyqmail.system import loop as loops
from pyqmail.system.channel import Gone
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.driver import BlockingDriver, CannotBind, CannotFork, EventDriver, drive
from pyqmail.system.loop import Loop
from pyqmail.system.peer import QUANTUM_BYTES, READ_BYTES, BlockingPeer, EventPeer, WrappedPeer
from tests.processes import open_descriptors


async def echo(driver, peer, environ):
    """A session: say each piece again with the environment's mark, until the end."""
    count = 0
    while data := await peer.read():
        peer.put(environ[b"MARK"])
        peer.put(data)
        await peer.flush()
        count += len(data)
    return count


def over(kind, session, ours):
    """Run session(driver, peer) over a driver on the socket `ours`; returns what it returns."""
    if kind == "blocking":
        driver = BlockingDriver()
        return drive(session(driver, driver.peer(ours.fileno(), ours.fileno())))
    loop = Loop()
    driver = EventDriver(loop)
    task = loop.start(session(driver, driver.peer(ours.fileno(), ours.fileno())))
    while not task.promise.done:
        loop.turn(10)
    loop.abandon()
    if task.promise.error:
        raise task.promise.error
    return task.promise.value


@pytest.fixture(params=["blocking", "event"])
def kind(request):
    return request.param


def test_the_same_session_over_both(kind):
    ours, theirs = socket.socketpair()
    said = []

    def client():
        for piece in (b"one", b"two" * 10000):
            theirs.sendall(piece)
            want = len(piece)
            while want > 0:
                got = theirs.recv(1 << 20)
                said.append(got)
                want -= len(got.replace(b"\1", b""))
        theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=client)
    thread.start()
    assert over(kind, lambda driver, peer: echo(driver, peer, {b"MARK": b"\1"}), ours) == 30003
    thread.join()
    assert b"".join(said).replace(b"\1", b"") == b"one" + b"two" * 10000


def test_a_client_that_says_nothing(kind):
    ours, theirs = socket.socketpair()

    async def session(driver, peer):
        peer.timeout_seconds = 0.01
        await peer.read()

    with pytest.raises(TimedOut):
        over(kind, session, ours)


def test_a_client_that_does_not_listen(kind):
    ours, theirs = socket.socketpair()

    async def session(driver, peer):
        peer.timeout_seconds = 0.05
        for _ in range(100):
            peer.put(bytes(1 << 20))
            await peer.flush()

    if kind == "blocking":
        os.set_blocking(ours.fileno(), False)
    with pytest.raises(TimedOut):
        over(kind, session, ours)


def test_a_flush_has_an_end_even_if_bytes_move(kind):
    """A client that takes some now and then is not timed out by timeout_seconds."""
    ours, theirs = socket.socketpair()

    async def session(driver, peer):
        peer.flush_seconds = 0.0
        peer.put(b"what the kernel takes at once")
        await peer.flush()
        peer.put(bytes(50 << 20))
        await peer.flush()

    if kind == "blocking":
        os.set_blocking(ours.fileno(), False)
    with pytest.raises(TimedOut):
        over(kind, session, ours)
    assert theirs.recv(1000).startswith(b"what the kernel takes at once")


def test_a_wrapped_peer_has_the_inner_ones_times():
    inner = BlockingPeer()
    peer = WrappedPeer(inner)
    for name in ("timeout_seconds", "flush_seconds", "pause_seconds", "is_bulk", "client_meter"):
        setattr(peer, name, 7)
        assert getattr(inner, name) == getattr(peer, name) == 7


def test_a_client_that_vanished(kind):
    ours, theirs = socket.socketpair()
    theirs.close()

    async def session(driver, peer):
        assert await peer.read() == b""
        peer.put(b"x")
        await peer.flush()

    with pytest.raises(Gone):
        over(kind, session, ours)


def test_run_a_program(kind):
    ours, _ = socket.socketpair()

    async def session(driver, peer):
        said = await driver.run(
            [b"sh", b"-c", b"echo $A >&6; cat >&6; exit 3"],
            {b"A": b"b"},
            {0: os.open("/dev/null", 0)},
            collect=6,
            path=b"/bin:/usr/bin",
        )
        killed = await driver.run([b"sh", b"-c", b"kill -9 $$"], {}, {}, path=b"/bin:/usr/bin")
        return said, killed

    assert over(kind, session, ours) == ((768, b"b\n"), (9, b""))


def test_without_a_descriptor_to_wait_with_nothing_is_left(monkeypatch):
    def no_descriptor(pid, work):
        pids.append(pid)
        raise OSError(errno.EMFILE, "")

    pids, loop, before = [], Loop(), None
    monkeypatch.setattr(loop, "on_exit", no_descriptor)
    before = open_descriptors()
    task = loop.start(EventDriver(loop).run(["sleep", "1000"], os.environb, {}, collect=1, path=b"/bin:/usr/bin"))
    task.promise.then(lambda _: None)
    assert task.promise.error.errno == errno.EMFILE
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    loop.abandon()


def test_run_what_is_not_there(kind):
    ours, _ = socket.socketpair()

    async def session(driver, peer):
        await driver.run([b"/nowhere/program"], {}, {}, collect=6)

    with pytest.raises(FileNotFoundError):
        over(kind, session, ours)


def test_connect(kind):
    ours, _ = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))

    async def session(driver, peer):
        other = await driver.connect(listener.getsockname(), 5)
        accepted, _ = listener.accept()
        accepted.sendall(b"hello")
        got = await other.read()
        other.close()
        return got

    assert over(kind, session, ours) == b"hello"


def test_connect_from_a_source(kind):
    ours, _ = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))

    async def session(driver, peer):
        other = await driver.connect(listener.getsockname(), 5, "127.0.0.7")
        accepted, (address, _) = listener.accept()
        accepted.close()
        other.close()
        return address

    assert over(kind, session, ours) == "127.0.0.7"


@pytest.mark.parametrize("source", ["192.0.2.1", "::1", "localhost", ""])
def test_a_source_that_cannot_be_used(kind, source):
    ours, _ = socket.socketpair()

    async def session(driver, peer):
        await driver.connect(("127.0.0.1", 9), 5, source)

    before = set(open_descriptors())
    with pytest.raises(CannotBind) as caught:
        over(kind, session, ours)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    del caught
    assert set(open_descriptors()) == before


def test_connect_refused(kind):
    ours, _ = socket.socketpair()
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))

    async def session(driver, peer):
        await driver.connect(closed.getsockname(), 5)

    with pytest.raises(ConnectionRefusedError):
        over(kind, session, ours)


def test_a_blocking_session_that_waits_is_a_bug():
    async def session():
        await Loop().sleep(1)

    with pytest.raises(RuntimeError):
        drive(session())


@pytest.mark.parametrize("is_owner", [False, True])
@pytest.mark.parametrize("make", [lambda *words, **named: EventPeer(Loop(), *words, **named), BlockingPeer])
def test_a_peer_closes_what_it_owns_once(make, is_owner):
    ours, theirs = socket.socketpair()
    peer = make(ours.fileno(), ours.fileno(), is_owner=is_owner)
    peer.close()
    peer.close()
    if is_owner:
        assert theirs.recv(1) == b""
        ours.detach()
    else:
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"


def test_two_descriptors_of_a_peer(kind):
    """As behind a program that stands between: what is read and what is written are pipes."""
    (their_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    os.write(theirs_out, b"hello")
    os.close(theirs_out)

    async def session(driver, _):
        peer = driver.peer(ours_in, ours_out)
        said = await peer.read()
        peer.put(said.upper())
        await peer.flush()
        ending = await peer.read()
        peer.close()
        return ending

    assert over(kind, session, socket.socketpair()[0]) == b""
    os.close(ours_out)
    assert os.read(their_in, 100) == b"HELLO" and os.read(their_in, 1) == b""
    os.close(ours_in)
    os.close(their_in)


def test_a_child_is_forked_where_no_other_session_is(kind):
    async def session(driver, peer):
        try:
            return await driver.run_forked(lambda: 7)
        except CannotFork:
            return None, 7 << 8

    ours, theirs = socket.socketpair()
    pid, status = over(kind, session, ours)
    assert status == 7 << 8 and (pid is None) == (kind == "event")


class Upper(WrappedPeer):
    """Changes what is read; counts what is said."""

    __slots__ = ("count",)

    def __init__(self, peer):
        super().__init__(peer)
        self.count = 0

    def put(self, data):
        self.count += len(data)
        super().put(data)

    async def read(self):
        return (await super().read()).upper()


def test_a_peer_is_wrapped_between_two_reads(kind):
    ours, theirs = socket.socketpair()
    theirs.sendall(b"plain")

    async def session(driver, peer):
        said = [await peer.read()]
        theirs.sendall(b"wrapped")
        outer = Upper(peer)
        outer.timeout_seconds, outer.is_bulk, outer.pause_seconds = 17, True, 0.001
        assert (peer.timeout_seconds, peer.is_bulk, peer.pause_seconds) == (17, True, 0.001)
        assert outer.has_input() and await outer.has_input_within(1) and outer.fileno() == peer.fileno()
        said.append(await outer.read())
        outer.put(b"good-bye")
        await outer.flush()
        assert not outer.has_input() and not await outer.has_input_within(0.001)
        outer.close()
        return said, outer.count

    assert over(kind, session, ours) == ([b"plain", b"WRAPPED"], 8)
    assert theirs.recv(100) == b"good-bye"


FACE = ("put", "flush", "read", "has_input", "has_input_within", "close", "fileno")


def test_both_drivers_have_one_face():
    """A session cannot tell which it has: the same methods, called alike."""
    for one, other, names in (
        (BlockingDriver, EventDriver, ("peer", "channel", "run", "run_forked", "sleep", "connect")),
        (BlockingPeer, EventPeer, FACE),
        (EventPeer, WrappedPeer, FACE),
    ):
        for name in names:
            assert parameters(getattr(one, name)) == parameters(getattr(other, name)), name


def parameters(function):
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def test_a_program_is_given_its_limits_back():
    loop, given, started = Loop(), [], []
    driver = EventDriver(loop, give_back=given.append)
    task = loop.start(driver.run(["true"], os.environb, {}, path=b"/bin:/usr/bin", started=started.append))
    while not task.promise.done:
        loop.turn(10)
    loop.abandon()
    assert given == started and len(given) == 1


def test_a_session_is_given_a_quantum_of_commands_and_more_of_content(kind):
    ours, theirs = socket.socketpair()
    theirs.sendall(bytes(2 * READ_BYTES))
    theirs.close()

    async def session(driver, peer):
        sizes = []
        while data := await peer.read():
            sizes.append(len(data))
            peer.is_bulk = len(sizes) >= 2
        return sizes

    sizes = over(kind, session, ours)
    if kind == "event":
        assert sizes[:3] == [QUANTUM_BYTES, QUANTUM_BYTES, READ_BYTES]
    assert sum(sizes) == 2 * READ_BYTES and max(sizes) == READ_BYTES


def test_a_session_that_is_to_pause_lets_others_go_first():
    loop, said = Loop(), []
    driver = EventDriver(loop)

    async def session(name, peer):
        peer.pause_seconds = 0.05 if name == "slow" else 0
        await peer.read()
        said.append(name)

    pairs = [socket.socketpair() for _ in range(2)]
    for _, theirs in pairs:
        theirs.send(b"x")
    tasks = [
        loop.start(session(name, driver.peer(ours.fileno(), ours.fileno())))
        for name, (ours, _) in zip(("slow", "quick"), pairs, strict=True)
    ]
    while not all(task.promise.done for task in tasks):
        loop.turn(10)
    loop.abandon()
    assert said == ["quick", "slow"]


def test_whoever_has_talked_too_long_gives_way(monkeypatch):
    now = [1000.0]
    for module in (loops, coroutines, timers):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    loop, said = Loop(), []
    driver = EventDriver(loop)

    async def session(name, peer):
        await peer.read()
        for _ in range(3):
            now[0] += 0.006
            peer.put(b"x")
            await peer.flush()
            said.append(name)

    pairs = [socket.socketpair() for _ in range(2)]
    tasks = [
        loop.start(session(name, driver.peer(ours.fileno(), ours.fileno()))) for name, (ours, _) in enumerate(pairs)
    ]
    for _, theirs in pairs:
        theirs.send(b"x")
    while not all(task.promise.done for task in tasks):
        loop.turn(10)
    loop.abandon()
    assert sorted(said[:2]) == sorted(said[2:4]) == [0, 1]
