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
    for name, text in (("softerrorlimit", b"20\n"), ("errordelay", b"1\n")):
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
