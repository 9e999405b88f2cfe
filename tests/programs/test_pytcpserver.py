"""pytcpserver with pysmtpd behind it: in workers, in a process for each connection, and through a chain.

Lines, environment and command line are compared with the original's in tests/interop/test_tcpserver.py, the
hand-over is tried out in tests/tcp/serving/test_worker_pool.py.
"""

import os
import signal
import socket
import subprocess
import sys

import pytest

from pyqmail.system.cdb import write_cdb
from pyqmail.tcp.rules.source import compile_lines

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PID_MAX = int(open("/proc/sys/kernel/pid_max").read())


@pytest.fixture
def serve(home):
    """serve(options, program) -> (process, port) of a running pytcpserver with the private home."""
    running = []

    def start(options, program):
        process = subprocess.Popen(
            [sys.executable, f"{ROOT}/bin/pytcpserver", "-1vHRl0", *options, "127.0.0.1", "0", *program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": f"{ROOT}/bin:{os.environ['PATH']}", "PYQMAIL_HOME": home.path},
        )
        running.append(process)
        return process, int(process.stdout.readline() or process.stderr.read())

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


WAYS = [
    # options            program                    has a process of its own
    (["--workers", "1"], ["pysmtpd"],               False),
    (["--workers", "0"], ["pysmtpd"],               True),
    ([],                 ["pyenvdir", "env", "pysmtpd"], False),
    ([],                 ["env", "pysmtpd"],        True),
    ([],                 [f"{ROOT}/bin/pysmtpd"],   False),
    ([],                 ["pyenvdir", "env", "pyrblsmtpd", "pyfixcrio", "pysmtpd"], False),
    (["--workers", "0"], ["pyenvdir", "env", "pysmtpd"], True),
    ([],                 ["pysetlock", "lock", "pysmtpd"], True),
    ([],                 ["pyenvdir", "env", "pysoftlimit", "-o", "50", "pysmtpd"], True),
]  # fmt: skip


@pytest.mark.parametrize("options, program, has_process", WAYS)
def test_every_way_serves_the_same(serve, tmp_path, monkeypatch, options, program, has_process):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "env").mkdir()
    process, port = serve(options, program)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock, sock.makefile("rb") as replies:
        assert replies.readline() == b"220 here.example ESMTP\r\n"
        sock.sendall(b"QUIT\r\n")
        assert replies.readline() == b"221 here.example\r\n"
        assert replies.readline() == b""
    lines = [process.stderr.readline() for _ in range(6)]
    number = int(lines[2].split()[2])
    assert (number <= PID_MAX) == has_process
    assert lines[0] == lines[5] == b"tcpserver: status: 0/40\n"
    assert lines[1] == b"tcpserver: status: 1/40\n"
    assert lines[3].startswith(b"tcpserver: ok %d 0:127.0.0.1:%d :127.0.0.1::" % (number, port))
    assert lines[4] == b"tcpserver: end %d status 0\n" % number
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


def put(kind):
    """Put something that is no rules file at rules.cdb."""
    if kind == "directory":
        os.mkdir("rules.cdb")
    elif kind == "fifo":
        os.mkfifo("rules.cdb")
    elif kind == "loop":
        os.symlink("rules.cdb", "rules.cdb")
    else:
        good_rules("rules.cdb")
        with open("rules.cdb", "r+b") as file:
            if kind == "endless":
                file.write(b"\0\0\0\0\xff\xff\xff\xff" * 256)
            file.truncate({"empty": 0, "cut": 2060, "endless": 2048}[kind])


def good_rules(path):
    write_cdb(path, f"{path}.tmp", compile_lines(b"127.0.0.1:allow\n:deny\n"))


BROKEN = ["directory", "fifo", "loop", "empty", "cut", "endless"]


@pytest.mark.parametrize("options, program, has_process", [*WAYS[:2], *WAYS[3:4]])
def test_rules_that_cannot_be_read_let_nobody_in(serve, tmp_path, monkeypatch, options, program, has_process):
    monkeypatch.chdir(tmp_path)
    good_rules("rules.cdb")
    _, port = serve([*options, "-xrules.cdb"], program)
    for kind in BROKEN:
        greet(port, b"220 here.example ESMTP\r\n")
        os.rename("rules.cdb", "good.cdb")
        put(kind)
        greet(port, b"")
        os.rename("rules.cdb", kind)
        os.rename("good.cdb", "rules.cdb")


def greet(port, wanted, client=""):
    place, own = ("127.0.0.1", port), (client, 0)
    with socket.create_connection(place, 30, own) as sock, sock.makefile("rb") as replies:
        assert replies.readline() == wanted


def test_a_limit_does_not_count_for_who_is_exempt(serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cdb("rules.cdb", "rules.tmp", compile_lines(b'127.0.0.1:allow,RELAYCLIENT=""\n:allow\n'))
    _, port = serve(["-xrules.cdb", "--per-address", "0", "--exempt", "RELAYCLIENT"], ["pysmtpd"])
    greet(port, b"220 here.example ESMTP\r\n", "127.0.0.1")
    greet(port, b"", "127.0.0.2")


@pytest.mark.parametrize("arguments", [["--workers", "x"], ["--workers"], ["--worker", "1"], ["--workers=-1"]])
def test_workers_is_a_number(run, arguments):
    result = run("pytcpserver", *arguments, "127.0.0.1", "0", "true")
    assert result.code == 100
    assert result.err.endswith(b" host port program\n")


BACKLOG = [
    # more than there is  verbosity  what is said
    (1,                   [],        True),
    (0,                   [],        False),
    (1,                   ["-q"],    False),
]  # fmt: skip


@pytest.mark.parametrize("more, options, is_said", BACKLOG)
def test_a_backlog_that_the_kernel_cuts_down_is_said(serve, more, options, is_said):
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
        most = int(file.read())
    process, port = serve(["-b", str(most + more), "--workers", "1", *options], ["pysmtpd"])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        assert sock.recv(4) == b"220 "
    process.terminate()
    lines = process.stderr.read().splitlines()
    text = f"backlog for {most} connections only, of {most + 1}; to raise it: sysctl -w net.core.somaxconn={most + 1}"
    assert (f"tcpserver: warning: {text}".encode() in lines) == is_said
    assert any(b"backlog" in line for line in lines) == is_said
