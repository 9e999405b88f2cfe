"""pyrspawn as a program: the stock dialects with agents, the native one with real SMTP sessions on loopback."""

import errno
import os
import resource
import select
import socket
import subprocess
import sys

import pytest

from pyqmail.mail.destinations.orders import Opening
from pyqmail.protocol.wires import native_dialect
from pyqmail.protocol.wires.frames import split_strings
from pyqmail.protocol.wires.stock_dialect import StockReports
from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MESSAGE = b"Subject: x\n\n.hello\n"


class Spawner:
    """A running pyrspawn on pipes."""

    def __init__(self, home, *options, env=None):
        self.home = home
        path = f"{ROOT}/bin:{os.environ['PATH']}"
        environ = {"PATH": path, "PYQMAIL_HOME": home.path, **(env or {})}
        self.process = subprocess.Popen(
            [sys.executable, f"{ROOT}/bin/pyrspawn", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            bufsize=0,
        )
        self.unpacker, self.frames = native_dialect.Unpacker(), []

    def send(self, *pieces):
        self.process.stdin.write(b"".join(pieces))

    def read(self, count):
        """Return the next count bytes of its reports."""
        got = b""
        while len(got) < count:
            got += self._piece(count - len(got))
        return got

    def next(self):
        """Return (kind, number, texts) of the next frame."""
        while not self.frames:
            self.frames += self.unpacker.receive(self._piece(65536))
        kind, number, body = self.frames.pop(0)
        return kind, number, split_strings(body)

    def results(self, count):
        """Return {delivery: report} of the next count frames, which must be results."""
        frames = [self.next() for _ in range(count)]
        assert {kind for kind, _, _ in frames} == {native_dialect.RESULT}
        return {int(texts[0]): texts[1] for _, _, texts in frames}

    def counts(self, count):
        """Return {delivery: (carried, accepted)} of the next count results."""
        return {int(texts[0]): (int(texts[2]), int(texts[3])) for _, _, texts in (self.next() for _ in range(count))}

    def end(self):
        """Close its orders; return (exit code, what it still reported, what it said on descriptor 2)."""
        self.process.stdin.close()
        out, err = self.process.stdout.read(), self.process.stderr.read()
        return self.process.wait(timeout=30), out, err

    def kill(self):
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def _piece(self, most):
        assert select.select([self.process.stdout], [], [], 30)[0], "no report within 30 seconds"
        piece = os.read(self.process.stdout.fileno(), most)
        assert piece, self.process.stderr.read()
        return piece


@pytest.fixture
def spawner(home):
    """spawner(*options, env={}) -> Spawner; home has the message 0/7."""
    with open(f"{home.queue}/mess/0/7", "wb") as file:
        file.write(MESSAGE)
    started = []

    def start(*options, env=None):
        started.append(Spawner(home, *options, env=env))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def agent(tmp_path):
    """agent(script) -> path of a program."""

    def make(script):
        path = tmp_path / "agent"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def place(port, host=b"mx.test", address=b"127.0.0.1", **how):
    """Return an Opening with time limits that a test does not reach, unless it says so."""
    how = {"connect_seconds": 30, "greeting_seconds": 30, "reply_seconds": 30, **how}
    return Opening(host, address, port, **how)


def order(slot, path=b"0/7", sender=b"s@x.test", recipient=b"a@d.test"):
    return slot + path + b"\0" + sender + b"\0" + recipient + b"\0"


# the stock dialect

AGENTS = [
    # agent                                                      report
    (r"printf 'r\0Kyes\n\0'", b"Kyes\n"),
    (r"printf 'hbad\n\0Dno\n\0'", b"Dbad\nno\n"),
    (r"printf 'sbusy\n\0'; printf 'Zlater\n\0' >&2", b"Zbusy\nlater\n"),
    (r"printf 'Zlater\n\0'", b"Zlater\n"),
    (r"printf 'Kyes'", b"D"),
    ("exit 0", b"Zqmail-remote produced no output.\n"),
    ("exit 111", b"ZUnable to run qmail-remote.\n"),
    ("exit 1", b"DUnable to run qmail-remote.\n"),
    ("kill -9 $$", b"Zqmail-remote crashed.\n"),
    (
        r'printf "r\0K%s\n\0" "$1 $2 $3 $(cat | tr -d \\n) $(basename $(pwd))"',
        b"Kd.test s@x.test a@d.test Subject: x.hello mess\n",
    ),
]


@pytest.mark.parametrize("script, report", AGENTS)
def test_an_agent_is_run_and_its_words_are_merged(spawner, agent, script, report):
    process = spawner(env={"QMAILREMOTE": agent(script)})
    assert process.read(1) == b"\xff"
    process.send(order(b"\0"))
    assert process.end() == (0, b"\0" + report + b"\0", b"")


def broken(tmp_path, kind):
    """Return the path of a program that cannot be run, each for another reason."""
    path = tmp_path / "broken"
    if kind != "missing":
        head = {"no interpreter": "#!/nowhere/python\n", "env": "#!/usr/bin/env no-such-python\n", "no #!": "hm\n"}
        path.write_text(head.get(kind, "#!/bin/sh\nexec /nowhere/program\n"))
        path.chmod(0o644 if kind == "not executable" else 0o755)
    return {"directory": str(tmp_path), "empty": "", "under a file": "/etc/passwd/x"}.get(kind, str(path))


BROKEN = ["missing", "not executable", "directory", "under a file", "no interpreter", "no #!", "env", "exec in a shell"]


@pytest.mark.parametrize("dialect", [(), ("--wide",), ("--native",)])
@pytest.mark.parametrize("kind", BROKEN)
def test_an_agent_that_cannot_be_run_is_a_deferral(spawner, tmp_path, dialect, kind):
    process = spawner(*dialect, env={"QMAILREMOTE": broken(tmp_path, kind)})
    report = b"ZUnable to run qmail-remote.\n"
    if dialect == ("--native",):
        assert process.next()[0] == native_dialect.HELLO
        process.send(native_dialect.open_session(1, place(25, b"h")))
        assert process.next()[0] == native_dialect.READY
        process.send(native_dialect.deliver(1, b"0/7", b"s@x", [(5, b"a@d.test")]))
        assert process.results(1) == {5: report}
    else:
        process.send(order(b"\5\0" if dialect else b"\5"))
        number = b"\5\0" if dialect else b"\5"
        assert process.end()[1].endswith(number + report + b"\0")


@pytest.mark.parametrize("kind", ["no #!", "env", "exec in a shell", "modules"])
def test_our_own_agent_that_cannot_be_run_is_a_deferral(spawner, tmp_path, kind):
    """pyremote, found in PATH, whose interpreter, or whose modules, have gone."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pyremote").symlink_to(tmp_path / "broken")
    broken(tmp_path, kind)
    if kind == "modules":
        (tmp_path / "broken").write_text(f"#!{sys.executable} -I\nimport pyqmail.no_such_module\n")
    process = spawner(env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"})
    process.send(order(b"\5"))
    assert process.end()[1] == b"\xff\5ZUnable to run qmail-remote.\n\0"


def test_wide_numbers(spawner, agent):
    process = spawner("--wide", env={"QMAILREMOTE": agent(r"printf 'r\0Kyes\n\0'")})
    assert int.from_bytes(process.read(2), "little") > 255
    process.send(order(b"\1\1"))
    assert process.end() == (0, b"\1\1Kyes\n\0", b"")


def test_our_own_agent_delivers(spawner, home, smtp_peer):
    with open(f"{home.control}/smtproutes", "wb") as file:
        file.write(smtp_peer.route())
    process = spawner()
    process.send(order(b"\0") + order(b"\1", recipient=b"b@d.test"))
    code, out, err = process.end()
    report = b"K127.0.0.1 accepted message.\nRemote host said: 250 ok %d\n"
    assert (code, err) == (0, b"")
    assert {text for _, text in StockReports().receive(out[1:])} == {report % 1, report % 2}
    assert {data for _, data in smtp_peer.mails} == {b"Subject: x\r\n\r\n..hello\r\n"}


INVALID = [
    # path, recipient, report
    (b"0/x", b"a@d.test", b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
    (b"", b"a@d.test", b"DInternal error: messid too short. (#5.3.5)\n"),
    (b"1" * 100, b"a@d.test", b"DInternal error: messid too long. (#5.3.5)\n"),
    (b"0/7", b"a", b"DSorry, address must include host name. (#5.1.3)\n"),
    (b"0/8", b"a@d.test", b"Zqmail-spawn unable to open message. (#4.3.0)\n"),
    (b"0", b"a@d.test", b"ZSorry, message has wrong type. (#4.3.5)\n"),
]


@pytest.mark.parametrize("path, recipient, report", INVALID)
def test_invalid_orders(spawner, path, recipient, report):
    process = spawner()
    process.send(order(b"\3", path, recipient=recipient))
    assert process.end() == (0, b"\xff\3" + report + b"\0", b"")


def test_it_forgets_timeouts_at_its_start(spawner, home):
    with open(f"{home.queue}/lock/tcpto", "r+b") as table:
        table.write(b"x" * 1024)
    spawner().end()
    with open(f"{home.queue}/lock/tcpto", "rb") as table:
        assert table.read() == bytes(1024)


def test_no_queue(run, tmp_path):
    assert run("pyrspawn", env={"PYQMAIL_HOME": str(tmp_path)}) == (111, b"", b"")


@pytest.mark.parametrize("option, hello", [("--wide", b"\1\0"), ("--native", b"\0\0\0\6\2\1\0\0\0\1")])
def test_with_few_descriptors_it_makes_one_delivery_at_a_time(home, option, hello):
    words = ["sh", "-c", 'ulimit -n 30; exec "$@"', "x", sys.executable, f"{ROOT}/bin/pyrspawn", option]
    env = {"PYQMAIL_HOME": home.path}
    done = subprocess.run(words, input=b"", capture_output=True, env=env, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, hello, b"")


# the native dialect


def opening(peer, number=1):
    return native_dialect.open_session(number, place(peer.port))


def more(port, host=b"b.test", number=1, **how):
    return native_dialect.more(number, place(port, host, **how))


def deliver(number, *deliveries, path=b"0/7"):
    return native_dialect.deliver(number, path, b"s@x.test", [(d, b"u%d@d.test" % d) for d in deliveries])


def ready(flags=b"", messages=0, recipients=0, host=b"mx.test", address=b"127.0.0.1", number=1):
    texts = [host, address, b"%d" % messages, b"%d" % recipients, flags]
    return native_dialect.READY, number, texts


def closed(carried=0, number=1):
    """What it says of a session that we ended."""
    return native_dialect.CLOSED, number, [b"", b"0", b"", b"%d" % carried]


def failed(stage, code, host=b"mx.test", report=b"ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"):
    return native_dialect.FAILED, 1, [stage, b"%d" % code, host, b"127.0.0.1", report]


READY, WAITING = ready(), (native_dialect.WAITING, 1, [])
CLOSE = native_dialect.pack(native_dialect.CLOSE, 1)
DIED = b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"
GONE = (native_dialect.CLOSED, 1, [b"dialogue", b"0", DIED, b"0"])  # the server has, before it took any mail
GREETING = [(b"S", b"220 x\r\n"), (b"C", b"EHLO here.example\r\n"), (b"S", b"250-x\r\n250 PIPELINING\r\n")]


def mail_for(delivery):
    return b"MAIL FROM:<s@x.test>\r\nRCPT TO:<u%d@d.test>\r\nDATA\r\n" % delivery


def start_native(spawner, env=None):
    process = spawner("--native", env=env)
    kind, number, texts = process.next()
    assert kind == native_dialect.HELLO and number > 100 and not texts
    return process


def unused_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_several_messages_over_one_session(spawner, smtp_peer):
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 10), deliver(1, 11))
    accepted = b"K127.0.0.1 accepted message.\nRemote host said: 250 ok %d\n"
    assert process.results(2) == {10: accepted % 1, 11: accepted % 2}
    process.send(deliver(1, 12, 13))
    assert process.results(2) == {12: accepted % 3, 13: accepted % 3}
    process.send(CLOSE)
    assert process.next() == closed(3)
    assert process.end() == (0, b"", b"")
    assert (smtp_peer.sessions, smtp_peer.farewells) == (1, 1)
    assert [commands.count(b"RCPT") for commands, _ in smtp_peer.mails] == [1, 1, 2]
    assert {data for _, data in smtp_peer.mails} == {b"Subject: x\r\n\r\n..hello\r\n"}


def test_each_recipient_has_its_own_report(spawner, smtp_peer):
    recipients = b"".join(b"RCPT TO:<u%d@d.test>\r\n" % d for d in (1, 2, 3))
    order_bytes = b"MAIL FROM:<s@x.test>\r\n" + recipients + b"DATA\r\n"
    smtp_peer.scripts.append(
        [
            *GREETING,
            (b"C", order_bytes),
            (b"S", b"250 ok\r\n250 ok\r\n550 no\r\n450 later\r\n354 go\r\n"),
            (b"C", b"Subject: x\r\n\r\n..hello\r\n.\r\n"),
            (b"S", b"250 fine\r\n"),
            (b"C", b"QUIT\r\n"),
        ]
    )
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 1, 2, 3))
    assert process.results(3) == {
        1: b"K127.0.0.1 accepted message.\nRemote host said: 250 fine\n",
        2: b"D127.0.0.1 does not like recipient.\nRemote host said: 550 no\nGiving up on 127.0.0.1.\n",
        3: b"Z127.0.0.1 does not like recipient.\nRemote host said: 450 later\nGiving up on 127.0.0.1.\n",
    }
    process.send(CLOSE)
    assert process.next() == closed(1) and not smtp_peer.mismatches


def test_the_next_address_is_tried_when_one_has_failed(spawner, smtp_peer):
    smtp_peer.scripts.append([(b"S", b"421 not me\r\n"), (b"C", b"QUIT\r\n")])
    process, dead = start_native(spawner), unused_port()
    process.send(native_dialect.open_session(1, place(dead, b"a.test")))
    assert process.next() == failed(b"connect", errno.ECONNREFUSED, b"a.test")
    process.send(more(smtp_peer.port))
    kind, number, texts = process.next()
    assert (kind, number, texts[:4]) == (native_dialect.REFUSED, 1, [b"greeting", b"421", b"b.test", b"127.0.0.1"])
    process.send(more(dead, b"c.test"))
    assert process.next() == failed(b"connect", errno.ECONNREFUSED, b"c.test")
    process.send(more(smtp_peer.port, b"mx.test"))
    assert process.next() == READY and smtp_peer.sessions == 2
    process.send(CLOSE)
    assert process.next() == closed()


@pytest.fixture
def silent():
    """A server that says nothing by itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


def test_an_address_beside_one_that_keeps_us_waiting_wins(spawner, smtp_peer, silent):
    process = start_native(spawner)
    process.send(native_dialect.open_session(1, place(silent.getsockname()[1], b"a.test", hedge_seconds=0.01)))
    assert process.next() == WAITING
    process.send(more(smtp_peer.port, b"mx.test", hedge_seconds=30))
    assert process.next() == failed(b"connect", errno.ECANCELED, b"a.test")
    assert process.next() == READY
    with silent.accept()[0] as loser:
        assert loser.recv(100) == b""  # not even EHLO
    process.send(deliver(1, 1))
    assert process.results(1)[1][:1] == b"K"
    process.send(CLOSE)
    assert process.next() == closed(1)


def test_the_first_address_may_win_after_all(spawner, silent):
    process, port = start_native(spawner), silent.getsockname()[1]
    process.send(native_dialect.open_session(1, place(port, b"a.test", hedge_seconds=0.01)))
    assert process.next() == WAITING
    with silent.accept()[0] as first:
        process.send(more(port))
        with silent.accept()[0] as second:
            first.sendall(b"220 x\r\n")
            assert process.next() == failed(b"connect", errno.ECANCELED, b"b.test")
            assert first.recv(100) == b"EHLO here.example\r\n" and second.recv(100) == b""
            first.sendall(b"250 x\r\n")
            assert process.next() == ready(b"p", host=b"a.test")


def test_an_address_that_answers_in_time_is_not_waited_for(spawner, silent):
    process = start_native(spawner)
    process.send(native_dialect.open_session(1, place(silent.getsockname()[1], hedge_seconds=3600)))
    with silent.accept()[0] as first:
        first.sendall(b"220 x\r\n250 x\r\n")
        assert process.next() == ready(b"p")
    process.send(CLOSE)
    assert process.next()[:2] == (native_dialect.CLOSED, 1)


def test_both_addresses_may_refuse(spawner, silent):
    process, port = start_native(spawner), silent.getsockname()[1]
    process.send(native_dialect.open_session(1, place(port, b"a.test")), more(port))
    with silent.accept()[0] as first, silent.accept()[0] as second:
        first.sendall(b"554 no\r\n")
        second.sendall(b"421 no\r\n")
        frames = process.next(), process.next()
        assert {kind for kind, _, _ in frames} == {native_dialect.REFUSED}
        assert sorted(texts[1] for _, _, texts in frames) == [b"421", b"554"]
        process.send(CLOSE)
        assert first.recv(100) == second.recv(100) == b"QUIT\r\n"
        assert process.next() == closed()  # they do not close, and are not waited for


def test_an_address_that_comes_while_another_is_told_our_name_is_kept_for_the_case_that_it_refuses(spawner, silent):
    process, port = start_native(spawner), silent.getsockname()[1]
    process.send(native_dialect.open_session(1, place(port, b"a.test")))
    with silent.accept()[0] as first:
        first.sendall(b"220 x\r\n")
        assert first.recv(100) == b"EHLO here.example\r\n"
        process.send(more(port))
        first.sendall(b"500 eh\r\n")
        assert first.recv(100) == b"HELO here.example\r\n"
        first.sendall(b"550 you\r\n")
        kind, _, texts = process.next()
        assert (kind, texts[:3]) == (native_dialect.REFUSED, [b"helo", b"550", b"a.test"])
        with silent.accept()[0] as second:
            second.sendall(b"220 x\r\n250 x\r\n")
            assert process.next() == ready(b"p", host=b"b.test")


def test_an_address_that_crosses_ready_is_not_answered(spawner, smtp_peer, silent):
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(more(silent.getsockname()[1]), deliver(1, 1), CLOSE)
    assert process.results(1)[1][:1] == b"K"
    assert process.next() == closed(1)
    process.send(more(smtp_peer.port), deliver(1, 2), CLOSE)  # crossed CLOSED
    assert process.end() == (0, b"", b"")
    assert not select.select([silent], [], [], 0)[0]


def test_a_session_that_connects_is_dropped_at_once(spawner, silent):
    process, port = start_native(spawner), silent.getsockname()[1]
    process.send(native_dialect.open_session(1, place(port)), more(port), CLOSE)
    assert process.next() == closed()
    for _ in range(2):
        with silent.accept()[0] as dropped:
            assert dropped.recv(100) == b""


def test_it_connects_from_the_source_under_the_name_it_is_told(spawner, silent):
    process = start_native(spawner)
    told = place(silent.getsockname()[1], source=b"127.0.0.9", helo=b"nine.example")
    process.send(native_dialect.open_session(1, told))
    sock, (address, _) = silent.accept()
    with sock:
        sock.sendall(b"220 x\r\n")
        assert (address, sock.recv(100)) == ("127.0.0.9", b"EHLO nine.example\r\n")


@pytest.mark.parametrize("source", [b"192.0.2.1", b"::1", b"localhost", b"\xff"])
def test_a_source_that_is_not_ours_is_nobodys_fault(spawner, smtp_peer, source):
    process = start_native(spawner)
    process.send(native_dialect.open_session(1, place(smtp_peer.port, source=source)))
    assert process.next() == failed(b"here", errno.EADDRNOTAVAIL)
    process.send(more(smtp_peer.port, b"mx.test"))
    assert process.next() == READY


def test_descriptors_that_run_out_are_nobodys_fault(spawner, smtp_peer):
    process = start_native(spawner)
    pid = process.process.pid
    limits, used = resource.prlimit(pid, resource.RLIMIT_NOFILE), len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, limits[1]))
    process.send(native_dialect.open_session(1, place(smtp_peer.port, helo=b"told.example")))
    report = b"ZSystem resources temporarily unavailable. (#4.3.0)\n"
    assert process.next() == failed(b"here", errno.EMFILE, report=report)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    process.send(more(smtp_peer.port, b"mx.test"))
    assert process.next() == READY


FLAGS = [
    # told                      the server says to EHLO            what it is told, flags of READY
    ({}, b"250-x\r\n250 PIPELINING\r\n", [b"EHLO"], b""),
    ({}, b"250 x\r\n", [b"EHLO"], b"p"),
    ({"no_pipelining": True}, b"250-x\r\n250 PIPELINING\r\n", [b"EHLO"], b"p"),
    ({"no_ehlo": True}, b"250-x\r\n250 PIPELINING\r\n", [b"HELO"], b"hp"),
    ({}, b"500 what\r\n", [b"EHLO", b"HELO"], b"hp"),
]


@pytest.mark.parametrize("told, said, words, flags", FLAGS)
def test_what_a_server_bears_is_told_and_obeyed(spawner, smtp_peer, told, said, words, flags):
    heard = []

    def decide(seen, line):
        heard.append(line)
        return said if line[:4] == b"EHLO" else None

    smtp_peer.decide = decide
    process = start_native(spawner)
    process.send(native_dialect.open_session(1, place(smtp_peer.port, **told)))
    assert process.next() == ready(flags)
    assert [line[:4] for line in heard[1:]] == words


@pytest.mark.parametrize("line, limits", [
    (b"LIMITS MAILMAX=3 RCPTMAX=2", (3, 2)),
    (b"limits rcptmax=2", (0, 2)),
    (b"LIMITS RCPTDOMAINMAX=1 MAILMAX=0 RCPTMAX=1234567", (0, 0)),
    (b"LIMITS MAILMAX RCPTMAX=x", (0, 0)),
])  # fmt: skip
def test_the_limits_that_a_server_announces_are_told(spawner, smtp_peer, line, limits):
    smtp_peer.decide = lambda seen, said: (
        b"250-x\r\n250-PIPELINING\r\n250 " + line + b"\r\n" if said[:4] == b"EHLO" else None
    )
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == ready(b"", *limits)


def test_the_limits_that_a_server_announces_are_kept(spawner, smtp_peer):
    said = b"250-x\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=3 RCPTMAX=2\r\n"
    smtp_peer.decide = lambda seen, line: said if line[:4] == b"EHLO" else None
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == ready(b"", 3, 2)
    process.send(deliver(1, *range(7)))
    assert {report[:1] for report in process.results(6).values()} == {b"K"}
    assert process.next() == (native_dialect.UNSENT, 1, [b"6"])
    assert process.next() == closed(3)
    assert [mail[0].count(b"RCPT") for mail in smtp_peer.mails] == [2, 2, 2]


def test_who_was_not_asked_before_the_announced_limit_does_not_fail_with_the_others(spawner, smtp_peer):
    said = {b"EHLO": b"250-x\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=1 RCPTMAX=1\r\n", b"RCPT": b"550 no\r\n"}
    smtp_peer.decide = lambda seen, line: said.get(line[:4])
    process = start_native(spawner)
    process.send(opening(smtp_peer), deliver(1, 1, 2))
    assert process.next() == ready(b"", 1, 1)
    assert process.results(1)[1][:1] == b"D"
    assert process.next() == (native_dialect.UNSENT, 1, [b"2"])
    assert process.next() == closed()


def test_a_host_that_does_not_answer(spawner):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]  # a full backlog drops what comes
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        process = start_native(spawner)
        process.send(native_dialect.open_session(1, place(full.getsockname()[1], connect_seconds=0.1)))
        assert process.next() == failed(b"connect", errno.ETIMEDOUT)
        for filler in fillers:
            filler.close()


def test_a_name_is_no_address(spawner, smtp_peer):
    process = start_native(spawner)
    process.send(native_dialect.open_session(1, place(smtp_peer.port, address=b"localhost")))
    kind, _, texts = process.next()
    assert (kind, texts[:2]) == (native_dialect.FAILED, [b"connect", b"%d" % errno.EINVAL])


def test_nobody_listens(spawner, smtp_peer):
    process = start_native(spawner)
    process.send(native_dialect.open_session(1, place(unused_port())))
    assert process.next() == failed(b"connect", errno.ECONNREFUSED)
    process.send(CLOSE)
    assert process.next() == closed()


@pytest.mark.parametrize("limits, stage, code, report", [
    ({"greeting_seconds": 0.1}, b"dialogue", errno.ETIMEDOUT, DIED),
    ({"reply_seconds": 0.1}, b"dialogue", errno.ETIMEDOUT, DIED),
])  # fmt: skip
def test_a_server_that_keeps_silent(spawner, silent, limits, stage, code, report):
    process = start_native(spawner)
    process.send(native_dialect.open_session(1, place(silent.getsockname()[1], **limits)))
    with silent.accept()[0] as sock:
        if "reply_seconds" in limits:
            sock.sendall(b"220 x\r\n")
        assert process.next() == failed(stage, code, report=report)


REFUSALS = [
    # what the server says, stage, code, report
    ([(b"S", b"554 no\r\n"), (b"C", b"QUIT\r\n")], native_dialect.REFUSED, b"greeting", b"554",
     b"ZConnected to 127.0.0.1 but greeting failed.\nRemote host said: 554 no\n"),
    ([(b"S", b"421 wait\r\n"), (b"C", b"QUIT\r\n")], native_dialect.REFUSED, b"greeting", b"421",
     b"ZConnected to 127.0.0.1 but greeting failed.\nRemote host said: 421 wait\n"),
    ([(b"S", b"220 x\r\n"), (b"C", b"EHLO here.example\r\n"), (b"S", b"500 eh\r\n"), (b"C", b"HELO here.example\r\n"),
      (b"S", b"550 you\r\n"), (b"C", b"QUIT\r\n")], native_dialect.REFUSED, b"helo", b"550",
     b"ZConnected to 127.0.0.1 but my name was rejected.\nRemote host said: 550 you\n"),
    ([(b"S", b"220 x")], native_dialect.FAILED, b"dialogue", b"0",
     b"ZConnected to 127.0.0.1 but connection died. (#4.4.2)\n"),
    ([(b"S", b"220-x\r\n250 x\r\n"), (b"C", b"QUIT\r\n")], native_dialect.REFUSED, b"greeting", b"0",
     b"ZConnected to 127.0.0.1 but greeting failed.\nRemote host said: 220-x\n250 x\n"),
    ([(b"S", b"554 go away\r\n"), (b"R", b"")], native_dialect.REFUSED, b"greeting", b"554",
     b"ZConnected to 127.0.0.1 but greeting failed.\nRemote host said: 554 go away\n"),
]  # fmt: skip


@pytest.mark.parametrize("script, kind, stage, code, report", REFUSALS)
def test_refusals_before_mail(spawner, smtp_peer, script, kind, stage, code, report):
    smtp_peer.scripts.append(script)
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == (kind, 1, [stage, code, b"mx.test", b"127.0.0.1", report])
    process.send(CLOSE)
    assert process.next() == closed() and not smtp_peer.mismatches


def test_what_was_not_begun_when_the_session_died_comes_back(spawner, smtp_peer):
    smtp_peer.scripts.append([*GREETING, (b"C", mail_for(1)), (b"S", b"250 ok\r\n")])
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 1), deliver(1, 2), deliver(1, 3))
    assert process.results(1) == {1: DIED}
    assert process.next() == (native_dialect.UNSENT, 1, [b"2"])
    assert process.next() == (native_dialect.UNSENT, 1, [b"3"])
    assert process.next() == GONE
    process.send(deliver(1, 4))  # crossed with CLOSED
    assert process.end() == (0, b"", b"")


def test_what_a_server_says_to_no_command_at_all_is_nobodys_answer(spawner, smtp_peer):
    """It has greeted, and closes at MAIL: the session did not begin."""
    smtp_peer.scripts.append([*GREETING, (b"C", mail_for(1))])
    process = start_native(spawner)
    process.send(opening(smtp_peer), deliver(1, 1))
    assert process.next() == READY
    assert process.next() == (native_dialect.UNSENT, 1, [b"1"])
    assert process.next() == GONE


@pytest.mark.parametrize("end, ending", [
    (b"354 go\r\n", GONE[2][:3]),
    (b"421 bye\r\n", [b"data", b"421", b"Z127.0.0.1 failed on DATA command.\nRemote host said: 421 bye\n"]),
])  # fmt: skip
def test_a_session_that_the_server_ends_is_closed_by_itself(spawner, smtp_peer, end, ending):
    smtp_peer.scripts.append([*GREETING, (b"C", mail_for(1)), (b"S", b"250 ok\r\n250 ok\r\n" + end)])
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 1))
    assert process.results(1)[1][:1] == b"Z"
    assert process.next() == (native_dialect.CLOSED, 1, [*ending, b"0"])


def test_lost_after_the_dot(spawner, smtp_peer):
    smtp_peer.scripts.append(
        [
            *GREETING,
            (b"C", mail_for(1)),
            (b"S", b"250 ok\r\n250 ok\r\n354 go\r\n"),
            (b"C", b"Subject: x\r\n\r\n..hello\r\n.\r\n"),
        ]
    )
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 1))
    assert process.results(1) == {1: b"ZConnected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n"}
    assert process.next() == GONE


@pytest.mark.parametrize("farewell, code", [(b"", b"0"), (b"421 idle\r\n", b"421"), (b"250 not asked\r\n", b"250")])
def test_a_kept_session_that_the_server_gave_up(spawner, smtp_peer, farewell, code):
    smtp_peer.scripts.append(
        [
            *GREETING,
            (b"C", mail_for(1)),
            (b"S", b"250 ok\r\n250 ok\r\n354 go\r\n"),
            (b"C", b"Subject: x\r\n\r\n..hello\r\n.\r\n"),
            (b"S", b"250 ok\r\n" + farewell),
        ]
    )
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 1))
    assert process.results(1)[1][:1] == b"K"
    process.send(deliver(1, 2))
    assert process.next() == (native_dialect.UNSENT, 1, [b"2"])
    report = DIED + (b"Remote host said: " + farewell.replace(b"\r", b"") if farewell else b"")
    assert process.next() == (native_dialect.CLOSED, 1, [b"dialogue", code, report, b"1"])


def test_a_server_that_falls_silent(spawner, smtp_peer):
    smtp_peer.scripts.append([*GREETING, (b"C", mail_for(1)), (b"S", b"250 ok\r\n"), (b"C", b"never said")])
    process = start_native(spawner)
    process.send(native_dialect.open_session(1, place(smtp_peer.port, reply_seconds=0.3)), deliver(1, 1))
    assert process.next() == READY
    assert process.results(1) == {1: DIED}
    assert process.next() == GONE


def test_a_server_that_does_not_close_is_not_waited_for(spawner, smtp_peer):
    smtp_peer.scripts.append([*GREETING, (b"C", b"QUIT\r\n"), (b"S", b"221 bye\r\n"), (b"C", b"never said")])
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(CLOSE)
    assert process.next() == closed()
    until(lambda: smtp_peer.mismatches == [(b"", b"never said")])  # it was spawner who hung up


@pytest.mark.parametrize("path, recipient, report", INVALID)
def test_invalid_native_orders_leave_the_session_open(spawner, smtp_peer, path, recipient, report):
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(native_dialect.deliver(1, path, b"s@x.test", [(5, recipient)]), deliver(1, 6))
    results = process.results(2)
    assert results[5] == report and results[6][:1] == b"K"


def test_a_partial_line_is_not_begun(spawner, smtp_peer, home):
    with open(f"{home.queue}/mess/0/8", "wb") as file:
        file.write(b"x")
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 5, path=b"0/8"), deliver(1, 6))
    results = process.results(2)
    assert results[5] == b"DSMTP cannot transfer messages with partial final lines. (#5.6.2)\n"
    assert results[6][:1] == b"K" and len(smtp_peer.mails) == 1


def test_large_and_empty_messages(spawner, smtp_peer, home):
    large = b".0123456789abcdef\n" * 300_000
    for name, content in (("8", large), ("9", b"")):
        with open(f"{home.queue}/mess/0/{name}", "wb") as file:
            file.write(content)
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 1, path=b"0/8"), deliver(1, 2, path=b"0/9"))
    assert {report[:1] for report in process.results(2).values()} == {b"K"}
    assert [data for _, data in smtp_peer.mails] == [large.replace(b".", b"..").replace(b"\n", b"\r\n"), b""]


def test_the_end_of_orders_lets_what_is_in_flight_finish(spawner, smtp_peer):
    process = start_native(spawner)
    process.send(opening(smtp_peer), opening(smtp_peer, 2))
    assert {process.next()[:2], process.next()[:2]} == {(native_dialect.READY, 1), (native_dialect.READY, 2)}
    process.send(deliver(1, 1), deliver(1, 2))
    code, out, err = process.end()
    frames = native_dialect.Unpacker().receive(out)
    assert (code, err) == (0, b"") and smtp_peer.farewells == 2
    assert sorted(kind for kind, _, _ in frames) == [
        native_dialect.RESULT,
        native_dialect.RESULT,
        native_dialect.CLOSED,
        native_dialect.CLOSED,
    ]


def test_a_hundred_sessions_at_once(spawner, smtp_peer):
    process = start_native(spawner)
    process.send(*(opening(smtp_peer, number) for number in range(1, 101)))
    kinds = []
    for _ in range(300):
        kind, number, _ = process.next()
        kinds.append(kind)
        if kind == native_dialect.READY:
            process.send(deliver(number, number), native_dialect.pack(native_dialect.CLOSE, number))
    assert (
        kinds.count(native_dialect.READY)
        == kinds.count(native_dialect.RESULT)
        == kinds.count(native_dialect.CLOSED)
        == 100
    )
    assert len(smtp_peer.mails) == smtp_peer.farewells == 100


def test_an_agent_takes_one_message_for_one_recipient_in_a_session(spawner, agent):
    script = r'if test "$3" = u2@d.test; then printf "hno\n\0DGiving up\n\0"; else printf "r\0K%s\n\0" "$(head -1)"; fi'
    process = start_native(spawner, env={"QMAILREMOTE": agent(script)})
    wanted = {
        1: (deliver(1, 1), b"KSubject: x\n"),
        2: (deliver(2, 2), b"Dno\nGiving up\n"),
    }
    for number, (order_bytes, report) in wanted.items():
        process.send(native_dialect.open_session(number, place(25)))
        assert process.next() == ready(b"", 1, 1, number=number)
        process.send(more(25, number=number), order_bytes, deliver(number, 9))
        frames = process.next(), process.next(), process.next()
        assert sorted(frames[:2]) == [
            (native_dialect.RESULT, number, [b"%d" % number, report, b"0", b"0"]),
            (native_dialect.UNSENT, number, [b"9"]),
        ]
        assert frames[2] == closed(number=number)
    process.send(native_dialect.open_session(3, place(25)), deliver(3, 3, path=b"0/9"))
    assert process.next() == ready(b"", 1, 1, number=3)
    assert process.results(1) == {3: b"Zqmail-spawn unable to open message. (#4.3.0)\n"}
    assert process.next() == closed(number=3)
    process.send(native_dialect.open_session(4, place(25)), native_dialect.pack(native_dialect.CLOSE, 4))
    assert [process.next(), process.next()] == [ready(b"", 1, 1, number=4), closed(number=4)]
    assert process.end() == (0, b"", b"")


def test_an_agent_runs_once_at_a_time_in_a_session(spawner, agent, tmp_path):
    """Each connects by itself: more of them would be more than the queue manager has granted."""
    script = f"mkdir {tmp_path}/runs || exit 1; rmdir {tmp_path}/runs; printf 'r\\0K%s\\n\\0' $3"
    process = start_native(spawner, env={"QMAILREMOTE": agent(script)})
    process.send(native_dialect.open_session(1, place(25)), deliver(1, *range(20)))
    assert process.next() == ready(b"", 1, 1)
    assert process.results(20) == {d: b"Ku%d@d.test\n" % d for d in range(20)}
    assert process.next() == closed()


NONSENSE = [
    b"GET / HTTP/1.0\r\n",
    native_dialect.pack(native_dialect.READY, 1),
    native_dialect.pack(native_dialect.OPEN, 1, b"x\0"),
]


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_ends_it(spawner, nonsense):
    process = start_native(spawner)
    process.send(nonsense)
    assert process.end() == (111, b"", b"qmail-rspawn: fatal: nonsense on descriptor 0\n")


def test_no_name_to_tell(spawner, smtp_peer, home):
    os.unlink(f"{home.control}/me")
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    kind, _, texts = process.next()
    assert (kind, texts[0]) == (native_dialect.FAILED, b"here")
    assert texts[4] == b"ZUnable to read control files. (#4.3.0)\n"
    process.send(more(smtp_peer.port, b"mx.test", helo=b"told.example"))
    assert process.next() == READY


# what a server does not bear


HELO = [(b"S", b"220 x\r\n"), (b"C", b"HELO here.example\r\n"), (b"S", b"250 x\r\n")]
ACCEPTED = b"K127.0.0.1 accepted message.\nRemote host said: 250 ok %d\n"


def deliver_one(process, delivery, number=1, path=b"0/7"):
    """Open a session, deliver once, close it; return the report."""
    process.send(native_dialect.open_session(number, place(process.port)))
    assert process.next()[:2] == (native_dialect.READY, number)
    process.send(deliver(number, delivery, path=path))
    report = process.results(1)[delivery]
    process.send(native_dialect.pack(native_dialect.CLOSE, number))
    assert process.next()[:2] == (native_dialect.CLOSED, number)
    return report


@pytest.fixture
def native_process(spawner, smtp_peer):
    process = start_native(spawner)
    process.port = smtp_peer.port
    return process


def test_a_server_that_hangs_up_on_ehlo_is_greeted_with_helo_from_then_on(native_process, smtp_peer):
    heard = []

    def decide(seen, line):
        heard.append((seen.session, line[:4]))
        return b"" if line.startswith(b"EHLO") else None

    smtp_peer.decide = decide
    assert deliver_one(native_process, 1) == ACCEPTED % 1
    assert smtp_peer.sessions == 2  # the same session of ours, the same address
    assert deliver_one(native_process, 2) == ACCEPTED % 2
    assert smtp_peer.sessions == 3
    assert [word for session, word in heard if word in (b"EHLO", b"HELO")] == [b"EHLO", b"HELO", b"HELO"]


def test_after_a_connection_that_died_over_several_commands_one_goes_at_a_time(native_process, smtp_peer):
    smtp_peer.scripts.append([*GREETING, (b"C", mail_for(1)), (b"R", b"")])
    commands = [b"MAIL FROM:<s@x.test>\r\n", b"RCPT TO:<u2@d.test>\r\n"]
    one_by_one = [step for command in commands for step in ((b"C", command), (b"S", b"250 ok\r\n"))]
    smtp_peer.scripts.append([*GREETING, *one_by_one, (b"C", b"DATA\r\n"), (b"S", b"550 no\r\n"), (b"C", b"QUIT\r\n")])
    native_process.send(opening(smtp_peer), deliver(1, 1))
    assert native_process.next() == READY
    assert native_process.next() == (native_dialect.UNSENT, 1, [b"1"])
    assert native_process.next() == GONE
    assert deliver_one(native_process, 2) == b"D127.0.0.1 failed on DATA command.\nRemote host said: 550 no\n"
    assert not smtp_peer.mismatches


ODD = [
    # to the commands, to the content, report
    (b"250 ok\r\n250 ok\r\n250 ok\r\n", None, b"Z127.0.0.1 failed on DATA command.\nRemote host said: 250 ok\n"),
    (b"250 ok\r\n250 ok\r\n600 ok\r\n", None, b"Z127.0.0.1 failed on DATA command.\nRemote host said: 600 ok\n"),
    (b"250 ok\r\n250 ok\r\nok\r\n", None, b"Z127.0.0.1 failed on DATA command.\nRemote host said: ok\n"),
    (b"250 ok\r\n250 ok\r\n354 go\r\n", b"354 go\r\n",
     b"Z127.0.0.1 failed after I sent the message.\nRemote host said: 354 go\n"),
    (b"250 ok\r\n250 ok\r\n354 go\r\n", b"150 hm\r\n",
     b"Z127.0.0.1 failed after I sent the message.\nRemote host said: 150 hm\n"),
    (b"250 ok\r\n250 ok\r\n354 go\r\n", b"250-ok\r\n550 no\r\n",
     b"Z127.0.0.1 failed after I sent the message.\nRemote host said: 250-ok\n550 no\n"),
    (b"150 ok\r\n", None, b"ZConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 150 ok\n"),
]  # fmt: skip


@pytest.mark.parametrize("commands, content, report", ODD)
def test_what_means_nothing_is_a_deferral_and_ends_the_connection(spawner, smtp_peer, commands, content, report):
    data = [] if content is None else [(b"C", b"Subject: x\r\n\r\n..hello\r\n.\r\n"), (b"S", content)]
    smtp_peer.scripts.append([*GREETING, (b"C", mail_for(1)), (b"S", commands), *data, (b"C", b"QUIT\r\n")])
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 1), deliver(1, 2))
    assert process.results(1) == {1: report}
    assert process.next() == (native_dialect.UNSENT, 1, [b"2"])
    kind, _, (stage, _, ending, carried) = process.next()
    assert (kind, ending, carried) == (native_dialect.CLOSED, b"Z" + report[1:], b"0") and not smtp_peer.mismatches
    assert stage == (b"sender" if b"sender" in report else b"data" if content is None else b"message")


def test_a_refusal_counts_though_the_server_hangs_up(native_process, smtp_peer):
    smtp_peer.scripts.append([*GREETING, (b"C", mail_for(1)), (b"S", b"554 not you\r\n"), (b"R", b"")])
    report = b"DConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 554 not you\n"
    assert deliver_one(native_process, 1) == report


@pytest.mark.parametrize("words", [b"421 closing\r\n", b"552 too much\r\n"])
def test_a_refusal_in_the_middle_of_content_counts(native_process, smtp_peer, home, words):
    with open(f"{home.queue}/mess/0/8", "wb") as file:
        file.write(b"x\n" * 10_000_000)
    go = [(b"C", mail_for(1)), (b"S", b"250 ok\r\n250 ok\r\n354 go\r\n"), (b"C", b"x\r\n" * 1000)]
    smtp_peer.scripts.append([*GREETING, *go, (b"S", words), (b"R", b"")])
    letter, said = b"D" if words[:1] == b"5" else b"Z", words.replace(b"\r", b"")
    report = letter + b"127.0.0.1 failed after I sent the message.\nRemote host said: " + said
    assert deliver_one(native_process, 1, path=b"0/8") == report


@pytest.mark.parametrize("endless", [b"220-x\r\n" * 20000, b"220 " + b"x" * 140000])
def test_a_greeting_without_end(spawner, smtp_peer, endless):
    smtp_peer.scripts.append([(b"S", endless), (b"C", b"never said" * 100)])
    process = start_native(spawner)
    process.send(opening(smtp_peer))
    kind, _, texts = process.next()
    assert (kind, texts[:2]) == (native_dialect.REFUSED, [b"greeting", b"0"]) and len(texts[4]) < 6000


def test_a_greeting_that_comes_in_drops(spawner, silent):
    process = start_native(spawner)
    process.send(native_dialect.open_session(1, place(silent.getsockname()[1], greeting_seconds=0.5)))
    with silent.accept()[0] as sock:
        for _ in range(100):
            sock.sendall(b"2")
            if select.select([process.process.stdout], [], [], 0.2)[0]:
                break
        assert process.next() == failed(b"dialogue", errno.ETIMEDOUT, report=DIED)


# limits of a transaction, of a connection


@pytest.mark.parametrize(
    "reply", [b"452 too many\r\n", b"552 too many\r\n", b"450 4.5.3 no\r\n", b"550-5.5.3\r\n550 no\r\n"]
)
@pytest.mark.parametrize("most", [1, 7])
def test_a_server_that_takes_few_recipients_at_once_gets_all(spawner, smtp_peer, reply, most):
    def decide(seen, line):
        return reply if line[:4] == b"RCPT" and seen.recipients >= most else None

    smtp_peer.decide = decide
    process = start_native(spawner)
    for number in (1, 2):
        process.send(opening(smtp_peer, number))
        assert process.next()[:2] == (native_dialect.READY, number)
        process.send(deliver(number, *range(100)))
        assert {report[:1] for report in process.results(100).values()} == {b"K"}
        process.send(native_dialect.pack(native_dialect.CLOSE, number))
        assert process.next()[:2] == (native_dialect.CLOSED, number)
    assert [mail[0].count(b"RCPT") for mail in smtp_peer.mails] == 2 * ([most] * (100 // most) + [2] * (most == 7))
    assert {data for _, data in smtp_peer.mails} == {b"Subject: x\r\n\r\n..hello\r\n"}


def test_a_recipient_that_is_too_many_even_alone_has_that_answer(native_process, smtp_peer):
    smtp_peer.decide = lambda seen, line: b"552 full\r\n" if line == b"RCPT TO:<u2@d.test>\r\n" else None
    native_process.send(opening(smtp_peer))
    assert native_process.next() == READY
    native_process.send(deliver(1, 1, 2, 3))
    assert native_process.results(3) == {
        1: ACCEPTED % 1,
        2: b"D127.0.0.1 does not like recipient.\nRemote host said: 552 full\nGiving up on 127.0.0.1.\n",
        3: ACCEPTED % 1,
    }


def used(process, smtp_peer, decide):
    """Return a session that has delivered one message; decide() answers from then on."""
    process.send(opening(smtp_peer))
    assert process.next() == READY
    process.send(deliver(1, 1))
    assert process.results(1)[1][:1] == b"K"
    smtp_peer.decide = decide


LIMITS = [
    (command, reply)
    for command in (b"MAIL", b"RCPT", b"DATA")
    for reply in (b"421 enough\r\n", b"451 enough\r\n", b"550 enough\r\n", b"")
    if (command, reply[:1]) != (b"RCPT", b"5")  # that is about the recipient
] + [(b"RCPT", reply) for reply in (b"552 enough\r\n", b"550 5.5.3 enough\r\n", b"503 MAIL first\r\n")]


@pytest.mark.parametrize("command, reply", LIMITS)
def test_what_a_used_connection_is_refused_comes_back(native_process, smtp_peer, command, reply):
    used(native_process, smtp_peer, lambda seen, line: reply if line.startswith(command) else None)
    native_process.send(deliver(1, 2, 3))
    assert [native_process.next(), native_process.next()] == [
        (native_dialect.UNSENT, 1, [b"2"]),
        (native_dialect.UNSENT, 1, [b"3"]),
    ]
    kind, _, (stage, code, report, carried) = native_process.next()
    assert (kind, carried, report[:1]) == (native_dialect.CLOSED, b"1", b"Z")
    stages = {b"MAIL": b"sender", b"RCPT": b"recipients", b"DATA": b"data"}
    assert (stage, code) == ((stages[command], reply[:3]) if reply else (b"dialogue", b"0"))
    assert report.endswith(b"Remote host said: " + reply.replace(b"\r", b"") if reply else b"(#4.4.2)\n")


def test_with_what_a_fresh_connection_puts_off_recipients_a_used_one_does_too(native_process, smtp_peer):
    """A server that knows neither sender nor recipient yet says 451 to each: that does not cost a connection each."""
    smtp_peer.decide = lambda seen, line: b"451 greylisted\r\n" if line[:4] == b"RCPT" else None
    native_process.send(opening(smtp_peer), deliver(1, 1), deliver(1, 2), deliver(1, 3))
    assert native_process.next() == READY
    report = b"Z127.0.0.1 does not like recipient.\nRemote host said: 451 greylisted\nGiving up on 127.0.0.1.\n"
    assert native_process.results(3) == {1: report, 2: report, 3: report}
    smtp_peer.decide = lambda seen, line: b"452 enough\r\n" if line[:4] == b"RCPT" else None
    native_process.send(deliver(1, 4))
    assert native_process.next() == (native_dialect.UNSENT, 1, [b"4"])


@pytest.mark.parametrize("reply", [b"452 too many\r\n", b"552 too many\r\n"])
def test_how_many_a_transaction_takes_is_told(native_process, smtp_peer, reply):
    smtp_peer.decide = lambda seen, line: reply if line[:4] == b"RCPT" and seen.recipients >= 5 else None
    native_process.send(opening(smtp_peer), deliver(1, *range(12)))
    assert native_process.next() == READY
    counts = native_process.counts(12)
    assert counts[0] == (0, 5) and counts[11] == (2, 0)
    assert sorted(counts.values()) == [(0, 5)] * 5 + [(1, 0)] * 5 + [(2, 0)] * 2
    native_process.send(CLOSE)
    assert native_process.next() == closed(3)


def test_who_belongs_to_another_company_of_recipients_tells_no_limit(native_process, smtp_peer):
    """One that is accepted after another was too many: it is not their number."""
    regions = []

    def decide(seen, line):
        if line[:4] == b"MAIL":
            regions.clear()
        if line[:4] == b"RCPT":
            regions.append(int(line[10:11]) % 2)
            return b"452 4.5.3 multiple regions\r\n" if regions[-1] != regions[0] else None
        return None

    smtp_peer.decide = decide
    native_process.send(opening(smtp_peer), deliver(1, 1, 2, 3, 4))
    assert native_process.next() == READY
    assert native_process.counts(4) == {1: (0, 0), 3: (0, 0), 2: (1, 0), 4: (1, 0)}


@pytest.mark.parametrize("reply", [b"550 nobody\r\n", b"553 nobody\r\n", b"554 nobody\r\n", b"552 5.2.2 full\r\n"])
def test_what_only_the_recipient_is_refused_does_not_come_back(native_process, smtp_peer, reply):
    said = {b"RCPT TO:<u2@d.test>\r\n": reply, b"RCPT TO:<u3@d.test>\r\n": b"451 enough\r\n"}
    used(native_process, smtp_peer, lambda seen, line: said.get(line))
    native_process.send(deliver(1, 2, 3, 4))
    results = native_process.results(2)
    said = reply.replace(b"\r", b"")
    report = b"D127.0.0.1 does not like recipient.\nRemote host said: " + said + b"Giving up on 127.0.0.1.\n"
    assert results == {2: report, 4: ACCEPTED % 2}
    assert native_process.next() == (native_dialect.UNSENT, 1, [b"3"])
    kind, _, texts = native_process.next()
    assert (kind, texts[:2], texts[3]) == (native_dialect.CLOSED, [b"recipients", b"451"], b"2")


@pytest.mark.parametrize("reply, letter", [(b"451 spam?\r\n", b"Z"), (b"550 spam\r\n", b"D")])
def test_what_is_said_of_the_content_counts_on_a_used_connection_too(native_process, smtp_peer, reply, letter):
    used(native_process, smtp_peer, lambda seen, line: reply if line == b".\r\n" else None)
    native_process.send(deliver(1, 2))
    assert native_process.results(1)[2][:1] == letter


def test_leaving_after_the_content_is_no_answer_on_a_used_connection(native_process, smtp_peer):
    used(native_process, smtp_peer, lambda seen, line: b"421 enough\r\n" if line == b".\r\n" else None)
    native_process.send(deliver(1, 2))
    assert native_process.next() == (native_dialect.UNSENT, 1, [b"2"])


def test_what_a_fresh_connection_is_refused_counts(native_process, smtp_peer):
    smtp_peer.decide = lambda seen, line: b"451 enough\r\n" if line.startswith(b"MAIL") else None
    report = b"ZConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 451 enough\n"
    assert deliver_one(native_process, 1) == report


def test_leaving_at_one_recipient_too_many_means_fewer_over_the_next_connection(native_process, smtp_peer):
    smtp_peer.decide = lambda seen, line: b"421 too many\r\n" if line[:4] == b"RCPT" and seen.recipients >= 3 else None
    wanted = list(range(7))
    native_process.send(opening(smtp_peer), deliver(1, *wanted))
    assert native_process.next() == READY
    assert [native_process.next() for _ in wanted] == [(native_dialect.UNSENT, 1, [b"%d" % n]) for n in wanted]
    kind, _, texts = native_process.next()
    assert (kind, texts[:2], texts[3]) == (native_dialect.CLOSED, [b"recipients", b"421"], b"0")
    native_process.send(opening(smtp_peer), deliver(1, *wanted))
    assert native_process.next() == READY
    assert {report[:1] for report in native_process.results(7).values()} == {b"K"}
    assert [mail[0].count(b"RCPT") for mail in smtp_peer.mails] == [3, 3, 1]


@pytest.mark.parametrize("reply", [b"421 busy\r\n", b"999 hm\r\n", b"354 go\r\n", b"hm\r\n"])
@pytest.mark.parametrize("has_pipelining", [True, False])
@pytest.mark.parametrize("at", [1, 2])
def test_who_was_not_asked_does_not_fail_since_the_server_left_at_another(
    native_process, smtp_peer, has_pipelining, reply, at
):
    smtp_peer.has_pipelining = has_pipelining
    said = {b"RCPT TO:<u1@d.test>\r\n": b"550 no\r\n"} if at == 2 else {}
    said[b"RCPT TO:<u%d@d.test>\r\n" % at] = reply
    smtp_peer.decide = lambda seen, line: said.get(line)
    native_process.send(opening(smtp_peer), deliver(1, 1, 2, 3, 4))
    assert native_process.next() == ready(b"" if has_pipelining else b"p")
    letters = {delivery: report[:1] for delivery, report in native_process.results(4).items()}
    assert letters == {1: b"D" if at == 2 else b"Z", 2: b"Z", 3: b"Z", 4: b"Z"}


@pytest.mark.parametrize("command", [b"MAIL", b"DATA", b".\r\n"])
def test_what_is_put_off_in_other_words_does_not_change_how_many_go_together(native_process, smtp_peer, command):
    smtp_peer.decide = lambda seen, line: b"451 later\r\n" if line.startswith(command) else None
    for session in (1, 2):
        native_process.send(opening(smtp_peer, session), deliver(session, 1, 2, 3))
        assert native_process.next()[:2] == (native_dialect.READY, session)
        assert {report[:1] for report in native_process.results(3).values()} == {b"Z" if session == 1 else b"K"}
        native_process.send(native_dialect.pack(native_dialect.CLOSE, session))
        assert native_process.next()[:2] == (native_dialect.CLOSED, session)
        smtp_peer.decide = lambda seen, line: None
    assert [mail[0].count(b"RCPT") for mail in smtp_peer.mails] == [3]


def test_a_fresh_connection_that_is_refused_does_not_make_one_for_each_recipient(native_process, smtp_peer):
    smtp_peer.decide = lambda seen, line: b"452 too many\r\n" if line[:4] == b"RCPT" and seen.recipients else None
    native_process.send(opening(smtp_peer), deliver(1, 1, 2, 3))
    assert native_process.next() == READY
    assert {report[:1] for report in native_process.results(3).values()} == {b"K"}
    native_process.send(CLOSE)
    assert native_process.next() == closed(3)
    smtp_peer.decide = lambda seen, line: b"421 busy\r\n" if line[:4] == b"MAIL" else None
    native_process.send(opening(smtp_peer), deliver(1, 1, 2, 3))
    assert native_process.next() == READY
    report = b"ZConnected to 127.0.0.1 but sender was rejected.\nRemote host said: 421 busy\n"
    assert native_process.results(3) == {1: report, 2: report, 3: report}


@pytest.mark.parametrize("said", [b"250-x\r\n250 y\r\n250 z\r\n", b"250-x\r\n220 y\r\n"])
def test_a_server_that_loses_count_over_ehlo_is_greeted_with_helo_next(native_process, smtp_peer, said):
    smtp_peer.decide = lambda seen, line: said if line.startswith(b"EHLO") else None
    native_process.send(opening(smtp_peer), deliver(1, 1))
    while (frame := native_process.next())[0] != native_dialect.CLOSED:
        assert frame[0] != native_dialect.RESULT or frame[2][1][:1] == b"Z"
        if frame[0] in (native_dialect.RESULT, native_dialect.REFUSED):
            native_process.send(CLOSE)
    assert deliver_one(native_process, 2) == ACCEPTED % 1
