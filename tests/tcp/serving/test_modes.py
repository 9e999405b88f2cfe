"""All serving modes behave alike: one table of behaviours, tried on each with real sockets and children.

Not here: what only one of them does (test_worker_pool.py; tests/interop/test_life_cycle.py), and a lack of processes.
"""

import os
import re
import select
import signal
import socket
import subprocess
import sys

import pytest

from pyqmail.programs.pytcptop import ask
from tests.waiting import SECONDS, read_until, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SERVER = f"{ROOT}/tests/tcp/mode_server.py"
MODES = ["worker_pool", "fork_each", "spawn_each", "spawn_helper"]
WITH_WORKERS = ["worker_pool", "spawn_helper"]
PROGRAM = """
echo "hello $$ $TCPREMOTEIP"
while read word rest; do
  case $word in
    exit) exit $rest ;;
    close) exit 0 ;;
    *) echo $word $rest ;;
  esac
done
exit 3
"""


class Client:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.file = self.sock.makefile("rb")
        self.port = self.sock.getsockname()[1]

    def pid(self):
        """Wait for the greeting; return the process that serves the connection, 0 if it was closed instead."""
        words = self.file.readline().split()
        return int(words[1]) if words else 0

    def ask(self, line):
        self.sock.sendall(line + b"\n")
        return self.file.readline()

    def close(self):
        self.file.close()
        self.sock.close()


class Server:
    def __init__(self, mode, options, place):
        program = ["session"] if mode == "worker_pool" else ["sh", "-c", PROGRAM]
        self.process = subprocess.Popen(
            [sys.executable, SERVER, mode, "-1vHRl0", "--workers", "2", *options, "127.0.0.1", "0", *program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=place,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": ROOT},
        )
        self.log, self.clients = b"", []
        self.port = int(self.process.stdout.readline() or self.process.stderr.read())

    def connect(self):
        self.clients.append(Client(self.port))
        return self.clients[-1]

    def burst(self, count):
        """Connect so many while the server is stopped: it finds all of them at once."""
        self.process.send_signal(signal.SIGSTOP)
        clients = [self.connect() for _ in range(count)]
        self.process.send_signal(signal.SIGCONT)
        return clients

    def wait_for(self, mark, count=1):
        """Read the log until mark stands in it count times; return all of it."""
        fd = self.process.stderr.fileno()
        self.log = read_until(fd, lambda text: text.count(mark) >= count, self.log)
        return self.log

    def close(self):
        for client in self.clients:
            client.close()
        self.process.terminate()
        self.process.wait(SECONDS)
        while select.select([self.process.stderr], [], [], SECONDS)[0]:
            if not os.read(self.process.stderr.fileno(), 65536):
                break  # no process of the server is left
        else:
            raise AssertionError("a process is left")
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def start(mode, tmp_path):
    """start(*options) -> a Server in this mode."""
    running = []

    def run(*options):
        running.append(Server(mode, options, tmp_path))
        return running[-1]

    yield run
    for server in running:
        server.close()


ENDS = [
    # the client says   wait status
    (b"close",          0),
    (b"exit 7",         7 << 8),
    (b"exit 111",       111 << 8),
]  # fmt: skip


@pytest.mark.parametrize("word, wait_status", ENDS)
def test_a_connection_is_accepted_served_and_ended(start, word, wait_status):
    server = start()
    client = server.connect()
    assert client.pid()
    assert client.ask(b"some words") == b"some words\n"
    assert client.ask(word) == b""
    log = server.wait_for(b"status: 0/40\n", 2).decode()
    number = re.search(r"ok ([0-9]+)", log)[1]
    assert log == (
        "tcpserver: status: 0/40\n"
        "tcpserver: status: 1/40\n"
        f"tcpserver: pid {number} from 127.0.0.1\n"
        f"tcpserver: ok {number} 0:127.0.0.1:{server.port} :127.0.0.1::{client.port}\n"
        f"tcpserver: end {number} status {wait_status}\n"
        "tcpserver: status: 0/40\n"
    )


def test_a_client_that_goes_ends_its_connection(start):
    server = start()
    client = server.connect()
    assert client.pid()
    client.close()
    assert b" status 768\n" in server.wait_for(b"status: 0/40\n", 2)


def test_at_capacity_clients_wait_and_are_served_later(start):
    server = start("-c2")
    first, second, third = server.burst(3)
    assert first.pid() and second.pid()
    server.wait_for(b"status: 2/2\n")
    assert not select.select([third.sock], [], [], 0)[0]
    assert first.ask(b"close") == b""
    assert third.pid()
    assert b"status: 3/2\n" not in server.wait_for(b"status: 2/2\n", 2)


def numbers_of(status):
    return {connection["number"] for connection in status["connections"]}


def test_a_burst_is_counted_and_every_connection_is_counted_out(start, tmp_path):
    server = start("-b40", "--status-socket", "status")
    clients = server.burst(20)
    pids = [client.pid() for client in clients]
    log = server.wait_for(b" ok ", 20)
    numbers = set(map(int, re.findall(rb" ok ([0-9]+) ", log)))
    # the numbers of processes that a helper starts come from it a moment later
    status = until(lambda: (said := ask(f"{tmp_path}/status")) and numbers_of(said) == numbers and said)
    assert status["count"] == len(status["connections"]) == len(numbers) == 20 and all(pids)
    assert {connection["port"] for connection in status["connections"]} == {client.port for client in clients}
    for client in clients[:15]:
        assert client.ask(b"exit 9") == b""
    server.wait_for(b" status 2304\n", 15)
    assert ask(f"{tmp_path}/status")["count"] == 5
    for client in clients[15:]:
        client.close()
    log = server.wait_for(b"status: 0/40\n", 2)
    ended = list(map(int, re.findall(rb" end ([0-9]+) status", log)))
    assert len(ended) == 20 and set(ended) == numbers


def test_the_listener_keeps_no_descriptor_of_a_connection(start):
    server = start()
    folder = f"/proc/{server.process.pid}/fd"
    assert server.connect().ask(b"x")  # whatever is opened for the first one is open now
    before = len(os.listdir(folder))
    clients = server.burst(12)
    assert all(client.pid() for client in clients)
    # helpers are started at the first burst: a stream to each stays open
    until(lambda: len(os.listdir(folder)) <= before + 1)


def test_a_process_that_is_killed_ends_its_connection_and_the_next_client_is_served(start):
    server = start()
    pid = server.connect().pid()
    os.kill(pid, signal.SIGKILL)
    assert server.wait_for(b"status: 0/40\n", 2).count(b" status 9\n") == 1
    assert server.connect().pid() not in (0, pid)


@pytest.mark.parametrize("mode", WITH_WORKERS, indirect=True)
def test_a_worker_that_is_lost_ends_its_connections_and_is_replaced(start, tmp_path):
    server = start("--status-socket", "status")
    clients = server.burst(6)
    assert all(client.pid() for client in clients)
    workers = {worker["pid"]: worker["sessions"] for worker in ask(f"{tmp_path}/status")["workers"]}
    assert sum(workers.values()) == 6
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert server.wait_for(b"status: 0/40\n", 2).count(b" status 9\n") == 6
    assert server.connect().pid()
    assert not workers.keys() & {worker["pid"] for worker in ask(f"{tmp_path}/status")["workers"]}


def test_draining_refuses_new_clients_and_waits_for_the_others(start):
    server = start("--drain", "60")
    client = server.connect()
    assert client.pid()
    server.process.terminate()

    def is_refused():
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", server.port)) != 0

    until(is_refused)
    assert client.ask(b"still here") == b"still here\n"
    assert client.ask(b"exit 5") == b""
    assert server.process.wait(SECONDS) == 0
    assert b" status 1280\n" in server.wait_for(b" end ")


def test_what_is_left_after_the_time_for_draining_is_ended_by_term(start):
    server = start("--drain", "0")
    clients = server.burst(3)
    assert all(client.pid() for client in clients)
    server.process.terminate()
    assert server.process.wait(SECONDS) == 0
    assert server.wait_for(b" end ", 3).count(b" status 15\n") == 3
    assert [client.file.readline() for client in clients] == [b""] * 3


def test_without_draining_term_ends_the_listener_and_connections_go_on(start):
    server = start()
    client = server.connect()
    assert client.pid()
    server.process.terminate()
    assert server.process.wait(SECONDS) == 0
    assert client.ask(b"still here") == b"still here\n"
    assert client.ask(b"close") == b""


def test_a_limit_that_changes_is_announced_to_all_that_decide(start, tmp_path):
    (tmp_path / "limit").write_text("40\n")
    server = start("--per-address", "./limit")
    clients = server.burst(6)  # some of them in a helper, which is there from now on
    assert all(client.pid() for client in clients)
    (tmp_path / "limit").write_text("3\n")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: not server.connect().pid())
    late = server.burst(6)
    assert [client.pid() for client in late] == [0] * 6
    log = server.wait_for(b" deny ", 7)
    assert log.count(b" MAXCONNIP:3\n") == 7
    server.wait_for(b" status 25600\n", 7)
    assert [client.ask(b"still here") for client in clients] == [b"still here\n"] * 6
