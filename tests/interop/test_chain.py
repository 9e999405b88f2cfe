"""What stands before a session program: in a worker and in a process for each connection the same, byte for byte.

The chains are real command lines, the lists a real name server's.  Numbers of processes and sessions are PID.
"""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.waiting import read_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = f"{ROOT}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
TXT, A = 16, 1


@pytest.fixture
def serve(tmp_path, name_server):
    """serve(workers, rules, *words) -> Server, in a private home, tmp_path; ./env is a directory of variables."""
    running = []
    for name in ("control", "queue", "run", "env"):
        (tmp_path / name).mkdir()
    (tmp_path / "private").touch()
    (tmp_path / "control/me").write_text("here.example\n")
    (tmp_path / "control/rcpthosts").write_text("here.example\n")
    put_lists(name_server)

    def start(workers, rules, *words, environ=()):
        running.append(Server(tmp_path, name_server, workers, rules, words, dict(environ)))
        return running[-1]

    yield start
    for server in running:
        server.close()


def put_lists(server):
    client = b"1.0.0.127."
    server.zone |= {
        (client + b"bad", TXT): [b"\4Bad!", b"\3\xff x"],
        (client + b"void", TXT): [b"\0"],
        (client + b"good", A): [b"\x7f\0\0\2"],
        client + b"ill": "servfail",
    }


class Server:
    def __init__(self, home, name_server, workers, rules, words, environ):
        environ |= {"PATH": PATH, "PYQMAIL_HOME": str(home)}
        environ |= {name.decode(): value.decode() for name, value in name_server.environ().items()}
        subprocess.run(["pytcprules", "rules.cdb", "tmp"], input=rules, cwd=home, env=environ, check=True)
        self.process = subprocess.Popen(
            ["pytcpserver", "-1vRHl0", "--workers", workers, "-x", "rules.cdb", "127.0.0.1", "0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=environ,
        )
        self.port, self.text = int(self.process.stdout.readline()), b""

    def said(self, count):
        """Return the log once so many connections have ended, without what differs from run to run."""

        def has_ended(text):
            return len(re.findall(rb"(?m)^tcpserver: end .*\n.*\n", text)) >= count

        self.text = read_until(self.process.stderr.fileno(), has_ended, self.text)
        text = re.sub(rb"(pid|ok|deny|end) \d+", rb"\1 PID", self.text)
        return re.sub(rb":\d+\n", b":CLIENT\n", text.replace(b":%d " % self.port, b":PORT "))

    def talk(self, pieces):
        """Send pieces, each after an answer to the one before, and return all that comes until the end."""
        got = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            for piece in pieces:
                got += sock.recv(65536)
                sock.sendall(piece)
            while data := sock.recv(65536):
                got += data
        return got

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)


SESSION = [b"EHLO me\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<x@far.example>\r\n", b"rset\r\n", b"quit\r\n"]
ODD = [b"helo\r\nfoo\r\n", b"\r\n", b"QUIT now\r\n"]
CHAINS = [
    # words before pysmtpd, rules, what the client says
    ("pyrblsmtpd -r bad", b":allow\n", SESSION),
    ("pyrblsmtpd -r bad", b":allow\n", ODD),
    ("pyrblsmtpd -b -r bad", b":allow\n", SESSION),
    ("pyrblsmtpd -r none -r void", b":allow\n", SESSION),
    ("pyrblsmtpd -a good -r bad", b":allow\n", SESSION),
    ("pyrblsmtpd -b -r ill -r bad", b":allow\n", SESSION),
    ("pyrblsmtpd -c -r ill", b":allow\n", SESSION),
    ("pyrblsmtpd -c -a ill -b -r bad", b":allow\n", SESSION),
    ("pyrblsmtpd -i -r bad", b":allow\n", SESSION),
    ("pyrblsmtpd -t0 -r bad", b":allow\n", []),
    ("pyrblsmtpd -t 1 -r bad", b":allow\n", [b"ehlo\r\n"]),
    ("pyrblsmtpd -w 1 -r bad", b":allow\n", ODD),
    ("pyrblsmtpd -W -r bad", b':allow,GREETDELAY="1"\n', ODD),
    ("pyrblsmtpd -r bad", b':allow,RBLSMTPD=""\n', SESSION),
    ("pyrblsmtpd", b':allow,RBLSMTPD="-go away\x07"\n', SESSION),
    (f"pyrblsmtpd -c -r {'x' * 64}", b":allow\n", SESSION),
    ("pyrblsmtpd -q -r bad", b":allow\n", []),
    ("pyenvdir env", b":allow\n", SESSION),
    ("pyenvdir env", b':allow,RELAYCLIENT="@relay"\n', SESSION),
    ("pyenvdir nowhere", b":allow\n", []),
    ("pyenvdir", b":allow\n", []),
    ("pyfixcrio", b":allow\n", [line.replace(b"\r\n", b"\n") for line in SESSION]),
    ("pyfixcrio", b":allow\n", [b"".join(SESSION).replace(b"\r\n", b"\n")]),
    ("pyfixcrio pyrblsmtpd -r bad", b":allow\n", [b"helo\nquit\n"]),
    ("pyenvdir env pyfixcrio pyrblsmtpd -r none", b":allow\n", SESSION),
    ("pyrblsmtpd -r none pyenvdir env pyfixcrio", b":allow\n", SESSION),
]  # fmt: skip


@pytest.mark.parametrize("words, rules, said", CHAINS)
def test_the_same_in_a_worker_and_in_a_process(serve, tmp_path, words, rules, said):
    (tmp_path / "env/RELAYCLIENT").write_text("\n")
    (tmp_path / "env/DATABYTES").write_text("4711\n")
    (tmp_path / "env/TCPREMOTEHOST").write_text("")
    seen = []
    for workers in ("1", "0"):
        server = serve(workers, rules, *words.split(), "pysmtpd")
        seen.append((server.talk(said), server.said(1)))
    assert seen[0] == seen[1]


def is_in_worker(server):
    """Return whether the last connection had no process of its own."""
    return int(re.findall(rb"end (\d+)", server.text)[-1]) > int(open("/proc/sys/kernel/pid_max").read())


@pytest.mark.parametrize("words", ["pyrblsmtpd -r none", "pyenvdir env", "pyfixcrio"])
def test_no_process_is_started_for_a_connection(serve, words):
    server = serve("1", b":allow\n", *words.split(), "pysmtpd")
    server.talk(SESSION)
    server.said(1)
    assert is_in_worker(server)


@pytest.mark.parametrize("words", ["pysetlock lock", "pysoftlimit -o 40", "env", "pyenvdir env pysoftlimit -o 40"])
def test_what_changes_the_process_has_one(serve, words):
    server = serve("1", b":allow\n", *words.split(), "pysmtpd")
    assert server.talk(SESSION).startswith(b"220 here.example")
    server.said(1)
    assert not is_in_worker(server)


def test_the_directory_is_read_for_each_connection_from_where_the_server_began(serve, tmp_path):
    server = serve("1", b":allow\n", "pyenvdir", "./env", "pysmtpd")
    assert b"250 SIZE" in server.talk(SESSION)
    for size in (b"1111", b"2222"):
        (tmp_path / "env/DATABYTES").write_bytes(size + b"\n")
        assert b"SIZE " + size in server.talk(SESSION)
    os.rename(tmp_path / "env", tmp_path / "gone")
    assert server.talk([]) == b""
    text = server.said(4)
    assert b"envdir: fatal: unable to switch to directory ./env: file does not exist\n" in text
    assert b"end PID status 28416\n" in text


def test_what_a_worker_looks_at_once_has_a_process_or_is_said(serve, tmp_path):
    server = serve("1", b":allow\n", "pyenvdir", "env", "pysmtpd")
    server.talk(SESSION)
    (tmp_path / "env/PYQMAIL_HOME").write_text(f"{tmp_path}\n")
    assert server.talk([]) == b""
    assert b"envdir: fatal: PYQMAIL_HOME in env counts at the start of the server only\n" in server.said(2)
    other = serve("1", b":allow\n", "pyenvdir", "env", "pysmtpd")
    assert other.talk(SESSION).startswith(b"220 here.example")
    other.said(1)
    assert not is_in_worker(other)


def test_one_that_is_refused_holds_up_nobody(serve):
    server = serve("1", b"127.:allow\n", "pyrblsmtpd", "-r", "bad", "pysmtpd")
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
        assert slow.recv(100) == b"220 rblsmtpd.local\r\n"
        assert b"451 Bad!" in server.talk([b"x\r\n", b"quit\r\n"])
