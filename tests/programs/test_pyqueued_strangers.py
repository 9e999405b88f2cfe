"""pyqueued and clients whose uid is none of qmail's: what they pass may hold up themselves, and nobody else.

Needs root, to be somebody else.  The home is private, so root is its only user.
"""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import struct
import threading

import pytest

from pyqmail.mail.queue_server.connection import MAX_UNCLAIMED
from pyqmail.mail.queue_server.stranger_connections import STRANGERS, TURNS_OF_UID
from pyqmail.protocol.wires import queue_wire
from pyqmail.protocol.wires.queue_wire import DESCRIPTORS, INLINE
from pyqmail.system.channel import connect, send_with
from tests.programs.test_pyqueued import STREAM, Client, content, files, memory, queued, until, write_control

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
NOBODY, OTHER = 65534, 70_000
HEAD = queue_wire.pack(INLINE, 1, bytes(100_000))[:10]


@pytest.fixture
def stranger(pyqueued, home, monkeypatch):
    """stranger(uid=NOBODY) -> a Client that pyqueued takes for that uid."""
    return stranger_of(home, monkeypatch)


def stranger_of(home, monkeypatch):
    monkeypatch.chdir(home.run)  # who we become could not walk there

    class Stranger(Client):
        def __init__(self, uid=NOBODY):
            os.seteuid(uid)
            try:
                self.sock = connect("pyqueued")
            finally:
                os.seteuid(0)
            self.sock.settimeout(20)
            self.unpacker, self.answers = queue_wire.Unpacker(), {}

        def is_dropped(self):
            """Wait until the server has ended the connection; False if it says something instead."""
            try:
                return not self.sock.recv(100)
            except ConnectionResetError:
                return True

    return Stranger


def answers(home, *numbers):
    """Ask as one of qmail's users; the answer must come."""
    client = Client(home)
    for number in numbers or (1,):
        client.inline(number, b"from a good client")
        assert client.answer(number)[0] == 0
    client.sock.close()


def children(process):
    """Return the processes that pyqueued has made, and those that they have."""
    found, seen = [], [process.pid]
    while seen:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            path = seen.pop()
            with open(f"/proc/{path}/task/{path}/children", encoding="ascii") as file:
                more = [int(word) for word in file.read().split()]
            found, seen = found + more, seen + more
    return found


class Lingering:
    """A TCP socket whose last close() waits for an hour: the other end does not read."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            self._ours = socket.create_connection(server.getsockname())
            self._theirs, _ = server.accept()
        self._ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._ours.send(bytes(65536))
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))

    def fileno(self):
        return self._ours.fileno()

    def let_go(self):
        """Close ours, which must not be the last: a copy of it lies with pyqueued, which is stopped."""
        self._ours.close()

    def end(self):
        """Whoever waits goes on."""
        if self.fileno() >= 0:
            self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def lingering():
    made = []

    def make():
        made.append(Lingering())
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_a_stranger_is_served_like_anybody(stranger, home):
    client = stranger()
    client.inline(1, b"inline")
    client.descriptors(2, memory(b"copied"), memory(STREAM))
    client.inline(3, b"", b"Xbad\0\0")
    client.inline(4, b"x" * 900_000)
    client.inline(5, b"y" * 900_000)
    client.descriptors(6, memory(b"x"), memory(b"nonsense"))
    found = {number: client.answer(number) for number in range(1, 7)}
    assert [code for code, _ in found.values()] == [0, 0, 91, 0, 0, 91]
    messages = {1: b"inline", 2: b"copied", 4: b"x" * 900_000, 5: b"y" * 900_000}
    assert queued(home) == {found[number][1]: message for number, message in messages.items()}
    todo = [content(path) for path in files(home) if "/todo/" in path]
    assert all(data.startswith(b"u65534\0") for data in todo)
    assert len(files(home)) == 3 * 4


def test_a_uid_of_32_bits_is_written_unsigned(stranger, home):
    uid = 2**32 - 2
    try:
        client = stranger(uid)
    except OSError:
        pytest.skip("this user namespace has no such number")
    client.inline(1, b"x")
    assert client.answer(1)[0] == 0
    (todo,) = (content(path) for path in files(home) if "/todo/" in path)
    assert todo.startswith(b"u4294967294\0")
    assert len(queued(home)) == 1


def test_many_requests_at_once_are_all_answered(stranger, home):
    client = stranger()
    for number in range(100):
        client.inline(number, b"%d" % number)
    for number in range(100, 150):
        client.descriptors(number, memory(b"%d" % number), memory(STREAM))
    found = [client.answer(number) for number in range(150)]
    assert queued(home) == {qp: b"%d" % number for number, (_, qp) in enumerate(found)}
    assert {code for code, _ in found} == {0}


def test_a_message_that_does_not_end_holds_up_no_other(stranger, home):
    client, pipes = stranger(), [os.pipe() for _ in range(TURNS_OF_UID + 5)]
    for number, (reader, _) in enumerate(pipes):
        client.descriptors(number, reader, memory(STREAM))
        os.close(reader)
    client.inline(99, b"in between")
    assert client.answer(99)[0] == 0
    until(lambda: len(files(home)) == 3 + 2 * TURNS_OF_UID)
    answers(home)
    for number, (_, writer) in enumerate(pipes):
        os.write(writer, b"%d" % number)
        os.close(writer)
    assert [client.answer(number)[0] for number in range(len(pipes))] == [0] * len(pipes)


def test_what_is_under_way_ends_with_its_connection(stranger, home, pyqueued):
    reader, writer = os.pipe()
    client = stranger()
    client.descriptors(1, reader, memory(STREAM))
    os.close(reader)
    until(lambda: files(home))
    client.sock.close()
    until(lambda: not files(home))
    with pytest.raises(BrokenPipeError):  # nobody reads there any more
        until(lambda: os.write(writer, b"x" * 60000) == 0)
    os.close(writer)
    until(lambda: not children(pyqueued))


# how a descriptor comes, and what becomes of it
WAYS = {
    "as the message": lambda client, fd: client.descriptors(1, fd, memory(STREAM)),
    "as the envelope": lambda client, fd: client.descriptors(1, memory(b"x"), fd),
    "of no request": lambda client, fd: send_with(client.sock, HEAD, [fd]),
    "with what is not a frame": lambda client, fd: send_with(client.sock, b"\xff" * 16, [fd]),
    "too many": lambda client, fd: send_with(client.sock, HEAD, [fd] * 8),
    "far too many": lambda client, fd: send_with(client.sock, HEAD, [fd] * 100),
}


@pytest.mark.parametrize("ending", ["closed", "kept"])
@pytest.mark.parametrize("way", WAYS)
def test_a_socket_that_lingers_holds_up_nobody(stranger, home, lingering, pyqueued, way, ending):
    pyqueued.send_signal(signal.SIGSTOP)  # so that it has the last copy when it goes on
    client, sock = stranger(), lingering()
    WAYS[way](client, sock.fileno())
    sock.let_go()
    pyqueued.send_signal(signal.SIGCONT)
    if ending == "closed":
        client.sock.close()
    answers(home, *range(5))
    again = stranger()
    again.inline(1, b"the next one")
    assert again.answer(1)[0] == 0
    again.sock.close(), client.sock.close()
    until(lambda: not children(pyqueued))  # who exits does not linger
    pyqueued.terminate()
    assert pyqueued.wait(20) == 0


def test_a_socket_that_lingers_in_a_connection_too_many_holds_up_nobody(stranger, home, lingering, pyqueued):
    held = [stranger() for _ in range(STRANGERS)]
    answers(home)
    pyqueued.send_signal(signal.SIGSTOP)  # it lies there before the connection is accepted
    refused = [stranger() for _ in range(3)]
    for client in refused:
        sock = lingering()
        send_with(client.sock, HEAD, [sock.fileno()])
        sock.let_go()
    pyqueued.send_signal(signal.SIGCONT)
    for client in refused:
        assert client.is_dropped()
        client.sock.close()
    answers(home, *range(5))
    for client in held[:3] + held[-3:]:
        client.inline(1, b"x")
        assert client.answer(1)[0] == 0


def test_those_who_only_come_and_go_hold_up_nobody(stranger, home, lingering, pyqueued):
    pyqueued.send_signal(signal.SIGSTOP)
    for number in range(300):
        client = stranger()
        if number % 100 == 0:
            sock = lingering()
            send_with(client.sock, HEAD, [sock.fileno()])
            sock.let_go()
        client.sock.close()
    pyqueued.send_signal(signal.SIGCONT)
    answers(home, *range(5))
    until(lambda: not children(pyqueued))


def test_a_socket_that_lingers_in_the_backlog_does_not_hold_up_the_end(stranger, lingering, pyqueued):
    pyqueued.send_signal(signal.SIGSTOP)
    clients = [stranger() for _ in range(3)]
    for client in clients:
        sock = lingering()
        client.descriptors(1, sock.fileno(), memory(STREAM))
        sock.let_go()
    pyqueued.terminate()
    pyqueued.send_signal(signal.SIGCONT)
    assert pyqueued.wait(20) == 0


def test_term_finishes_what_a_stranger_has_begun(stranger, home, pyqueued):
    reader, writer = os.pipe()
    client, idle = stranger(), stranger()
    client.descriptors(1, reader, memory(STREAM))
    until(lambda: files(home))
    pyqueued.terminate()
    idle.sock.settimeout(0.0)
    until(lambda: not can_connect(home))
    os.write(writer, b"to the end")
    os.close(writer)
    code, qp = client.answer(1)
    assert code == 0 and queued(home) == {qp: b"to the end"}
    assert pyqueued.wait(20) == 0
    idle.sock.settimeout(20)
    assert idle.is_dropped()


def can_connect(home):
    try:
        socket.socket(socket.AF_UNIX).connect(home.queue_socket)
    except OSError:
        return False
    return True


def test_strangers_end_with_a_killed_pyqueued(stranger, home, pyqueued):
    reader, _ = os.pipe()
    client, idle = stranger(), stranger()
    client.descriptors(1, reader, memory(STREAM))
    until(lambda: len(children(pyqueued)) == 3)  # a copy besides
    left = children(pyqueued)
    pyqueued.kill()
    assert client.is_dropped() and idle.is_dropped()
    until(lambda: not any(os.path.exists(f"/proc/{pid}/fd/0") or is_alive(pid) for pid in left))


def is_alive(pid):
    try:
        return content(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


class SilentFile:
    """The one file of a FUSE file system.  Once is_silent, who closes it waits for ever, and no signal helps.

    Source: <linux/fuse.h>; what is left out here the kernel does not ask.
    """

    LOOKUP, GETATTR, OPEN, READ, FLUSH, INIT = 1, 3, 14, 15, 25, 26

    def __init__(self, place):
        self.is_silent, self.flushed = False, threading.Event()
        self._place, self._fd = os.fsencode(place), os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None, use_errno=True)
        options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % self._fd
        if self._libc.mount(b"test", self._place, b"fuse", 0, options):
            os.close(self._fd)
            pytest.skip("mounting is not allowed here")
        threading.Thread(target=self._serve, daemon=True).start()

    def open(self):
        return os.open(self._place + b"/file", os.O_RDONLY)

    def close(self):
        self._libc.umount2(self._place, 2)
        os.close(self._fd)  # ends all that waits

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                request = os.read(self._fd, 1 << 17)
                if not request:
                    return
                _, kind, number, node = struct.unpack_from("<IIQQ", request)
                if kind == self.FLUSH and self.is_silent:
                    self.flushed.set()
                    continue
                error, body = self._answer(kind, node)
                os.write(self._fd, struct.pack("<IiQ", 16 + len(body), -error, number) + body)

    def _answer(self, kind, node):
        attributes = struct.pack("<6Q10I", node, 5, 0, 0, 0, 0, *(0, 0, 0), *((0o100644 if node == 2 else 0o40755), 1),
                                 *(0, 0, 0, 4096, 0))  # fmt: skip
        if kind == self.INIT:
            return 0, struct.pack("<IIIIHHIIHH", 7, 31, 65536, 0, 12, 10, 65536, 1, 32, 0) + bytes(28)
        if kind == self.LOOKUP:
            attributes = attributes.replace(struct.pack("<Q", node), struct.pack("<Q", 2), 1)
            attributes = attributes[:60] + struct.pack("<I", 0o100644) + attributes[64:]
            return 0, struct.pack("<QQQQII", 2, 1, 0, 0, 0, 0) + attributes
        if kind == self.GETATTR:
            return 0, struct.pack("<QII", 0, 0, 0) + attributes
        if kind == self.OPEN:
            return 0, struct.pack("<QII", 1, 0, 0)
        if kind == self.READ:
            return 0, b"hello"
        return (0, b"") if kind == self.FLUSH else (38, b"")


@pytest.fixture
def silent_file(tmp_path):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse")
    (tmp_path / "fuse").mkdir()
    file = SilentFile(tmp_path / "fuse")
    yield file
    file.close()


def test_who_can_not_even_be_killed_holds_up_nobody(stranger, home, silent_file, pyqueued):
    pyqueued.send_signal(signal.SIGSTOP)
    client, fd = stranger(), silent_file.open()
    client.descriptors(1, fd, memory(STREAM))
    os.close(fd)
    silent_file.is_silent = True
    pyqueued.send_signal(signal.SIGCONT)
    assert silent_file.flushed.wait(20)
    answers(home, *range(5))
    client.sock.close()
    again = stranger()
    again.inline(1, b"the next one")
    assert again.answer(1)[0] == 0
    pyqueued.terminate()
    assert pyqueued.wait(20) == 0


def test_two_unclaimed_descriptors_are_borne_and_no_more(stranger, home):
    fd = memory(b"")
    client, bad = stranger(), stranger()
    frame = queue_wire.pack(DESCRIPTORS, 1)
    send_with(client.sock, frame[:4], [memory(b"in two pieces")])
    send_with(client.sock, frame[4:], [memory(STREAM)])
    assert client.answer(1)[0] == 0
    for at in range(MAX_UNCLAIMED + 1):
        with contextlib.suppress(ConnectionError):
            send_with(bad.sock, HEAD[at : at + 1], [fd])
    assert bad.is_dropped()
    answers(home)


def test_one_stranger_leaves_room_for_another(stranger, home):
    held = [stranger() for _ in range(STRANGERS)]
    assert stranger().is_dropped()
    others = [stranger(OTHER) for _ in range(3)]
    for other in others:
        other.inline(1, b"x")
        assert other.answer(1)[0] == 0
    answers(home)
    alive = 0
    for client in held:
        try:
            client.inline(1, b"x")
            alive += client.answer(1)[0] == 0
        except (EOFError, OSError):
            pass
    assert alive == STRANGERS - 3
    for client in held + others:
        client.sock.close()


def test_who_connects_all_the_time_is_waited_for_by_nobody(stranger, home, pyqueued):
    pyqueued.send_signal(signal.SIGSTOP)  # what follows lies in the backlog, in this order
    many = [stranger() for _ in range(150)]
    one, ours = stranger(OTHER), Client(home)
    for client in (*many, one, ours):
        client.inline(1, b"x")
    pyqueued.send_signal(signal.SIGCONT)
    turns = sorted(client.answer(1)[1] for client in many)  # qps, in the order in which they were given
    for client in (one, ours):
        assert client.answer(1)[1] < turns[75]
        client.sock.close()
    for client in many:
        client.sock.close()


def test_processes_that_cannot_be_killed_count_against_their_uid(home, start_pyqueued, monkeypatch, silent_file):
    process = start_pyqueued(hard_descriptors=256)
    stranger = stranger_of(home, monkeypatch)
    limit, clients = 64, []
    process.send_signal(signal.SIGSTOP)
    for _ in range(limit):
        fd = silent_file.open()
        clients.append(stranger())
        send_with(clients[-1].sock, b"no frame at all", [fd])
        os.close(fd)
    silent_file.is_silent = True
    process.send_signal(signal.SIGCONT)
    until(lambda: waiting(process) >= limit)
    assert stranger().is_dropped()
    clients.append(stranger(OTHER))
    clients[-1].inline(1, b"x")
    assert clients[-1].answer(1)[0] == 0
    answers(home)
    for client in clients:
        client.sock.close()


def waiting(process):
    """Return how many of pyqueued's processes wait in the kernel."""
    found = 0
    for pid in children(process):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += content(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] == b"D"
    return found


def test_strangers_have_a_quarter_of_few_descriptors(home, start_pyqueued, monkeypatch):
    process = start_pyqueued(hard_descriptors=256)
    stranger = stranger_of(home, monkeypatch)
    held = [stranger() for _ in range(64)]
    assert stranger().is_dropped()
    for client in held:
        send_with(client.sock, HEAD, [memory(b"")] * 2)
    answers(home, *range(20))
    assert len(os.listdir(f"/proc/{process.pid}/fd")) < 200
    for client in held:
        client.sock.close()


def test_a_large_frame_waits_for_room_and_small_ones_do_not(stranger, home):
    large = queue_wire.pack(INLINE, 1, queue_wire.inline_body(STREAM, b"x" * 150_000))  # fits a socket
    held = [stranger() for _ in range(30)]
    for client in held:
        client.sock.setblocking(False)
        client.sock.send(large[:80_000])
    small = stranger()
    small.inline(1, b"small")
    assert small.answer(1)[0] == 0
    other = stranger(OTHER)
    other.sock.sendall(large)
    assert other.answer(1)[0] == 0
    for client in held[:10]:
        client.sock.close()
    for client in held[10:]:
        client.sock.settimeout(20)
    # those that are there now can be finished: who is dropped or done leaves the room to the next
    for client in held[10:]:
        client.sock.sendall(large[80_000:])
    assert [client.answer(1)[0] for client in held[10:]] == [0] * 20


def test_what_is_wrong_with_a_connection_is_said_once_a_second(stranger, home, pyqueued):
    for _ in range(20):
        client = stranger()
        client.sock.sendall(b"EHLO there\r\n" + b"x" * 100)
        assert client.is_dropped()
    answers(home)
    pyqueued.terminate()
    said = pyqueued.stderr.read().splitlines()
    assert set(said) <= {
        b"pyqueued: warning: connection of uid 65534 dropped: not a frame of this wire",
        *(b"pyqueued: warning: connection of uid 65534 dropped: not a frame of this wire (%d in the last second)" % n
          for n in range(1, 20)),
    }  # fmt: skip
    assert 1 <= len(said) <= 10


def test_a_process_that_cannot_be_made_is_tried_again(stranger, home, pyqueued):
    soft = resource.prlimit(pyqueued.pid, resource.RLIMIT_NOFILE)
    first = Client(home)
    first.inline(1, b"x")
    assert first.answer(1)[0] == 0
    # room for one connection, and none for the channel
    used = max(map(int, os.listdir(f"/proc/{pyqueued.pid}/fd")))
    resource.prlimit(pyqueued.pid, resource.RLIMIT_NOFILE, (used + 2, soft[1]))
    client = stranger()
    client.inline(1, b"waits")
    assert pyqueued.stderr.readline().startswith(b"pyqueued: warning: unable to ")
    first.inline(2, b"x")
    resource.prlimit(pyqueued.pid, resource.RLIMIT_NOFILE, soft)
    assert client.answer(1)[0] == 0
    assert first.answer(2)[0] in (0, 53, 63)


# control/localbytes, size of the message -> exit code
SIZES = [
    ("1000", 1000, 0),
    ("1000", 1001, 31),
    ("0", 200_000, 0),
    (None, 200_000, 0),
]


@pytest.mark.parametrize("limit, size, code", SIZES)
def test_a_message_has_as_many_bytes_as_a_control_says(stranger, home, limit, size, code):
    if limit is not None:
        write_control(home, "localbytes", limit)
    client, ours = stranger(), Client(home)
    for number, one in enumerate((client, client, ours)):
        if number == 1:
            one.descriptors(number, memory(b"x" * size), memory(STREAM))
        else:
            one.inline(number, b"x" * size)
    assert [client.answer(0)[0], client.answer(1)[0]] == [code, code]
    assert ours.answer(2)[0] == 0  # one of qmail's users has no such limit
    assert len(files(home)) == 3 * (1 if code else 3)


def test_an_envelope_without_an_end_is_refused(stranger, home):
    write_control(home, "localbytes", 100_000)
    client, (reader, writer) = stranger(), os.pipe()
    client.descriptors(1, memory(b"x"), reader)
    os.close(reader)
    os.write(writer, b"Fs@x\0")
    with pytest.raises(BrokenPipeError):
        while True:
            os.write(writer, b"Tr@x\0" * 100)
    os.close(writer)
    assert client.answer(1) == (31, 0)
    assert files(home) == []
    client.descriptors(2, memory(b"x"), memory(b"Fs@x\0" + b"Tr@x\0" * 19_000 + b"\0"))
    assert client.answer(2)[0] == 0


def test_a_message_without_an_end_is_refused(stranger, home, pyqueued):
    write_control(home, "localbytes", 5_000_000)
    client, zero = stranger(), os.open("/dev/zero", os.O_RDONLY)
    client.descriptors(1, zero, memory(STREAM))
    os.close(zero)
    assert client.answer(1) == (31, 0)
    assert files(home) == []
    pyqueued.terminate()
    assert pyqueued.stderr.readline() == (
        b"pyqueued: warning: unable to queue for uid 65534, exit code 31: "
        b"more than 5000000 bytes, see control/localbytes\n"
    )
