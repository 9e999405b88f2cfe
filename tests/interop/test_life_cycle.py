"""How a pytcpserver begins and ends, in all serving modes: readiness, draining, limits of the system, its status.

Not here: limits of control groups, and a kernel without netlink.
"""

import os
import pty
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from pyqmail.protocol.wires import status_wire
from tests.waiting import read_until, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PID_MAX = int(open("/proc/sys/kernel/pid_max").read())


# the beginning


def test_a_descriptor_says_that_clients_are_served(serve, mode):
    read_end, write_end = os.pipe()
    server = serve(mode, "-v", "--ready-fd", str(write_end), pass_fds=[write_end])
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        assert file.read() == b"\n"  # and the end: nobody else has the descriptor
    assert server.connect().greeting()
    server.log.find(rb"^tcpserver: status: 0/40\n")


def test_descriptor_1_may_be_it_too(serve):
    server = serve("spawn_each", "--ready-fd", "1")
    assert server.port  # the line before


@pytest.mark.parametrize("is_abstract", [False, True])
def test_a_service_manager_is_told_by_its_socket(serve, mode, tmp_path, is_abstract):
    name = f"@pyqmail-test-{os.getpid()}-{mode}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(30)
        server = serve(mode, "-v", "--drain", "60", env={"NOTIFY_SOCKET": name})
        assert manager.recv(100) == b"READY=1"
        client = server.connect()
        assert client.greeting()
        assert client.ask(b"env NOTIFY_SOCKET") == b"unset\n"
        server.term()
        assert manager.recv(100) == b"STOPPING=1"
        client.leave()
        assert server.ended() == 0


@pytest.mark.parametrize("place", ["/nonesuch/socket", "@nobody-listens", "vsock:2:1", "", "@" + "x" * 200])
def test_a_service_manager_that_cannot_be_reached_does_no_harm(serve, place):
    server = serve("spawn_each", "-v", env={"NOTIFY_SOCKET": place})
    client = server.connect()
    assert client.greeting()
    assert client.ask(b"env NOTIFY_SOCKET") == b"unset\n"
    server.log.find(rb"^tcpserver: status: 0/40\n")


# the end


def test_sessions_finish_while_nobody_new_is_accepted(serve, mode):
    server = serve(mode, "-v", "--drain", "60")
    clients = [server.connect() for _ in range(3)]
    assert all(client.greeting() for client in clients)
    server.log.find(rb" ok (\d+)", 3)
    server.term()
    assert server.refuses()
    for left, client in zip((2, 1, 0), clients, strict=True):
        assert client.ask(b"still").startswith(b"still")
        assert server.process.poll() is None
        assert client.ask(b"exit %d" % left) == b""
        server.log.find(rb"tcpserver: end \d+ status %d\ntcpserver: status: %d/40\n" % (left << 8, left))
    assert server.ended() == 0
    assert server.log.finish().endswith(b"tcpserver: status: 0/40\n")


def test_with_nobody_there_the_end_comes_at_once(serve, mode):
    server = serve(mode, "-v", "--drain", "60")
    client = server.connect()
    assert client.greeting()
    client.leave()
    server.log.find(rb"status: 0/40\n", 2)
    server.term()
    assert server.ended() == 0


def test_without_the_option_term_ends_the_server_and_sessions_go_on(serve, mode):
    server = serve(mode, "-v")
    client = server.connect()
    assert client.greeting()
    server.term()
    assert server.ended() == 0
    assert client.ask(b"still").startswith(b"still")


def test_after_the_time_what_is_left_is_ended(serve, mode):
    server = serve(mode, "-v", "--drain", "0")
    clients = [server.connect() for _ in range(2)]
    assert all(client.greeting() for client in clients)
    server.term()
    assert server.ended() == 0
    assert [client.line() for client in clients] == [b"", b""]
    assert len(re.findall(rb"end \d+ status 15\n", server.log.finish())) == 2


def test_times_without_end_are_a_day(serve, mode):
    server = serve(mode, "-v", "--drain", "9" * 30, "--greet-delay", "9" * 30)
    client = server.connect()
    assert client.ask(b"before its time").startswith(b"hello ")
    assert client.line().startswith(b"before ")
    server.term()
    assert client.ask(b"still").startswith(b"still")
    client.leave()
    assert server.ended() == 0


def test_a_second_term_ends_the_server_and_sessions_go_on(serve, mode):
    server = serve(mode, "-v", "--drain", "60")
    client = server.connect()
    assert client.greeting()
    server.term()
    assert server.refuses()
    assert server.process.poll() is None
    server.term()
    assert server.ended() == 0
    assert client.ask(b"still").startswith(b"still")


def test_programs_of_helpers_finish_too(serve):
    server = serve("spawn_each", "-v", "--drain", "60", "--workers", "3", "-c100", "-b100")
    clients = server.burst(30)
    server.term()
    assert server.refuses()
    for client in clients:
        client.leave()
    assert server.ended() == 0
    log = server.log.finish()
    ended = re.findall(rb"end (\d+) status 0\n", log)
    assert sorted(ended) == sorted(re.findall(rb" ok (\d+) ", log)) and len(ended) == 30


def test_programs_of_helpers_are_ended_after_the_time(serve):
    server = serve("spawn_each", "-v", "--drain", "0", "--workers", "3", "-c100", "-b100")
    clients = server.burst(30)
    server.term()
    assert server.ended() == 0
    assert [client.line() for client in clients] == [b""] * 30
    assert len(re.findall(rb"end \d+ status 15\n", server.log.finish())) == 30


def test_a_worker_that_dies_is_not_replaced_any_more(serve):
    server = serve("worker_pool", "-v", "--drain", "60", "--workers", "2")
    first, second = server.connect(), server.connect()
    pids = [first.greeting(), second.greeting()]
    assert len(set(pids)) == 2
    server.term()
    assert server.refuses()
    os.kill(pids[0], signal.SIGKILL)
    server.log.find(rb"end \d+ status 9\ntcpserver: status: 1/40\n")
    children = open(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read().split()
    assert children == [str(pids[1])]
    second.leave()
    assert server.ended() == 0


def test_a_worker_that_hangs_is_killed_even_then(serve):
    server = serve("worker_pool", "-v", "--drain", "600", "--workers", "1", env={"PING_SECONDS": "0.05"})
    client = server.connect()
    assert client.greeting()
    client.sock.sendall(b"hang\n")
    server.term()
    server.log.find(rb"end \d+ status 9\n")
    assert server.ended() == 0


# limits of the system


def limited(soft, hard, which=resource.RLIMIT_NOFILE):
    return lambda: resource.setrlimit(which, (soft, hard))


@pytest.mark.parametrize("mode", ["fork_each", "spawn_each"])
def test_programs_have_the_limit_of_descriptors_we_were_started_with(serve, mode):
    server = serve(mode, "-v", "-c1000", preexec_fn=limited(200, 3000))
    client = server.connect()
    assert client.greeting()
    assert client.ask(b"limit n") == b"200\n"


def test_workers_have_as_many_descriptors_as_they_may(serve):
    server = serve("worker_pool", "-v", "-c1000", "--workers", "1", preexec_fn=limited(200, 3000))
    pid = server.connect().greeting()
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (3000, 3000)
    server.log.find(rb"^tcpserver: status: 0/")


def test_the_shortfall_is_said_whenever_the_limit_is_too_high(serve, tmp_path):
    (tmp_path / "limit").write_text("100")
    server = serve("worker_pool", "-v", "-c", "./limit", "--workers", "2", preexec_fn=limited(100, 164))
    assert server.connect().greeting()
    server.log.find(rb"^tcpserver: status: 0/")
    (tmp_path / "limit").write_text("201")
    server.process.send_signal(signal.SIGHUP)
    server.log.find(
        rb"tcpserver: warning: descriptors for 200 connections only, of 201; to raise it: ulimit -n 165\n"
        rb"tcpserver: status: 1/201\n"
    )


@pytest.mark.parametrize("mode", ["fork_each", "spawn_each"])
def test_more_programs_than_pids_are_too_many(serve, mode):
    server = serve(mode, f"-c{PID_MAX}", "--workers", "3")
    ours = 1 if mode == "fork_each" else 3
    server.log.find(rb"^tcpserver: warning: processes for (\d+) connections only, of %d; to raise it: \S.*\n" % PID_MAX)
    found = re.search(rb"processes for (\d+)", server.log.text)
    assert int(found[1]) <= PID_MAX - ours  # less where a control group has a limit
    assert b"warning" not in serve(mode, "-q", f"-c{PID_MAX}").log.text


NOBODY = 65534


@pytest.fixture
def tmp_path(open_path):
    """Others are at home here, too."""
    return open_path


@pytest.fixture
def stranger():
    """What Popen needs to run as a uid that has no other processes; the limit of its processes is (soft, hard)."""
    if os.getuid():
        pytest.skip("needs root")
    uid = 2_000_000_000 + time.monotonic_ns() // 1000 % 100_000_000

    def become(soft, hard):
        def work():
            resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(uid)

        return {"preexec_fn": work}

    return become


@pytest.mark.parametrize("mode", ["fork_each", "spawn_each"])
def test_the_limit_of_processes_is_raised_for_us_alone(serve, mode, stranger):
    server = serve(mode, "-v", "-c40", "--workers", "1", **stranger(5, 60))
    clients = [server.connect() for _ in range(10)]
    assert all(client.greeting() for client in clients)
    assert clients[0].ask(b"limit u" if os.readlink("/bin/sh").endswith("bash") else b"limit p") == b"5\n"
    server.log.find(rb"^tcpserver: status: 0/")


@pytest.mark.parametrize("mode", ["fork_each", "spawn_each"])
def test_what_cannot_be_raised_enough_is_said(serve, mode, stranger):
    server = serve(mode, "-v", "-c40", "--workers", "1", **stranger(5, 30))
    server.log.find(rb"^tcpserver: warning: processes for 29 connections only, of 40; to raise it: ulimit -u 41\n")


# the status


def status(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(path))
        data = b""
        while piece := sock.recv(65536):
            data += piece
    return status_wire.unpack(data)


def status_with_numbers(path, server):
    """Return the status once its connections have the numbers of the log: those that a helper has given come later."""
    numbers = sorted(map(int, re.findall(rb" ok (\d+)", server.log.text)))

    def read():
        said = status(path)
        return said if sorted(row["number"] for row in said["connections"]) == numbers else None

    return until(read, lambda: f"{status(path)}, {numbers}")


def test_who_is_connected(serve, mode, tmp_path):
    place = tmp_path / "status"
    before = time.time() - 1
    server = serve(mode, "-v", "-c7", "--workers", "2", "--status-socket", "status", "--drain", "60")
    clients = [server.connect(ip) for ip in ("127.0.0.2", "127.0.0.3")]
    pids = [client.greeting() for client in clients]
    server.log.find(rb" ok (\d+)", 2)
    assert clients[0].ask(b"x" * 1000)
    said = status_with_numbers(place, server)
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
    assert (said["server"], said["pid"]) == ("tcpserver", server.process.pid)
    assert said["serving_mode"] == mode.replace("_", " ")
    assert (said["limit"], said["count"], said["is_ending"]) == (7, 2, False)
    assert said["listening"] == [f"127.0.0.1:{server.port}"]
    assert before <= said["since"] <= said["now"] <= time.time()
    if mode == "worker_pool":
        assert sorted(said["workers"], key=lambda worker: worker["pid"]) == [
            {"pid": pid, "sessions": 1} for pid in sorted(pids)
        ]
    elif mode == "fork_each":
        assert said["workers"] == []
    first, second = said["connections"]
    assert (first["protocol"], first["ip"]) == ("TCP", "127.0.0.2")
    assert first["port"] == clients[0].sock.getsockname()[1]
    assert first["since"] <= second["since"] <= said["now"]
    assert first["state"] == second["state"] == "established"
    assert first["received"] == 1001 and second["received"] == 0
    assert first["idle_ms"] <= (time.time() - before) * 1000 and second["sent"] > 0
    clients[1].leave()
    server.log.find(rb"status: 1/7\n", 2)
    assert [connection["ip"] for connection in status(place)["connections"]] == ["127.0.0.2"]
    server.term()
    assert server.refuses()
    assert status(place)["is_ending"] is True
    clients[0].leave()
    assert server.ended() == 0
    assert not place.exists()


def test_programs_of_helpers_have_their_own_numbers(serve, tmp_path):
    server = serve("spawn_each", "-v", "--workers", "3", "-c100", "-b100", "--status-socket", "status")
    server.burst(30)
    server.log.find(rb" ok (\d+)", 30)
    said = status_with_numbers(tmp_path / "status", server)
    assert 0 < sum(worker["sessions"] for worker in said["workers"]) < 30 and len(said["workers"]) == 2


def test_ipv4_and_ipv6_clients_of_one_socket(serve, tmp_path):
    try:
        server = serve("worker_pool", "-v", "--status-socket", "./status", host=":0")
        clients = [server.connect(ip) for ip in ("127.0.0.1", "::1")]
    except OSError:
        pytest.skip("no IPv6 here")
    assert all(client.greeting() for client in clients)
    said = status(tmp_path / "status")
    assert said["listening"] == [f"[::]:{server.port}"]
    assert [(row["protocol"], row["ip"], row["state"]) for row in said["connections"]] == [
        ("TCP", "127.0.0.1", "established"),
        ("TCP6", "::1", "established"),
    ]


def test_unix_clients_have_no_state(serve, tmp_path):
    path = str(tmp_path / "serve")
    server = serve("spawn_each", "--status-socket", "status", host=f"127.0.0.1,{path}")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        assert sock.recv(6) == b"hello "
        said = status(tmp_path / "status")
    assert said["listening"] == [f"127.0.0.1:{server.port}", path]
    (row,) = said["connections"]
    assert (row["protocol"], row["ip"], row["port"]) == ("UNIX", "unix", 0)
    assert [row[name] for name in ("state", "received", "sent", "idle_ms")] == [None] * 4


def test_who_does_not_read_holds_up_nobody(serve, mode, tmp_path):
    server = serve(mode, "-v", "-c300", "-b300", "--status-socket", "status")
    lazy = []
    for _ in range(10):
        lazy.append(socket.socket(socket.AF_UNIX))
        lazy[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        lazy[-1].connect(str(tmp_path / "status"))
    clients = [server.connect() for _ in range(20)]
    assert all(client.greeting() for client in clients)
    for sock in lazy:
        sock.close()
    assert status(tmp_path / "status")["count"] == 20


def test_a_socket_that_was_left_is_replaced_and_nothing_else(serve, tmp_path):
    path = tmp_path / "status"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    server = serve("spawn_each", "--status-socket", "status")
    assert status(path)["pid"] == server.process.pid
    other = serve("spawn_each", "--status-socket", "status")
    assert (other.port, other.ended()) == (0, 111)
    assert other.log.finish() == b"tcpserver: fatal: unable to bind ./status: address already used\n"
    (tmp_path / "file").touch()
    other = serve("spawn_each", "--status-socket", "file")
    assert (other.port, other.ended()) == (0, 111)
    assert (tmp_path / "file").exists()
    server.process.kill()
    assert server.ended() == -signal.SIGKILL
    assert status_of_the_next(serve, path)


def status_of_the_next(serve, path):
    server = serve("worker_pool", "--status-socket", "status")
    return status(path)["pid"] == server.process.pid


def test_pytcptop_shows_it(serve, run, tmp_path):
    server = serve("worker_pool", "--workers", "1", "--status-socket", "status")
    worker = server.connect("127.0.0.2").greeting()
    shown = run("pytcptop", str(tmp_path / "status"))
    lines = shown.out.decode().splitlines()
    assert re.fullmatch(rf"tcpserver {server.process.pid}: 127.0.0.1:{server.port}; 1/40, up \d+s", lines[0])
    assert lines[1:3] == [f"worker pool, worker {worker}: 1", ""]
    assert re.match(r" *NUMBER  PROTO  CLIENT     ", lines[3])
    assert re.fullmatch(rf" *{PID_MAX + 1}  TCP    127.0.0.2 +\d+ +\d+s +\d+s  established +0 +\d+", lines[4])
    assert (shown.code, shown.err, len(lines)) == (0, b"", 5)


def test_pytcptop_refreshes_on_a_terminal_until_q(serve, tmp_path):
    server = serve("worker_pool", "--status-socket", "status")
    ours, theirs = pty.openpty()
    import termios

    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [sys.executable, f"{ROOT}/bin/pytcptop", str(tmp_path / "status")],
        stdin=theirs,
        stdout=theirs,
        env={"PATH": os.environ["PATH"]},
    )
    text = b""

    def show(mark):
        nonlocal text
        text = read_until(ours, lambda text: mark in text, text)

    try:
        show(b"; 0/40")
        assert server.connect("127.0.0.9").greeting()
        show(b"; 1/40")
        show(b"127.0.0.9")
        os.write(ours, b"q")
        show(b"\x1b[?25h")
        assert process.wait(30) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
