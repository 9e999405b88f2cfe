"""What ps, pidof and /proc show of a whole system: each process its own name and words, however it came to be."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def shown(pid):
    """Return (name, words) of a process, None if it has ended."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as name, open(f"/proc/{pid}/cmdline", "rb") as words:
            return name.read().rstrip(b"\n").decode(), tuple(words.read().rstrip(b"\0").decode().split("\0"))
    except OSError:
        return None


def test_parts_that_were_forked(system):
    """Under pystart nothing is executed; the workers of pytcpserver and of pylspawn are forked when they are needed."""
    system.start_queue()
    system.start_smtp()
    system.start_sender()
    system.mail(b"demo@here.example", [b"demo@here.example"], b"Subject: x\r\n")
    system.log.find(rb"end msg [0-9]+\n")
    expected = {
        ("pyqueued", ("pyqueued",)),
        ("pysend", ("pysend", "--native", "--sessions", "1", "--status-fd", "10", "--starter", "9")),
        ("pystart", ("pystart", "./Maildir/")),  # the starter of lost parts
        ("pylspawn", ("pylspawn", "--native", "./Maildir/")),
        ("pyrspawn", ("pyrspawn", "--native")),
        ("pyclean", ("pyclean",)),
        ("pyresolve", ("pyresolve",)),
        ("pylocal", ("pylocal",)),
        ("pytcpserver", ("pytcpserver", "-v", "-R", "-H", "-lhere.example", "-1", "127.0.0.1", "0", "pysmtpd")),
        ("pysmtpd", ("pysmtpd",)),
    }
    until(lambda: {shown(pid) for pid in system.pids()} >= expected)
    assert {shown(pid) for pid in system.pids()} == expected


CHAINS = [
    ["pysoftlimit", "-o99"],
    ["pysetlock", "-n", "lock"],
    ["pyenvdir", "env"],
    ["pyenvuidgid", "root"],
    ["pypgrphack"],
    ["pyargv0", "pymultilog"],
    ["pysoftlimit", "-o99", "pysetlock", "lock", "pyenvdir", "env", "pypgrphack"],
    pytest.param(["pysetuidgid", "nobody"], marks=pytest.mark.skipif(os.getuid() != 0, reason="needs root")),
    pytest.param(
        ["pysetlock", "lock", "pysetuidgid", "nobody", "pysoftlimit", "-o99"],
        marks=pytest.mark.skipif(os.getuid() != 0, reason="needs root"),
    ),
]


@pytest.mark.parametrize("chain", CHAINS, ids=" ".join)
def test_the_program_at_the_end_of_a_chain(tmp_path, chain):
    """pymultilog: its lock shows that it has begun."""
    (tmp_path / "env").mkdir()
    os.chmod(tmp_path, 0o777)
    environ = {"PATH": f"{ROOT}/bin:{os.environ['PATH']}"}
    words = [f"{ROOT}/bin/{chain[0]}", *chain[1:], "pymultilog", "-*", "=state"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, cwd=tmp_path, env=environ, bufsize=0) as process:
        process.stdin.write(b"x\n")
        while not os.path.exists(tmp_path / "state") and process.poll() is None:
            pass
        assert shown(process.pid) == ("pymultilog", ("pymultilog", "-*", "=state"))
        if shutil.which("pidof"):
            found = subprocess.run(["pidof", "pymultilog"], capture_output=True, text=True).stdout.split()
            assert str(process.pid) in found
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.fixture
def place():
    """A home that everybody can read."""
    with tempfile.TemporaryDirectory(prefix="pyq", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        os.mkdir(f"{folder}/control")
        with open(f"{folder}/control/me", "w") as file:
            file.write("here.example\n")
        yield folder


def test_a_chain_in_a_server(place):
    """-u: after that /proc/self is root's, and a child shows what it becomes all the same."""
    options = ["-u", "65534", "-g", "65534"] if os.getuid() == 0 else []
    words = [sys.executable, f"{ROOT}/bin/pytcpserver", "-1QRHl0", *options, "127.0.0.1", "0", "pyfixcrio", "pysmtpd"]
    environ = {"PATH": f"{ROOT}/bin:{os.environ['PATH']}", "PYQMAIL_HOME": place}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environ) as server:
        try:
            port = int(server.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
                sock.recv(1)
                with open(f"/proc/{server.pid}/task/{server.pid}/children") as file:
                    names = {shown(pid)[0] for pid in file.read().split()}
                assert names <= {"pysmtpd", "pyfixcrio"} and names
        finally:
            server.terminate()
