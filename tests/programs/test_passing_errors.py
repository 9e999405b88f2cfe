"""A system call that fails once, or a few times, is made again by whoever answers the queue manager over a pipe.

strace lets it fail in the running program; without it, or the right to trace, these tests are left out.
"""

import os
import select
import subprocess
import sys

import pytest

from pyqmail.mail.destinations.orders import Opening
from pyqmail.mail.local.users import compile_assign
from pyqmail.protocol.wires import native_dialect, resolve_wire, stock_dialect
from pyqmail.protocol.wires.frames import strings
from pyqmail.system.cdb import write_cdb
from tests.programs.test_pyqueued import STREAM, Client, memory, queued

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECONDS = 30
STOCK = stock_dialect.command(0, b"0/1", b"s@x", b"joe")  # no host: reported without a delivery
NO_ADDRESS = Opening(b"h", b"h", connect_seconds=9, greeting_seconds=9, reply_seconds=9)  # fails at once
SESSION = native_dialect.open_session(1, NO_ADDRESS) + native_dialect.pack(native_dialect.CLOSE, 1)

# program, arguments -> what it greets with (so many bytes), what it is told, what it must then say (a part)
TALKS = {
    "pylspawn": (["./Mailbox"], 1, STOCK, b"#5.1.3"),
    "pylspawn --native": (
        ["--native", "./Mailbox"],
        10,
        native_dialect.deliver(1, b"/", b"s@x", [(1, b"joe@h")]),
        b"#5.3.5",
    ),
    "pyrspawn": ([], 1, STOCK, b"#5.1.3"),
    "pyrspawn --native": (["--native"], 10, SESSION, b"#4.4.1"),
    "pyclean": ([], 0, b"foop/0\0", b"+"),
    "pyresolve": ([], 0, resolve_wire.pack(resolve_wire.EXCHANGERS, 1, strings(b"[192.0.2.1]")), b"192.0.2.1"),
}


class Talk:
    """A program on two pipes; calls of it fail from fail() on."""

    def __init__(self, faults, home, name, arguments, environ):
        self._faults = faults
        self.process = subprocess.Popen(
            [sys.executable, f"{ROOT}/bin/{name}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={
                "PATH": f"{ROOT}/bin:{os.path.dirname(sys.executable)}:/usr/bin:/bin",
                "PYQMAIL_HOME": home.path,
                **environ,
            },
        )

    def fail(self, *rules):
        """rules: `CALL:error=NAME:when=...`; returns once they count."""
        self._faults.attach(self.process.pid, *rules)

    def tell(self, data):
        self.process.stdin.write(data)

    def hear(self, size):
        said = b""
        while len(said) < size:
            said += self.piece()
        return said

    def piece(self):
        assert select.select([self.process.stdout], [], [], SECONDS)[0], "it says nothing"
        data = os.read(self.process.stdout.fileno(), 65536)
        assert data, f"it has gone: {self.process.stderr.read()}"
        return data

    def hear_of(self, words):
        said = b""
        while words not in said:
            said += self.piece()
        return said

    def end(self):
        """Close its orders; returns (exit code, what descriptor 2 got)."""
        self._faults.detach()
        self.process.stdin.close()
        code = self.process.wait(SECONDS)
        return code, self.process.stderr.read()

    def close(self):
        self._faults.detach()
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


@pytest.fixture
def talk(faults, home):
    """talk(name of TALKS, other arguments..., NAME=value...) -> (a greeted Talk, what to tell it, what it must say)."""
    started = []

    def start(name, *others, **environ):
        arguments, greeting, told, said = TALKS[name]
        arguments = others or arguments
        one = Talk(faults, home, name.split()[0], arguments, environ)
        started.append(one)
        one.hear(greeting)
        if not greeting:  # it is up once it has answered
            one.tell(told)
            one.hear_of(said)
        return one, told, said

    yield start
    for one in started:
        one.close()


FAULTS = [
    "write:error=ENOMEM:when=1",
    "write:error=EIO:when=1..3",
    "write:error=ENOSPC:when=1",
    "write:error=ENOBUFS:when=1..2",
    "write:error=EAGAIN:when=1",
    "read:error=EIO:when=1..2",
    "read:error=ENOMEM:when=1",
]


@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_is_written_all_the_same(talk, name, fault):
    one, told, said = talk(name)
    one.fail(fault)
    for _ in range(2):  # a read that waits already when strace comes does not fail
        one.tell(told)
        one.hear_of(said)
    assert one.end()[0] == 0


@pytest.mark.parametrize("name", ["pylspawn", "pyrspawn"])
def test_a_spawner_says_that_it_could_not_write_and_that_once(talk, name):
    one, told, said = talk(name)
    one.fail("write:error=EIO:when=1..6+2")  # every other write, its own warning not
    one.tell(told)
    one.hear_of(said)
    assert one.end()[1].count(b"qmail-spawn: warning: unable to write reports, trying again: input/output error\n") == 1


@pytest.mark.parametrize("name", ["pylspawn", "pylspawn --native", "pyrspawn"])
def test_a_spawner_ends_though_its_last_report_is_hard_to_write(talk, name):
    one, told, said = talk(name)
    one.fail("write:error=EIO:when=1..4")
    one.tell(told)
    one.process.stdin.close()
    one.hear_of(said)
    assert one.process.wait(SECONDS) == 0


@pytest.mark.parametrize("name", TALKS)
def test_who_reads_no_more_is_no_reason_to_go_on(talk, name):
    one, told, said = talk(name)
    one.process.stdout.close()
    one.tell(told)
    one.process.stdin.close()
    assert one.process.wait(SECONDS) == (100 if name == "pyclean" else 0)
    assert one.process.stderr.read() == b""


# --- the workers of pylspawn


@pytest.fixture
def local(home, tmp_path):
    """A message 0/1, and user joe with a Maildir, in a private home; the Maildir."""
    for folder in ("tmp", "new", "cur"):
        (tmp_path / "user/Maildir" / folder).mkdir(parents=True)
    os.chmod(tmp_path / "user", 0o755)
    with open(f"{home.queue}/mess/0/1", "wb") as file:
        file.write(b"Subject: x\n\nhello\n")
    records = compile_assign(f"=joe:joe:1:1:{tmp_path}/user:::\n.\n".encode())
    write_cdb(f"{home.users}/cdb", f"{home.users}/cdb.tmp", records)
    return tmp_path / "user/Maildir/new"


def order(recipient=b"joe@here.example"):
    return stock_dialect.command(0, b"0/1", b"s@x", recipient)


LACKS = [
    "sendto,sendmsg:error=ENOBUFS:when=1..4",
    "sendto,sendmsg:error=ENOMEM:when=1",
    "recvfrom:error=ENOMEM:when=1..3",
    "epoll_ctl:error=ENOSPC:when=1",
    "socketpair:error=ENFILE:when=1..2",
    "clone,clone3,fork,vfork:error=EAGAIN:when=1..3",
    "pidfd_open:error=EMFILE:when=1",
]


@pytest.mark.parametrize("default", ["./Maildir/", "./Maildir/\n|echo said"])
@pytest.mark.parametrize("fault", LACKS)
def test_a_delivery_is_made_once_whatever_fails_beside_it(talk, local, fault, default):
    one, _, _ = talk("pylspawn", default)
    one.fail(fault)
    one.tell(order())
    report = one.hear_of(b"\n\0")
    assert report == b"\0K" + (b"said\ndid 1+0+1" if "|" in default else b"did 1+0+0") + b"\n\0"
    assert len(os.listdir(local)) == 1


def test_tries_become_fewer_while_a_lack_lasts(talk, local, faults):
    """A thousand tries in a second and a half were seen."""
    one, _, _ = talk("pylspawn")
    one.fail("sendto,sendmsg:error=ENOBUFS")
    one.tell(order())
    assert one.hear_of(b"\n\0") == b"\0Zqmail-spawn unable to create pipe. (#4.3.0)\n\0"
    assert faults.count == 10
    faults.detach()
    one.tell(order())
    assert one.hear_of(b"\n\0") == b"\0Kdid 1+0+0\n\0"


# --- the agents of pyrspawn

AGENT_LACKS = [
    ("epoll_ctl:error=ENOSPC:when=1..4",),
    ("pidfd_open:error=EMFILE:when=1..2",),
    ("pidfd_open:error=EMFILE:when=1", "epoll_ctl:error=ENOMEM:when=1..2"),
    ("read:error=EIO:when=2..3",),
]


@pytest.mark.parametrize("lacks", AGENT_LACKS)
def test_an_agent_is_heard_and_waited_for_whatever_fails_beside_it(talk, local, tmp_path, lacks):
    agent = tmp_path / "agent"
    agent.write_text("#!/bin/sh\nprintf 'r\\0Kyes\\n\\0'\n")
    agent.chmod(0o755)
    one, _, _ = talk("pyrspawn", QMAILREMOTE=str(agent))
    one.fail(*lacks)
    for _ in range(2):
        one.tell(order())
        assert one.hear_of(b"\n\0") == b"\0Kyes\n\0"
    with open(f"/proc/{one.process.pid}/task/{one.process.pid}/children", "rb") as file:
        assert file.read() == b""
    assert one.end() == (0, b"")


# --- pyqueued, its clients, and the processes it has for strangers

QUEUE_FAULTS = [
    # the call that fails                whose mail
    ("sendmsg:error=ENOMEM:when=1..3",  65534),  # descriptors on their way to a stranger's process
    ("sendto:error=ENOBUFS:when=1..3",  None),  # verdicts and answers
    ("sendto:error=ENOBUFS:when=1..3",  65534),
    ("recvmsg:error=ENOMEM:when=1..3",  None),  # requests
    ("recvmsg:error=ENOMEM:when=1..3",  65534),
]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("follow", [False, True], ids=["pyqueued", "its processes too"])
@pytest.mark.parametrize("fault, uid", QUEUE_FAULTS)
def test_a_client_is_answered_whatever_fails_beside_it(pyqueued, home, faults, monkeypatch, fault, uid, follow):
    monkeypatch.chdir(home.run)  # who we become could not walk there
    faults.attach(pyqueued.pid, fault, follow=follow)
    client = Client(home, uid)
    for number in range(3):
        client.inline(number, b"inline")
        client.descriptors(number + 10, memory(b"copied"), memory(STREAM))
        assert client.answer(number)[0] == client.answer(number + 10)[0] == 0
    client.sock.close()
    faults.detach()
    assert sorted(queued(home).values()) == [b"copied"] * 3 + [b"inline"] * 3
