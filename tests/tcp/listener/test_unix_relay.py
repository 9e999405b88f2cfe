"""Clients of UNIX sockets that pass descriptors: the process that closes one that lingers is held up, and no other.

A socket that was accepted before the server asked the kernel to refuse descriptors is what every socket is on
older kernels: such clients connect before the server starts.
"""

import array
import os
import socket
import struct
import subprocess
import sys
import threading

import pytest

from pyqmail.system.cdb import write_cdb
from pyqmail.system.channel import refuse_descriptors, takes_descriptors
from pyqmail.system.processes import fork_owner
from pyqmail.tcp.listener.unix_relay import close_unread, copy_both_ways
from pyqmail.tcp.rules.source import compile_lines

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SESSIONS = f"{ROOT}/tests/tcp/session_server.py"
SERVER = f"{ROOT}/bin/pytcpserver"
LINGER_SECONDS = 120  # far more than anything here may take


class Lingering:
    """A TCP socket whose last close() takes LINGER_SECONDS: what was sent on it is never read."""

    def __init__(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.sock = socket.create_connection(listener.getsockname())
        self._deaf, _ = listener.accept()
        listener.close()
        self.sock.setblocking(False)
        try:
            while True:
                self.sock.send(bytes(65536))
        except BlockingIOError:
            pass
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_SECONDS))

    def pass_to(self, client, text):
        """Let a client send text, and us with it: its copy is the last one."""
        client.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.sock.fileno()]))])
        self.sock.close()

    def close(self):
        self._deaf.close()  # a reset: whoever closes our socket waits no longer
        self.sock.close()


@pytest.fixture
def lingering():
    made = Lingering()
    yield made
    made.close()


@pytest.fixture
def start(tmp_path):
    """start(script, *words) -> a running server; its log is that of the test."""
    running = []

    def run(script, *words, **more):
        environ = {"PATH": os.environ["PATH"]}
        running.append(subprocess.Popen([sys.executable, script, *words], env=environ, cwd=tmp_path, **more))
        return running[-1]

    yield run
    for process in running:
        process.terminate()
        process.wait(timeout=20)


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(path)
    return sock


def said(sock):
    """Return all that comes from a server until it closes."""
    text = b""
    try:
        while piece := sock.recv(65536):
            text += piece
    except ConnectionResetError:
        pass
    return text


def answer_to(path, words):
    with connect(path) as sock:
        try:
            sock.sendall(words)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # denied by then
        return said(sock)


PROXY = b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 25\r\n"
WAYS = [
    # script    options                   program       what a client says           what it hears
    (SESSIONS,  ["--workers", "1"],       ["session"],  b"close\n",                  b"hello"),
    (SESSIONS,  ["--proxy", "unix"],      ["session"],  PROXY + b"close\n",          b"hello"),
    (SERVER,    [],                       ["cat"],      b"words\n",                  b"words\n"),
    (SERVER,    ["-B", "welcome\n"],      ["cat"],      b"words\n",                  b"welcome\nwords\n"),
    (SERVER,    ["--greet-delay", "0"],   ["true"],     b"words\n",                  b""),
    (SERVER,    ["-x", "rules.cdb"],      ["cat"],      b"words\n",                  b""),
    (SERVER,    ["--workers", "2"],       ["cat"],      b"words\n",                  b"words\n"),
    (SERVER,    ["--per-address", "0"],   ["pysmtpd"],  b"words\n",                  b""),
    (SERVER,    ["--proxy", "unix"],      ["cat"],      PROXY + b"words\n",          b"words\n"),
]  # fmt: skip


@pytest.mark.parametrize("script, options, program, words, answer", WAYS)
def test_a_descriptor_that_lingers_holds_up_nobody_else(
    script, options, program, words, answer, start, lingering, tmp_path
):
    write_cdb(tmp_path / "rules.cdb", tmp_path / "rules.tmp", compile_lines(b":deny\n"))
    path = f"{tmp_path}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        early = connect(path)
        lingering.pass_to(early, words)
        fd = os.dup(listener.fileno())
    start(script, "-RHl0", "-Q", *options, f"fd:{fd}", "-", *program, pass_fds=[fd])
    os.close(fd)
    assert all(answer_to(path, words).startswith(answer) for _ in range(3))
    early.close()
    assert answer_to(path, words).startswith(answer)


def kernel_refuses():
    with socket.socket(socket.AF_UNIX) as sock:
        refuse_descriptors(sock)
        return not takes_descriptors(sock)


@pytest.mark.skipif(not kernel_refuses(), reason="needs SO_PASSRIGHTS, Linux 6.16")
@pytest.mark.parametrize("place", ["socket", "status"])
def test_the_kernel_refuses_descriptors_for_us(place, start, tmp_path):
    options = ["-RHl0", "-Q1", "--workers", "1", "--status-socket", f"{tmp_path}/status"]
    server = start(SESSIONS, *options, f"{tmp_path}/socket", "-", "session", stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"\n"
    with connect(f"{tmp_path}/{place}") as early:  # it may have come before the kernel was asked
        early.recv(1)
    refusals = (PermissionError, BrokenPipeError)  # the second if the status was told and the connection closed by then
    with connect(f"{tmp_path}/{place}") as client, pytest.raises(refusals):
        client.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
    server.stdout.close()


def names_of_children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = file.read().split()
    return [open(f"/proc/{child}/comm", "rb").read().strip() for child in children]


def test_a_relayed_client_is_served_as_any_other(start, tmp_path):
    path = f"{tmp_path}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        early = connect(path)
        early.sendall(b"env UNIXREMOTEEUID\n")
        fd = os.dup(listener.fileno())
    server = start(SESSIONS, "-RHl0", "-Q", "--workers", "1", f"fd:{fd}", "-", "session", pass_fds=[fd])
    os.close(fd)
    early.sendall(b"x" * 300_000 + b"\n")
    with early.makefile("rb") as lines:
        assert lines.readline().startswith(b"hello ") and lines.readline() == b"%d\n" % os.geteuid()
        assert b"tcpserver-relay" in names_of_children(server.pid)
        assert lines.readline() == b"x" * 300_000 + b"\n"
        early.sendall(b"exit 7\n")
        assert lines.read() == b""
    early.close()


def test_both_ways_are_copied_to_their_ends():
    (client, ours), (theirs, server) = socket.socketpair(), socket.socketpair()
    relay = threading.Thread(target=copy_both_ways, args=(ours, theirs))
    relay.start()
    data, heard = os.urandom(2_000_000), []

    def serve():
        while piece := server.recv(65536):
            heard.append(piece)
        server.sendall(data[::-1])
        server.close()

    serving = threading.Thread(target=serve)
    serving.start()
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    assert said(client) == data[::-1]
    serving.join(20)
    relay.join(20)
    assert b"".join(heard) == data and not relay.is_alive()


@pytest.mark.parametrize("who", ["client", "server"])
def test_the_relay_ends_with_the_server_or_when_a_client_has_gone(who):
    (client, ours), (theirs, server) = socket.socketpair(), socket.socketpair()
    relay = threading.Thread(target=copy_both_ways, args=(ours, theirs))
    relay.start()
    if who == "client":
        server.sendall(b"unread")
        assert client.recv(1) == b"u"
        client.close()  # with something unread: the relay sees a reset, not an end
        assert server.recv(10) == b""
    server.close()
    relay.join(20)
    assert not relay.is_alive()


def test_the_owner_goes_on_once_it_is_the_only_one():
    ours, theirs = socket.socketpair()
    told, tell = os.pipe()
    fork_owner(theirs, lambda: os.write(tell, b"x") and 0)
    assert theirs.fileno() == -1 and os.read(told, 1) == b"x"
    assert ours.recv(1) == b""
    os.wait()
    os.close(told), os.close(tell)


def own_children():
    """Return the processes of which we are the parent: those of other tests may be among them."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return set(map(int, file.read().split()))


def test_what_waits_to_be_read_is_closed_by_a_child(lingering):
    class Server:
        def close_in_child(self):
            pass

    before = own_children()
    for pending in (True, False):
        ours, theirs = socket.socketpair()
        if pending:
            lingering.pass_to(ours, b"x")
        close_unread(Server(), theirs)
        ours.close()
        assert theirs.fileno() == -1
    lingering.close()
    (child,) = own_children() - before
    assert os.waitpid(child, 0)[1] == 0
