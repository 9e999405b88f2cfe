"""The client side of the queue: spools, texts, pyqueued over both drivers, and a foreign QMAILQUEUE."""

import os
import socket
import sys

import pytest

from pyqmail.mail.queue.client import CRASHED, MessageBuffer, MessageMemory, QueueClient, QueueOutcome, outcome_text
from pyqmail.mail.queue.files import find_queue
from pyqmail.protocol.envelope import format_envelope
from pyqmail.protocol.wires.queue_wire import INLINE_LIMIT
from pyqmail.system.driver import BlockingDriver, EventDriver, drive
from pyqmail.system.loop import Loop

ROOT = os.path.abspath(f"{os.path.dirname(__file__)}/../../..")
STREAM = format_envelope(b"s@x.example", [b"r@y.example"])

TEXTS = [
    # exit code, text of its own    what callers are told
    (0, b"", b""),
    (0, b"ignored", b""),
    (CRASHED, b"", b"Zqq crashed (#4.3.0)"),
    (11, b"", b"Denvelope address too long for qq (#5.1.3)"),
    (115, b"", b"Denvelope address too long for qq (#5.1.3)"),
    (31, b"", b"Dmail server permanently rejected message (#5.3.0)"),
    (51, b"", b"Zqq out of memory (#4.3.0)"),
    (52, b"", b"Zqq timeout (#4.3.0)"),
    (53, b"", b"Zqq write error or disk full (#4.3.0)"),
    (54, b"", b"Zqq read error (#4.3.0)"),
    (55, b"", b"Zqq unable to read configuration (#4.3.0)"),
    (56, b"", b"Zqq trouble making network connection (#4.3.0)"),
    (61, b"", b"Zqq trouble in home directory (#4.3.0)"),
    (62, b"", b"Zqq trouble creating files in queue (#4.3.0)"),
    (66, b"", b"Zqq trouble creating files in queue (#4.3.0)"),
    (67, b"", b"Zqq temporary problem (#4.3.0)"),
    (71, b"", b"Zmail server temporarily rejected message (#4.3.0)"),
    (72, b"", b"Zconnection to mail server timed out (#4.4.1)"),
    (73, b"", b"Zconnection to mail server rejected (#4.4.1)"),
    (74, b"", b"Zcommunication with mail server failed (#4.4.2)"),
    (81, b"", b"Zqq internal bug (#4.3.0)"),
    (91, b"", b"Zqq internal bug (#4.3.0)"),
    (120, b"", b"Zunable to exec qq (#4.3.0)"),
    (82, b"Dno mail from you (#5.7.1)", b"Dno mail from you (#5.7.1)"),
    (82, b"Dn", b"Zqq temporary problem (#4.3.0)"),
    (82, b"\n\n\n\n", b"Zqq temporary problem (#4.3.0)"),
    (12, b"Dignored", b"Dqq permanent problem (#5.3.0)"),
    (40, b"", b"Dqq permanent problem (#5.3.0)"),
    (10, b"", b"Zqq temporary problem (#4.3.0)"),
    (41, b"", b"Zqq temporary problem (#4.3.0)"),
    (100, b"", b"Zqq temporary problem (#4.3.0)"),
    (111, b"", b"Zqq temporary problem (#4.3.0)"),
]


@pytest.mark.parametrize("exit_code, own, told", TEXTS)
def test_an_exit_code_has_its_text(exit_code, own, told):
    assert outcome_text(QueueOutcome(exit_code, 0, own)) == told


def spool(data, **more):
    made = MessageBuffer(**more)
    for at in range(0, len(data), 50_000):
        made.write(data[at : at + 50_000])
    return made


def test_spools_that_share_memory_leave_it_when_it_is_full():
    memory = MessageMemory(1000)
    first, second = spool(b"a" * 600, memory=memory), spool(b"b" * 401, memory=memory)
    assert (first.in_memory, second.in_memory) == (True, False)
    first.write(b"a" * 401)
    assert not first.in_memory and os.read(first.descriptor(), 2000) == b"a" * 1001
    third = spool(b"c" * 1000, memory=memory)
    assert third.in_memory and not memory.reserve(1)
    for made in (first, second, third):
        made.close()
    assert memory.reserve(1000)


@pytest.mark.parametrize("size, in_memory", [(0, True), (100, True), (100_000, True), (100_001, False)])
def test_a_spool_leaves_memory_when_it_grows(size, in_memory):
    data = os.urandom(size)
    made = spool(data, in_memory_bytes=100_000)
    assert (made.size, made.in_memory, made.failed) == (size, in_memory, False)
    fd = made.descriptor()
    assert os.read(fd, size + 1) == data
    assert os.lseek(made.descriptor(), 0, os.SEEK_CUR) == 0
    made.close()


def test_the_spools_file_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made = spool(b"x" * 100, in_memory_bytes=10)
    assert not made.in_memory and os.listdir(tmp_path) == []
    made.close()


def test_a_spool_that_cannot_be_written_is_a_write_error(tmp_path, monkeypatch, home):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    made = spool(b"x" * 100, in_memory_bytes=10)
    made.write(b"more")
    assert made.failed
    assert drive(QueueClient(BlockingDriver(), home).queue(made, STREAM, {})).exit_code == 53


class Both:
    """Runs a session's coroutine over one of the two drivers."""

    def __init__(self, name):
        self.loop = Loop() if name == "event" else None
        self.driver = EventDriver(self.loop) if self.loop else BlockingDriver()

    def __call__(self, coroutine):
        if self.loop is None:
            return drive(coroutine)
        task = self.loop.start(coroutine)
        task.promise.then(lambda _: self.loop.stop())
        if not task.promise.done:
            self.loop.run()
        if task.promise.error:
            raise task.promise.error
        return task.promise.value


@pytest.fixture(params=["blocking", "event"])
def both(request):
    return Both(request.param)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def queued(home):
    """Return {qp: (message without its Received line, todo)} of all in todo."""
    names, found = find_queue(home.queue), {}
    for name in os.listdir(f"{home.queue}/todo"):
        assert names.state(int(name)) == "S4"
        first, _, message = content(names.mess(int(name))).partition(b"\n")
        todo = content(names.todo(int(name)))
        qp = int(todo.split(b"\0")[1][1:])
        assert first.startswith(b"Received: (qmail %d invoked by uid %d); " % (qp, os.geteuid()))
        found[qp] = message, todo
    return found


MESSAGES = [b"", b"hello\n", bytes(range(256)) * 10, b"y" * INLINE_LIMIT, b"z" * (5 << 20)]


@pytest.mark.parametrize("message", MESSAGES, ids=len)
def test_pyqueued_queues_it(pyqueued, home, both, message):
    made = spool(message)
    outcome = both(QueueClient(both.driver, home).queue(made, STREAM, {}))
    made.close()
    assert outcome_text(outcome) == b""
    assert queued(home) == {outcome.qp: (message, b"u%d\0p%d\0" % (os.geteuid(), outcome.qp) + STREAM[:-1])}
    assert outcome.qp > int(content("/proc/sys/kernel/pid_max"))


def test_a_connection_serves_many_messages(pyqueued, home, both):
    queueing = QueueClient(both.driver, home)
    outcomes = [both(queueing.queue(spool(b"%d" % n), STREAM, {})) for n in range(20)]
    assert {outcome.exit_code for outcome in outcomes} == {0}
    assert {qp: message for qp, (message, _) in queued(home).items()} == {
        outcome.qp: b"%d" % n for n, outcome in enumerate(outcomes)
    }


def test_a_new_pyqueued_is_found_between_messages(start_pyqueued, home):
    queueing = QueueClient(BlockingDriver(), home)
    for _ in range(3):
        process = start_pyqueued()
        assert drive(queueing.queue(spool(b"a"), STREAM, {})).exit_code == 0
        process.kill()
        process.wait()
    assert len(queued(home)) == 3


def test_a_thousand_recipients(pyqueued, home, both):
    stream = format_envelope(b"s@x.example", [b"r%d@y.example" % n for n in range(1000)])
    outcome = both(QueueClient(both.driver, home).queue(spool(b"x"), stream, {}))
    assert outcome.exit_code == 0
    assert queued(home)[outcome.qp][1].endswith(stream[:-1])


def test_an_envelope_larger_than_a_frame(pyqueued, home, both):
    stream = format_envelope(b"s@x.example", [b"r%d@%b.example" % (n, b"y" * 50) for n in range(30_000)])
    assert len(stream) > INLINE_LIMIT
    outcome = both(QueueClient(both.driver, home).queue(spool(b"x"), stream, {}))
    assert outcome.exit_code == 0
    assert queued(home)[outcome.qp][1].endswith(stream[:-1])


@pytest.mark.parametrize("size", [10, 2 << 20])
@pytest.mark.parametrize("stream, exit_code", [(b"Fa\0Tb\0", 54), (b"Xa\0\0", 91), (b"F" + b"x" * 1003 + b"\0\0", 11)])
def test_a_bad_envelope_is_refused(pyqueued, home, both, stream, exit_code, size):
    outcome = both(QueueClient(both.driver, home).queue(spool(b"x" * size), stream, {}))
    assert (outcome.exit_code, outcome.qp) == (exit_code, 0)
    assert queued(home) == {}


def test_nobody_listens_alone_writes_itself(home):
    queueing = QueueClient(BlockingDriver(), home)
    outcomes = [drive(queueing.queue(spool(data), STREAM, {})) for data in (b"a", b"z" * (2 << 20))]
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    assert {qp: message for qp, (message, _) in queued(home).items()} == {
        outcomes[0].qp: b"a",
        outcomes[1].qp: b"z" * (2 << 20),
    }


def test_nobody_listens_a_resident_defers(home):
    both = Both("event")
    outcome = both(QueueClient(both.driver, home).queue(spool(b"a"), STREAM, {}))
    assert outcome_text(outcome) == b"Zqq trouble creating files in queue (#4.3.0)"


def test_who_listens_but_goes_away_leaves_doubt(home, both):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(home.queue_socket)
    listener.listen()
    pid = os.fork()
    if not pid:
        connection, _ = listener.accept()
        connection.recv(10)
        os._exit(0)
    outcome = both(QueueClient(both.driver, home).queue(spool(b"a"), STREAM, {}))
    os.waitpid(pid, 0)
    listener.close()
    assert outcome_text(outcome) == b"Zqq internal bug (#4.3.0)"


def test_a_fork_has_a_connection_of_its_own(pyqueued, home):
    queueing = QueueClient(BlockingDriver(), home)
    assert drive(queueing.queue(spool(b"a"), STREAM, {})).exit_code == 0
    pid = os.fork()
    if not pid:
        code = 99
        try:
            code = drive(queueing.queue(spool(b"b"), STREAM, {})).exit_code
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert drive(queueing.queue(spool(b"c"), STREAM, {})).exit_code == 0
    assert sorted(message for message, _ in queued(home).values()) == [b"a", b"b", b"c"]


def foreign(home, monkeypatch, body, name="qq"):
    """Put a program that stands for a foreign QMAILQUEUE into the home; the working directory is there too."""
    path = f"{home.path}/{name}"
    with open(path, "w") as file:
        file.write("#!/bin/sh\n" + body)
    os.chmod(path, 0o755)
    monkeypatch.chdir(home.path)


RUNS = [
    # program                                            text
    ("cat >/dev/null", b""),
    ("exit 0", b"Zqq read error (#4.3.0)"),
    ("cat <&1 >/dev/null; exit 0", b"Zqq read error (#4.3.0)"),
    ("exec 0<&-; exit 0", b"Zqq read error (#4.3.0)"),
    ("head -c 1 >/dev/null; cat <&1 >/dev/null", b""),  # the message has no more
    ("echo Dnot today '(#5.0.0)' >&6; exit 82", b"Dnot today (#5.0.0)"),
    ("printf 'Done\\r\\ntwo' >&6; exit 82", b"Done  two"),
    ("exit 82", b"Zqq temporary problem (#4.3.0)"),
    ("exit 31", b"Dmail server permanently rejected message (#5.3.0)"),
    ("exit 91", b"Zqq internal bug (#4.3.0)"),
    ("kill -9 $$", b"Zqq crashed (#4.3.0)"),
    ("head -c 300 /dev/zero | tr '\\0' D >&6; exit 82", b"D" * 255),
]


@pytest.mark.parametrize("body, text", RUNS)
def test_a_foreign_program_decides(home, monkeypatch, both, body, text):
    foreign(home, monkeypatch, body)
    outcome = both(QueueClient(both.driver, home).queue(spool(b"a"), STREAM, {b"QMAILQUEUE": b"qq"}))
    assert outcome_text(outcome) == text


READS = [
    # how it reads                                            is that to the end
    ("cat >message", True),
    ("cat /dev/stdin >message", True),
    ("cat /proc/self/fd/0 >message", True),
    ("exec 7<&0 0<&-; cat <&7 >message", True),
    ("(cat >message)", True),
    ("{ head -c 1000; cat; } >message", True),
    ("echo printed; echo overwritten >&1; cat >message", True),
    ("cat >message; cat <&1 >envelope", True),
    ("cat >message; exec 1<&-", True),
    (":", False),
    ("head -c 1000 >message", False),
    ("head -c 200000 >message", False),
    ("exec 0<&-", False),
    ("exec 0</dev/null; cat >message", False),
    ("exec 7<&0; sleep 60 6>&- & echo $! >left", False),  # which keeps the descriptor
]


@pytest.mark.parametrize("size", [10_000, 300_000])
@pytest.mark.parametrize("body, is_read", READS)
def test_a_message_counts_only_if_it_was_read(home, monkeypatch, both, body, is_read, size):
    foreign(home, monkeypatch, body + " 2>/dev/null\nexit 0\n")
    message = os.urandom(size)
    is_read = is_read or (size == 10_000 and "200000" in body)
    outcome = both(QueueClient(both.driver, home).queue(spool(message), STREAM, {b"QMAILQUEUE": b"qq"}))
    assert outcome.exit_code == (0 if is_read else 54)
    if is_read:
        assert outcome.qp > 0 and content("message") == message
    if "envelope" in body and is_read:
        assert content("envelope") == STREAM
    if "left" in body:
        os.kill(int(content("left")), 9)


@pytest.mark.parametrize("size", [0, 10, 3 << 20])
def test_what_a_foreign_program_reads_it_cannot_write(home, monkeypatch, both, size):
    code = (
        "import fcntl, os\n"
        "modes = [fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE for fd in (0, 1)]\n"
        "assert modes == [os.O_RDONLY, os.O_RDONLY], modes\n"
        "for fd in (0, 1):\n"
        "    try: os.write(fd, b'x')\n"
        "    except OSError: pass\n"
        "    else: os._exit(1)\n"
        "assert os.get_blocking(0) and os.get_blocking(1)\n"
        "while os.read(0, 65536): pass\n"
        "os.write(6, os.read(1, 65536)); os._exit(82)\n"
    )
    foreign(home, monkeypatch, f"exec {sys.executable} -c '\n{code.replace(chr(39), chr(34))}'\n")
    outcome = both(QueueClient(both.driver, home).queue(spool(os.urandom(size)), STREAM, {b"QMAILQUEUE": b"qq"}))
    assert (outcome.exit_code, outcome.text) == (82, STREAM)


def test_what_cannot_be_read_here_is_not_taken_for_the_end(home, monkeypatch, both):
    """The program must not see a part of the message and then the envelope."""
    foreign(home, monkeypatch, "cat >/dev/null; cat <&1 >envelope; exit 0\n")
    made = spool(b"x" * 3_000_000)
    fd = made.descriptor()
    feed = made.feed()
    os.ftruncate(fd, 1_000_000)
    monkeypatch.setattr(type(made), "feed", lambda _: feed)
    outcome = both(QueueClient(both.driver, home).queue(made, STREAM, {b"QMAILQUEUE": b"qq"}))
    assert outcome_text(outcome).startswith(b"Z")
    assert not os.path.exists("envelope")


@pytest.mark.parametrize("size", [0, 100, 2 << 20])
@pytest.mark.parametrize("value", [b"qq", b"./qq"])
def test_a_foreign_program_gets_message_envelope_and_environment(home, monkeypatch, both, value, size):
    foreign(home, monkeypatch, 'cat >message; cat <&1 >envelope; echo "$0 $$ $TCPREMOTEIP" >said; pwd >>said\n')
    message = os.urandom(size)
    environ = {b"QMAILQUEUE": value, b"TCPREMOTEIP": b"192.0.2.1", b"PATH": os.environb[b"PATH"]}
    outcome = both(QueueClient(both.driver, home).queue(spool(message), STREAM, environ))
    assert outcome.exit_code == 0
    assert content("message") == message
    assert content("envelope") == STREAM
    assert content("said") == b"./qq %d 192.0.2.1\n%b\n" % (outcome.qp, os.fsencode(os.path.realpath(home.path)))


@pytest.mark.parametrize("value", [b"nowhere", b"", b"/", b"qq/"])
def test_what_cannot_be_run_is_temporary(home, monkeypatch, both, value):
    foreign(home, monkeypatch, "exit 0")
    outcome = both(QueueClient(both.driver, home).queue(spool(b"a"), STREAM, {b"QMAILQUEUE": value}))
    assert outcome_text(outcome) == b"Zunable to exec qq (#4.3.0)"


def test_there_is_no_path_search(home, monkeypatch, both, tmp_path):
    foreign(home, monkeypatch, "exit 0")
    monkeypatch.setenv("PATH", home.path)
    monkeypatch.chdir(tmp_path)
    environ = {b"QMAILQUEUE": b"qq", b"PATH": os.fsencode(home.path)}
    assert both(QueueClient(both.driver, home).queue(spool(b"a"), STREAM, environ)).exit_code == 120


@pytest.mark.parametrize("link", [False, True])
def test_our_own_pyqueue_is_not_run_but_done(pyqueued, home, monkeypatch, both, link):
    monkeypatch.chdir(home.path)
    value = f"{ROOT}/bin/pyqueue"
    if link:
        os.symlink(value, "qmail-queue")
        value = "qmail-queue"
    outcome = both(QueueClient(both.driver, home).queue(spool(b"a"), STREAM, {b"QMAILQUEUE": value.encode()}))
    assert outcome.exit_code == 0 and outcome.qp in queued(home)


def test_what_a_session_imports_is_little():
    """A program run alone must come up fast."""
    code = "import sys; import pyqmail.mail.queue.client; print(*sys.modules)"
    with os.popen(f"PYTHONPATH={ROOT} {sys.executable} -S -c '{code}'") as said:
        loaded = set(said.read().split())
    assert "pyqmail.mail.queue.file_store" not in loaded
    assert loaded.isdisjoint(
        {"asyncio", "re", "subprocess", "typing", "logging", "tempfile", "random", "shutil", "dataclasses"}
    )
