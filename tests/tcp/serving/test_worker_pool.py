"""Resident sessions: lines, exit codes, lost and stuck workers, a thousand at once, the end."""

import contextlib
import itertools
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import types

import dns.message
import dns.rrset
import pytest

from pyqmail.system.cdb import write_cdb
from pyqmail.tcp.access.connection import TCP, Connection
from pyqmail.tcp.rules.source import compile_lines
from pyqmail.tcp.serving.worker_pool import WorkerPool
from tests.waiting import read_until, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SERVER = f"{ROOT}/tests/tcp/session_server.py"
PID_MAX = int(open("/proc/sys/kernel/pid_max").read())


class Client:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.sock.makefile("rb")

    def line(self):
        return self.file.readline()

    def ask(self, line):
        self.sock.sendall(line + b"\n")
        return self.line()

    def close(self):
        self.file.close()
        self.sock.close()


class Server:
    def __init__(self, *options, cwd, env=None, hard_limit=None):
        def limit():
            if hard_limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))

        self.process = subprocess.Popen(
            [sys.executable, SERVER, "-1", *options, "127.0.0.1", "0", "session"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={"PATH": os.environ["PATH"], **(env or {})},
            preexec_fn=limit,
        )
        self.text, self.clients = b"", []
        self.port = int(self.process.stdout.readline() or self.process.stderr.read())

    def connect(self):
        self.clients.append(Client(self.port))
        return self.clients[-1]

    def wait_for(self, mark, count=1):
        """Read lines until mark stands in them count times; return all of them so far."""
        fd = self.process.stderr.fileno()
        self.text = read_until(fd, lambda text: text.count(mark) >= count, self.text)
        return self.text

    def end(self):
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)
        # end of file on the log: the workers have gone too
        while select.select([self.process.stderr], [], [], 20)[0]:
            piece = os.read(self.process.stderr.fileno(), 65536)
            if not piece:
                break
            self.text += piece
        else:
            raise AssertionError("a worker is left")
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def start(tmp_path):
    running = []

    def run(*options, **more):
        running.append(Server(*options, cwd=tmp_path, **more))
        return running[-1]

    yield run
    for server in running:
        server.end()


def test_lines_and_status_are_those_of_a_process_for_each(start):
    server = start("-vHRl0", "--workers", "2")
    client = server.connect()
    assert client.line().endswith(b" 127.0.0.1\n")
    assert client.ask(b"env TCPLOCALHOST") == b"0\n"
    assert client.ask(b"env TCPREMOTEHOST") == b"unset\n"
    assert client.ask(b"env TCPREMOTEPORT") == b"%d\n" % client.sock.getsockname()[1]
    assert client.ask(b"exit 7") == b""
    number, port = PID_MAX + 1, client.sock.getsockname()[1]
    assert server.wait_for(b"status: 0/40\n", 2).decode() == (
        "tcpserver: status: 0/40\n"
        "tcpserver: status: 1/40\n"
        f"tcpserver: pid {number} from 127.0.0.1\n"
        f"tcpserver: ok {number} 0:127.0.0.1:{server.port} :127.0.0.1::{port}\n"
        f"tcpserver: end {number} status 1792\n"
        "tcpserver: status: 0/40\n"
    )


def test_sessions_are_spread_and_numbered(start):
    server = start("-vHRl0", "--workers", "2")
    workers = [server.connect().line().split()[1] for _ in range(10)]
    assert sorted(workers.count(pid) for pid in set(workers)) == [5, 5]
    numbers = re.findall(rb"ok (\d+)", server.wait_for(b" ok ", 10))
    assert sorted(map(int, numbers)) == list(range(PID_MAX + 1, PID_MAX + 11))


def test_a_bug_ends_one_session_with_a_traceback_and_111(start):
    server = start("-vHRl0", "--workers", "1")
    other, client = server.connect(), server.connect()
    assert client.line() and other.line()
    assert client.ask(b"raise") == b""
    text = server.wait_for(b"end ")
    assert b"ValueError: a bug\n" in text and b" status 28416\n" in text
    assert other.ask(b"still here") == b"still here\n"


def test_a_client_that_goes_ends_its_session(start):
    server = start("-vHRl0", "--workers", "1")
    client = server.connect()
    assert client.line()
    client.close()
    assert b" status 768\n" in server.wait_for(b"end ")


def compile_rules(folder, source):
    write_cdb(folder / "rules.cdb", folder / "rules.tmp", compile_lines(source))


def test_rules_and_banner(start, tmp_path):
    source = b'127.:allow,TCPREMOTEIP="changed",NEW="1",PATH="x"\n'
    compile_rules(tmp_path, source)
    server = start("-vHRl0", "-B", "banner\n", "-x", "rules.cdb", "--workers", "1")
    client = server.connect()
    assert client.line() == b"banner\n"
    assert client.line().endswith(b" changed\n")
    assert [client.ask(b"env " + name) for name in (b"NEW", b"PATH", b"PROTO")] == [b"1\n", b"x\n", b"TCP\n"]
    compile_rules(tmp_path, b":deny\n")
    denied = server.connect()
    assert (denied.line(), denied.line()) == (b"banner\n", b"")
    text = server.wait_for(b"end ")
    assert b"tcpserver: deny %d 0:127.0.0.1:" % (PID_MAX + 2) in text and b" status 25600\n" in text
    (tmp_path / "rules.cdb").write_bytes(bytes(9))
    broken = server.connect()
    assert (broken.line(), broken.line()) == (b"banner\n", b"")
    text = server.wait_for(b"end ", 2)
    assert b"tcpserver: warning: dropping connection, unable to read rules.cdb: protocol error\n" in text
    assert b"end %d status 28416\n" % (PID_MAX + 3) in text


def test_a_lost_worker_has_its_sessions_ended_and_is_replaced(start):
    server = start("-vHRl0", "--workers", "1")
    clients = [server.connect() for _ in range(5)]
    pid = {int(client.line().split()[1]) for client in clients}.pop()
    os.kill(pid, signal.SIGKILL)
    text = server.wait_for(b"status: 0/40\n", 2)
    assert text.count(b" status 9\n") == 5
    assert [client.line() for client in clients] == [b""] * 5
    replaced = server.connect()
    assert int(replaced.line().split()[1]) not in (pid, 0)


def test_without_a_descriptor_to_spare_a_worker_is_replaced_later(start):
    server = start("-vHRl0", "--workers", "1")
    pid = int(server.connect().line().split()[1])
    listener = server.process.pid
    limits = resource.prlimit(listener, resource.RLIMIT_NOFILE)
    resource.prlimit(listener, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(pid, signal.SIGKILL)
    server.wait_for(b"tcpserver: warning: unable to create socket: process cannot open more files\n")
    resource.prlimit(listener, resource.RLIMIT_NOFILE, limits)
    assert int(server.connect().line().split()[1]) not in (pid, 0)


def test_every_connection_is_counted_out_whoever_is_killed(start):
    server = start("-vHRl0", "-c200", "-b200", "--workers", "2")
    for _ in range(5):
        burst = [server.connect() for _ in range(30)]
        children = open(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read().split()
        for pid in children[:1]:  # none while both are being replaced
            with contextlib.suppress(ProcessLookupError):  # it is one of the last round's
                os.kill(int(pid), signal.SIGKILL)
        for client in burst:
            client.close()
    text = server.wait_for(b"tcpserver: end ", 150)
    assert server.process.poll() is None
    server.wait_for(b"status: 0/200\n", 2)
    assert text.count(b"tcpserver: end ") == 150
    assert server.connect().line().startswith(b"hello")


def test_a_stuck_worker_is_killed_and_replaced(start):
    server = start("-vHRl0", "--workers", "1", env={"PING_SECONDS": "0.05"})
    client = server.connect()
    first = client.line().split()[1]
    client.sock.sendall(b"hang\n")
    assert b" status 9\n" in server.wait_for(b"status: 0/40\n", 2)
    assert server.connect().line().split()[1] != first


def test_new_clients_go_to_workers_that_answer():
    numbers = itertools.count(1)
    listener = types.SimpleNamespace(
        loop=None, number_for=lambda client: next(numbers), register=lambda number, client: None
    )
    pool = WorkerPool(listener, 2, types.SimpleNamespace(max_sessions=100))
    for pid, slot in enumerate(pool._slots):
        slot.pid = pid
    silent, answering = pool._slots
    for unanswered, wanted in ((0, 2), (1, 2), (2, 0), (5, 0)):
        silent.sessions, answering.sessions = set(), {-1, -2}
        silent.unanswered = unanswered
        pool.serve_connection(None, Connection(TCP, b"192.0.2.1", b"1", b"", b"25"))
        pool.serve_connection(None, Connection(TCP, b"192.0.2.1", b"1", b"", b"25"))
        assert len(silent.sessions) == wanted
    answering.pid = None
    pool.serve_connection(None, Connection(TCP, b"192.0.2.1", b"1", b"", b"25"))
    assert len(silent.sessions) == 1  # better than nobody


def test_the_limit_holds_others_back(start):
    server = start("-vHRl0", "-c2", "--workers", "2")
    first, second, third = server.connect(), server.connect(), server.connect()
    assert first.line() and second.line()
    server.wait_for(b"status: 2/2\n")
    assert not select.select([third.sock], [], [], 0)[0]
    assert first.ask(b"close") == b""
    assert third.line().startswith(b"hello")


def test_term_ends_the_listener_at_once_and_sessions_finish(start):
    server = start("-vHRl0", "--workers", "2")
    clients = [server.connect() for _ in range(4)]
    assert all(client.line() for client in clients)
    server.process.terminate()
    assert server.process.wait(timeout=10) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=10)
    assert [client.ask(b"still") for client in clients] == [b"still\n"] * 4
    assert [client.ask(b"close") for client in clients] == [b""] * 4
    # then the fixture reads to the end of the log: no worker is left


def test_a_thousand_idle_connections(start):
    server = start("-HRl0", "-c2000", "-b1000", "--workers", "2")
    clients = [server.connect() for _ in range(1000)]
    assert all(client.line().startswith(b"hello") for client in clients)
    assert [client.ask(b"x%d" % number) for number, client in enumerate(clients)] == [b"x%d\n" % n for n in range(1000)]


def test_no_more_than_there_are_descriptors_for(start):
    server = start("-HRl0", "-c2000", "-b1000", "--workers", "1", hard_limit=128)
    assert (
        b"tcpserver: warning: descriptors for 64 connections only, of 2000; to raise it: ulimit -n 2064\n"
        in server.wait_for(b"\n")
    )
    clients = [server.connect() for _ in range(70)]
    assert all(client.line().startswith(b"hello") for client in clients[:64])
    for client in clients[:6]:
        assert client.ask(b"close") == b""
    assert all(client.line().startswith(b"hello") for client in clients[64:])


class NameServer:
    """Answers every PTR question with Client.Example, every A question with 127.0.0.1; holds answers while `held`."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.held, self.waiting = False, []
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            data, client = self.sock.recvfrom(4096)
            if data == b"end":
                return
            if data == b"go on":
                self.held = False
            else:
                self.waiting.append((data, client))
            while self.waiting and not self.held:
                self.answer(*self.waiting.pop(0))

    def answer(self, data, client):
        question = dns.message.from_wire(data)
        reply = dns.message.make_response(question)
        name, kind = question.question[0].name.to_text(), question.question[0].rdtype
        records = {12: ("PTR", "Client.Example."), 1: ("A", "127.0.0.1")}
        if kind in records:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", *records[kind]))
        self.sock.sendto(reply.to_wire(), client)

    def tell(self, word):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(word, self.sock.getsockname())

    def close(self):
        self.tell(b"end")
        self.thread.join()
        self.sock.close()


@pytest.fixture
def name_server():
    server = NameServer()
    yield server
    server.close()


def test_names_are_looked_up_by_a_resolver_and_hold_up_nobody_else(start, name_server):
    server = start("-vRp", "--workers", "1", env={"PYQMAIL_DNS": name_server.address})
    name_server.held = True
    clients = [server.connect() for _ in range(20)]
    server.wait_for(b" from 127.0.0.1\n", 20)  # all of them wait for their names at once
    name_server.tell(b"go on")
    assert all(client.line().startswith(b"hello") for client in clients)
    assert clients[0].ask(b"env TCPREMOTEHOST") == b"client.example\n"
    assert clients[0].ask(b"env TCPLOCALHOST") == b"client.example\n"
    assert server.wait_for(b" ok ", 20).count(b" client.example:127.0.0.1:") == 40


def test_with_rules_a_client_whose_look_up_could_not_be_made_is_refused_for_now(start, name_server, tmp_path):
    compile_rules(tmp_path, b"=client.example:deny\n:allow\n")
    server = start("-vRl0", "-x", "rules.cdb", "--workers", "1", env={"PYQMAIL_DNS": name_server.address})
    name_server.held = True
    client = server.connect()
    server.wait_for(b" from 127.0.0.1\n")
    (resolver,) = until(lambda: [pid for pid in children(server.process.pid) if name_of(pid) == "pyresolve"])
    os.kill(resolver, signal.SIGKILL)
    assert client.line() == b""
    said = server.wait_for(b" status 28416\n")
    assert b"tcpserver: warning: dropping connection, unable to look up the client: no resolver\n" in said
    assert b" ok " not in said
    name_server.tell(b"go on")
    count = 1

    def is_denied():
        nonlocal count
        assert server.connect().line() == b""
        count += 1
        server.wait_for(b"tcpserver: end ", count)
        return b" deny " in server.text

    until(is_denied)  # once there is another resolver


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return list(map(int, file.read().split()))


def name_of(pid):
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip()


def test_a_lost_resolver_is_replaced_and_names_are_unset_meanwhile(start, name_server):
    server = start("-Rl0", "--workers", "1", env={"PYQMAIL_DNS": name_server.address})
    client = server.connect()
    worker = int(client.line().split()[1])
    assert client.ask(b"env TCPREMOTEHOST") == b"client.example\n"
    children = open(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read().split()
    (resolver,) = {int(child) for child in children} - {worker}
    os.kill(resolver, signal.SIGKILL)

    def is_named():
        is_reaped = not os.path.exists(f"/proc/{resolver}")
        client = server.connect()
        assert client.line().startswith(b"hello")
        found = client.ask(b"env TCPREMOTEHOST")
        assert found in (b"unset\n", b"client.example\n")
        client.ask(b"close")
        client.close()
        return is_reaped and found == b"client.example\n"

    until(is_named)


WAITS = ["/^epoll_p?wait"]  # the calls that wait for events


FAULTS_OF_ONE = [
    # the session's call         status  what is said
    ("epoll_ctl", "ENOSPC",      28416,  b"testsession: fatal: unable to watch connection: out of disk space\n"),
    ("epoll_ctl", "ENOMEM",      28416,  b"testsession: fatal: unable to watch connection: out of memory\n"),
    ("read",      "ECONNRESET",  256,    b""),
    ("read",      "ENOBUFS",     256,    b""),
    ("read",      "ENOMEM",      256,    b""),
    ("write",     "ENOBUFS",     256,    b""),
    ("write",     "ENOMEM",      256,    b""),
    ("write",     "ECONNRESET",  256,    b""),
]  # fmt: skip


@pytest.mark.parametrize("call, error, status, line", FAULTS_OF_ONE)
def test_a_call_that_fails_ends_the_session_it_was_for(start, faults, call, error, status, line):
    server = start("-vHRl0", "--workers", "1")
    other = server.connect()
    worker = int(other.line().split()[1])
    # what a worker writes first is its line of the log
    faults.attach(worker, f"{call}:error={error}:when={2 if call == 'write' else 1}")
    unlucky = server.connect()
    if call == "read":
        assert unlucky.line()
        unlucky.sock.sendall(b"hello\n")
    try:
        while unlucky.line():
            pass
    except ConnectionResetError:
        pass  # what it said was not read
    text = server.wait_for(b"end ")
    assert b"end %d status %d\n" % (PID_MAX + 2, status) in text and line in text
    assert other.ask(b"still here") == b"still here\n"
    assert int(server.connect().line().split()[1]) == worker


@pytest.mark.parametrize("error", ["ENOMEM", "ENOBUFS", "EMFILE", "ENFILE"])
def test_a_worker_that_cannot_take_a_connection_now_takes_it_later(start, faults, error):
    server = start("-vHRl0", "--workers", "1", env={"PING_SECONDS": "60"})
    worker = int(server.connect().line().split()[1])
    faults.attach(worker, f"recvmsg:error={error}:when=1..2")
    late = server.connect()
    assert int(late.line().split()[1]) == worker and late.ask(b"close") == b""
    assert b" status 0\n" in server.wait_for(b"end ")


@pytest.mark.parametrize("error", ["ENOMEM", "ENOBUFS", "EMFILE", "ENFILE", "ETOOMANYREFS", "EIO"])
def test_a_connection_that_cannot_be_handed_over_now_is_later(start, faults, error):
    """Not at the next heartbeat, which is a minute away here."""
    server = start("-vHRl0", "--workers", "1", env={"PING_SECONDS": "60"})
    assert server.connect().line()
    faults.attach(server.process.pid, f"sendmsg:error={error}:when=1..3")
    assert server.connect().line().startswith(b"hello")


@pytest.mark.parametrize("error", ["ENOMEM", "ENOBUFS"])
def test_a_listener_that_cannot_hear_a_worker_now_hears_it_later(start, faults, error):
    server = start("-vHRl0", "--workers", "1", env={"PING_SECONDS": "60"})
    client = server.connect()
    assert client.line()
    faults.attach(server.process.pid, f"recvfrom:error={error}:when=1..2")
    assert client.ask(b"close") == b""
    assert b" status 0\n" in server.wait_for(b"end ")
    assert server.connect().line()


@pytest.mark.parametrize("error", ["ENOMEM", "ENOBUFS"])
def test_what_a_worker_cannot_say_now_it_says_later(start, faults, error):
    """The first thing it sends is for the listener: that it has taken the connection."""
    server = start("-vHRl0", "--workers", "1", env={"PING_SECONDS": "60"})
    worker = int(server.connect().line().split()[1])
    faults.attach(worker, f"sendto:error={error}:when=1")
    client = server.connect()
    assert client.line() and client.ask(b"close") == b""
    assert b"end %d status 0\n" % (PID_MAX + 2) in server.wait_for(b"end ")
    assert int(server.connect().line().split()[1]) == worker


WAITED_IN_VAIN = r"epoll_p?wait\([0-9]+, \[\], [0-9]+, ([0-9]+)[^\n]*= 0\n"  # and for how many ms
PASSING = [
    # who fails, his call
    ("listener", "sendmsg"),
    ("listener", "epoll_ctl"),
    ("worker", "recvmsg"),
]


@pytest.mark.parametrize("who, call", PASSING)
def test_the_pauses_between_tries_grow(start, faults, who, call):
    server = start("-vHRl0", "-c1", "--workers", "1", env={"PING_SECONDS": "60"})
    client = server.connect()
    worker = int(client.line().split()[1])
    faults.attach(server.process.pid if who == "listener" else worker, f"{call}:error=ENOMEM:when=1..6", also=WAITS)
    assert client.ask(b"close") == b""
    assert server.connect().line()
    between = faults.trace.split("(INJECTED)")[1:]
    pauses = [max(map(int, re.findall(WAITED_IN_VAIN, text))) for text in between]
    assert len(pauses) == 6 and pauses == sorted(pauses) and pauses[-1] > 4 * pauses[0]


@pytest.mark.parametrize("error", ["ENOMEM", "ENOSPC"])
def test_a_listener_that_cannot_watch_now_does_so_later(start, faults, error):
    server = start("-vHRl0", "-c1", "--workers", "1")
    client = server.connect()
    assert client.line()
    faults.attach(server.process.pid, f"epoll_ctl:error={error}:when=1..2")
    assert client.ask(b"close") == b""  # there is room again: the sockets are watched again
    assert server.connect().line().startswith(b"hello")


def test_fifty_that_flood_do_not_hold_up_one_that_talks(start):
    """Each question of the one is answered before the worker has gone round among the others."""
    server = start("-HRl0", "-Q", "-c100", "--workers", "1")
    floods = [server.connect() for _ in range(50)]
    talker = server.connect()
    assert all(client.line() for client in (*floods, talker))
    heard = [0] * len(floods)
    with select.epoll() as epoll:
        for flood in floods:
            flood.sock.setblocking(False)
            epoll.register(flood.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        by_fd = {flood.sock.fileno(): number for number, flood in enumerate(floods)}
        epoll.register(talker.sock.fileno(), select.EPOLLIN)
        rounds, before = [], None
        while len(rounds) < 20:
            for fd, events in epoll.poll(20):
                if fd == talker.sock.fileno():
                    assert talker.line() == b"hello\n"
                    rounds.append(sum(heard) - before)
                    before = None
                    continue
                try:
                    if events & select.EPOLLIN:
                        heard[by_fd[fd]] += len(os.read(fd, 65536))
                    if events & select.EPOLLOUT:
                        os.write(fd, b"\n" * 4096)
                except BlockingIOError:
                    pass
            if before is None and sum(heard) > 200_000:
                before = sum(heard)
                talker.sock.sendall(b"hello\n")
    # what came meanwhile was on its way: far less than a turn for each, and than what 50 send buffers hold
    assert sorted(rounds)[len(rounds) // 2] < 50 * 4096, rounds
