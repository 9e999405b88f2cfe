"""Sources with real sockets: the server sees which address mail comes from, and under which name.

The addresses are of 127.0.0.0/8, all of which are this machine's; 192.0.2.1 is nobody's.
"""

import re
import signal
import socketserver
import threading
from collections import Counter

import pytest

from tests.waiting import until

ONE, TWO, ABSENT = b"127.0.0.2", b"127.0.0.3", b"192.0.2.1"
CONTENT = b"Subject: x\r\n\r\nhello\r\n"


class Sink:
    """An SMTP server that takes everything; seen: (address of the client, name it greeted with) of each message."""

    def __init__(self):
        self.seen, sink = [], self

        class Session(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"220 sink.example\r\n")
                name = b""
                while line := self.rfile.readline():
                    word = line[:4].upper()
                    if word in (b"EHLO", b"HELO"):
                        name = line[5:].strip()
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        while self.rfile.readline() not in (b".\r\n", b""):
                            pass
                        sink.seen.append((self.client_address[0].encode(), name))
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 100

        self._server = Server(("127.0.0.1", 0), Session)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def sink():
    one = Sink()
    yield one
    one.close()


def started(system, sink, rules):
    """Return the whole system under rules, with mail for remote.example routed to the sink."""
    system.control("smtproutes", b":127.0.0.1:%d\n" % sink.port)
    system.control("destinations", rules)
    compiled = system.run("pydestrules")
    assert compiled.returncode == 0, compiled.stderr
    system.start_queue()
    system.start_smtp()
    system.sender, system.log = system.says("pystart", "./Maildir/", env=system.environ)
    system.log.find(rb"status: local 0/[0-9]+ remote 0/[0-9]+\n")
    return system


def told(system):
    return system.log.text[-3000:].decode(errors="replace")


def test_the_server_sees_the_sources_and_their_names(system, sink):
    pool = b"%%out:%b=one.here.example,%b=two.here.example\n:src=%%out\n" % (ONE, TWO)
    running = started(system, sink, pool)
    for number in range(24):
        running.mail(b"ann@client.example", [b"u@d%d.example" % number], CONTENT)
    until(lambda: len(sink.seen) == 24, lambda: told(running))
    counts = Counter(sink.seen)
    assert set(counts) == {(ONE, b"one.here.example"), (TWO, b"two.here.example")}
    assert min(counts.values()) > 2


def test_an_address_that_is_not_here_holds_up_its_own_mail_alone(system, sink):
    running = started(system, sink, b"%%out:%b,%b\n:src=%%out\n" % (ONE, ABSENT))
    for number in range(24):
        running.mail(b"ann@client.example", [b"u@d%d.example" % number], CONTENT)
    running.log.find(rb"source 192\.0\.2\.1: not an address of this machine: ")
    until(lambda: sink.seen, lambda: told(running))
    until(lambda: waits(running) and not re.search(rb"127\.0\.0\.2", waits(running)), lambda: told(running))
    assert {address for address, _ in sink.seen} == {ONE} and 2 < len(sink.seen) < 24
    assert b"deferral" not in running.log.text and b"dead" not in running.log.text
    domain = re.search(rb"d[0-9]+\.example", running.run("pyqshape").stdout)[0]
    why = running.run("pyqwhy", domain).stdout
    assert domain + b", remote through 192.0.2.1: " in why and b"not an address of this machine" in why
    running.control("destinations", b"%%out:%b\n:src=%%out\n" % ONE)
    assert running.run("pydestrules").returncode == 0
    running.sender.send_signal(signal.SIGHUP)
    until(lambda: len(sink.seen) == 24, lambda: told(running))
    assert {address for address, _ in sink.seen} == {ONE}


def waits(running):
    """Return what waits, by source."""
    return running.run("pyqshape", "--by", "source").stdout
