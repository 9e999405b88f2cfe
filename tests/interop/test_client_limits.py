"""Limits of clients behind the real server: floods meet theirs while a good client is served, in workers and in forks.

Floods without end, and many more of them, are rows of the bench.
"""

import os
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

from pyqmail.system.cdb import write_cdb
from pyqmail.tcp.rules.source import compile_lines
from tests.waiting import until

ROOT = pathlib.Path(__file__).parent.parent.parent
HELLO = b"HELO flood\r\nMAIL FROM:<a@b>\r\n"
END = b"421 too many errors (#4.7.0)\r\n"
FLOODS = {
    # what it sends behind HELLO, and no more: then nothing of it is unread when it is closed, and it reads the reply
    # HELO is the first of the 100 commands that bring no mail
    "noop":    b"NOOP\r\n" * 119,
    "rset":    b"RSET\r\n" * 119,
    "unknown": b"XXXX\r\n" * 20,
    "rcpt":    b"RCPT TO:<c@d>\r\n" * 2020,
    "quoted":  b'RCPT TO:<"%b"@d>\r\n' % (b"a" * 5000) * 20,
}  # fmt: skip
OF_EACH = 10


@pytest.fixture(params=["2", "0"], ids=["workers", "a fork each"])
def serve(request, home):
    """serve(*options) -> the port of a server; its log is home/log.  A soft limit that is late lets floods end soon."""
    running = []
    for name, text in (("softerrorlimit", b"20\n"), ("errordelay", b"1\n"), ("clientconnections", b"0\n")):
        (pathlib.Path(home.control) / name).write_bytes(text)
    program = pathlib.Path(home.path) / "queue-program"
    program.write_text("#!/bin/sh\ncat >/dev/null\ncat <&1 >/dev/null\n")
    program.chmod(0o755)
    environ = {
        "PATH": f"{ROOT}/bin:{os.environ['PATH']}", "PYQMAIL_HOME": home.path, "QMAILQUEUE": "./queue-program",
    }  # fmt: skip

    def start(*options):
        words = ["-1RHl0", "-c100", "--workers", request.param, *options, "127.0.0.1", "0", "pysmtpd"]
        with open(f"{home.path}/log", "wb") as log:
            running.append(
                subprocess.Popen(
                    [sys.executable, f"{ROOT}/bin/pytcpserver", *words], stdout=subprocess.PIPE, stderr=log, env=environ
                )
            )
        return int(running[-1].stdout.readline())

    yield start
    for server in running:
        server.terminate()
        server.wait()
        server.stdout.close()


class Flood:
    """One client; `said` is all it has heard once it is over."""

    def __init__(self, port, sent):
        self.said = b""
        self.sock = socket.create_connection(("127.0.0.1", port), 60)
        self.thread = threading.Thread(target=self.send, args=(sent,))
        self.reader = threading.Thread(target=self.read)
        self.thread.start()
        self.reader.start()

    def send(self, sent):
        self.sock.sendall(HELLO + sent)

    def read(self):
        while data := self.sock.recv(65536):
            self.said += data
        self.thread.join()
        self.sock.close()


def send_message(port):
    """Send one as a good client does; return the codes of the replies."""
    codes = []
    with socket.create_connection(("127.0.0.1", port), 60) as sock, sock.makefile("rb") as replies:
        for words in (b"", b"HELO good\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"x\r\n.\r\n",
                      b"QUIT\r\n"):  # fmt: skip
            sock.sendall(words)
            codes.append(int(replies.readline()[:3]))
    return codes


def test_floods_meet_their_limit_and_a_good_client_is_served(serve, home):
    port = serve()
    floods = [(name, Flood(port, FLOODS[name])) for name in FLOODS for _ in range(OF_EACH)]
    served = []
    until(lambda: served.append(send_message(port)) or not any(flood.reader.is_alive() for _, flood in floods))
    assert set(map(tuple, served)) == {(220, 250, 250, 250, 354, 250, 221)}
    assert {(name, flood.said[-len(END) :]) for name, flood in floods} == {(name, END) for name in FLOODS}
    counts = {(name, flood.said.count(b"\r\n")) for name, flood in floods}
    assert counts == {(name, 3 + sent.count(b"\r\n") + 1) for name, sent in FLOODS.items()}
    lines = pathlib.Path(f"{home.path}/log").read_bytes().splitlines()
    ends = [line for line in lines if b": too many errors, last refused: " in line]
    assert len(ends) == len(floods) and all(line.startswith(b"qmail-smtpd: client 127.0.0.1: ") for line in ends)


def test_who_speaks_before_the_greeting_is_refused(serve, home):
    """It is not waited for any longer."""
    with socket.create_connection(("127.0.0.1", serve("--greet-delay", "600")), 60) as sock:
        sock.sendall(b"EHLO spam.example\r\n")
        assert sock.makefile("rb").readline() == b"554 SMTP protocol violation\r\n"
    line = b"qmail-smtpd: client 127.0.0.1: it spoke before the greeting\n"
    assert pathlib.Path(f"{home.path}/log").read_bytes() == line


@pytest.fixture
def in_workers(home):
    """in_workers(*options, **controls) -> (port, process) of a pytcpserver with two workers and a status socket."""
    running = []

    def start(*options, **controls):
        for name, text in controls.items():
            (pathlib.Path(home.control) / name).write_bytes(text)
        words = ["-1RHl0", "-c200", "--workers", "2", "--status-socket", f"{home.path}/status", *options]
        environ = {"PATH": f"{ROOT}/bin:{os.environ['PATH']}", "PYQMAIL_HOME": home.path}
        program = [sys.executable, f"{ROOT}/bin/pytcpserver", *words, "127.0.0.1", "0", "pysmtpd"]
        running.append(subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ))
        return int(running[-1].stdout.readline()), running[-1]

    yield start
    for server in running:
        server.terminate()
        server.wait()
        server.stdout.close()


class Client:
    """A client; ask() sends lines and returns as many replies."""

    def __init__(self, port, first=b""):
        self.sock = socket.create_connection(("127.0.0.1", port), 60)
        self.sock.sendall(first)
        self.file = self.sock.makefile("rb")
        self.greeting = self.file.readline()

    def ask(self, *lines):
        self.sock.sendall(b"".join(line + b"\r\n" for line in lines))
        return [self.file.readline() for _ in lines]

    def close(self):
        self.file.close()
        self.sock.close()


def lines_of_top(home):
    words = [sys.executable, f"{ROOT}/bin/pytcptop", "--once", f"{home.path}/status"]
    return subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()


def top(home):
    """Return what pytcptop says of clients that are limited, without the times."""
    lines = lines_of_top(home)
    return [line.partition(", the last")[0] for line in lines if line.startswith("limited: ")]


def workers_of(process):
    return [int(pid) for pid in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_messages_and_recipients_are_counted_for_all_workers_together(in_workers, home):
    port, _ = in_workers(clientmessages=b"25/1h", clientrecipients=b"40/1h", errorlimit=b"0", softerrorlimit=b"0")
    clients = [Client(port) for _ in range(10)]
    for client in clients:  # all at once, before any is heard
        client.sock.sendall(b"".join([b"MAIL FROM:<a@b>\r\nRSET\r\n"] * 5))
    replies = [[client.file.readline() for _ in range(10)] for client in clients]
    mails = [reply for said in replies for reply in said[::2]]
    assert (mails.count(b"250 ok\r\n"), mails.count(b"450 too much mail (#4.7.1)\r\n")) == (25, 25)
    assert top(home) == ["limited: 127.0.0.1 by clientmessages, 25 refused"]
    (pathlib.Path(home.control) / "clientmessages").write_bytes(b"0")  # from the next connection on
    for client in clients:
        client.close()

    def is_unlimited():
        client = Client(port)
        replies = client.ask(b"MAIL FROM:<a@b>", *[b"RCPT TO:<c@no>"] * 50)
        client.close()
        return replies if replies[0] == b"250 ok\r\n" else None

    said = []
    until(lambda: said.append(is_unlimited()) or said[-1])
    refused = b"450 too many recipients (#4.7.1)\r\n"
    assert [reply == refused for reply in said[-1][1:]] == [False] * 40 + [True] * 10


def test_new_connections_are_counted_and_a_killed_worker_gives_back_what_it_held(in_workers, home):
    port, process = in_workers(clientrate=b"8/1d", clientconnections=b"4")
    clients = [Client(port) for _ in range(5)]
    assert [client.greeting[:4] for client in clients] == [b"220 "] * 4 + [b"421 "]
    assert top(home) == ["limited: 127.0.0.1 by clientconnections, 1 refused"]
    for pid in workers_of(process):
        os.kill(pid, 9)
    for client in clients:
        assert client.file.read() == b""
        client.close()
    until(lambda: "; 0/200, " in lines_of_top(home)[0])
    greetings = []
    until(lambda: greetings.append(Client(port)) or greetings[-1].greeting.startswith(b"421 "))
    # those of before the death count still: 4 of 8, so that 4 more began, and the connections do not
    assert [client.greeting[:4] for client in greetings] == [b"220 "] * 4 + [b"421 "]
    for client in greetings[:-1]:
        client.ask(b"QUIT")
        client.close()
    last = []
    until(lambda: last.append(Client(port).greeting) or any("clientrate" in line for line in top(home)))
    assert set(last) == {b"421 too many connections (#4.7.0)\r\n"}


def test_a_client_behind_a_proxy_is_counted_by_its_own_address(in_workers, home):
    port, _ = in_workers("--proxy", "127.0.0.1", clientmessages=b"1/1h")
    for ip, replies in [(1, b"2"), (2, b"2"), (1, b"4")]:
        client = Client(port, b"PROXY TCP4 192.0.2.%d 198.51.100.1 49152 25\r\n" % ip)
        assert client.ask(b"MAIL FROM:<a@b>")[0][:1] == replies
        client.close()
    for ip in (b"2001:db8::1", b"2001:db8::2"):
        client = Client(port, b"PROXY TCP6 %b 2001:db8:1::1 49152 25\r\n" % ip)
        client.ask(b"MAIL FROM:<a@b>")
        client.close()
    assert top(home) == [
        "limited: 2001:db8::/64 by clientmessages, 1 refused",
        "limited: 192.0.2.1 by clientmessages, 1 refused",
    ]


def test_who_may_relay_is_not_limited(in_workers, home, monkeypatch):
    monkeypatch.chdir(home.path)
    write_cdb("rules.cdb", "rules.tmp", compile_lines(b'127.:allow,RELAYCLIENT=""\n:allow\n'))
    port, _ = in_workers("-x", "rules.cdb", clientmessages=b"1/1h", clientconnections=b"1", clientrate=b"1/1h")
    clients = [Client(port) for _ in range(3)]
    assert [client.ask(b"MAIL FROM:<a@b>", b"MAIL FROM:<a@b>")[-1] for client in clients] == [b"250 ok\r\n"] * 3
    for client in clients:
        client.close()


def test_the_options_of_the_server_come_before_the_built_in_limit(in_workers):
    port, _ = in_workers("--per-address", "60")
    clients = [Client(port) for _ in range(52)]
    assert {client.greeting[:4] for client in clients} == {b"220 "}
    for client in clients:
        client.close()


def test_the_built_in_limit_of_connections(in_workers):
    port, _ = in_workers()
    clients = [Client(port) for _ in range(52)]
    greetings = [client.greeting for client in clients]
    assert [greeting[:4] for greeting in greetings[:50]] == [b"220 "] * 50
    assert greetings[50:] == [b"421 too many connections (#4.7.0)\r\n"] * 2
    for client in clients:
        client.close()


def test_where_each_connection_has_a_process_it_is_said_that_nobody_counts(home):
    (pathlib.Path(home.control) / "clientmessages").write_bytes(b"1/1h")
    environ = {"PATH": os.environ["PATH"], "PYQMAIL_HOME": home.path}
    sent = b"MAIL FROM:<a@b>\r\nRSET\r\nMAIL FROM:<a@b>\r\nQUIT\r\n"
    done = subprocess.run([sys.executable, f"{ROOT}/bin/pysmtpd"], input=sent, capture_output=True, env=environ)
    assert [line[:3] for line in done.stdout.splitlines()] == [b"220", b"250", b"250", b"250", b"221"]
    line = b"qmail-smtpd: warning: clientmessages does not hold: only a worker of pytcpserver counts clients\n"
    assert done.stderr == line
