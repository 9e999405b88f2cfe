"""pysmtpd as a program: on pipes, behind C tcpserver, with the real queue and with foreign queue programs; and its
session resident in a loop.

Untested: a real qmail-smtpd beside it (none is installed).
"""

import glob
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from pyqmail.programs import pysmtpd
from pyqmail.system.driver import EventDriver
from pyqmail.system.loop import Loop
from tests.waiting import turn_until, until

ROOT = pathlib.Path(__file__).parent.parent.parent
NAMES = sorted(os.path.basename(path) for path in glob.glob(f"{ROOT}/tests/transcripts/smtp-*.txt"))
PROGRAM = [sys.executable, f"{ROOT}/bin/pysmtpd"]
SEND = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
MESSAGE = b"Subject: x\r\n\r\nbody\r\n.\r\n"
QUIT = b"QUIT\r\n"
NO_DELAY = {"errordelay": b"0\n"}


def environment(home, more=None):
    ours = {b"PYQMAIL_HOME": os.fsencode(home.path)}
    return {b"PATH": os.environb[b"PATH"], **ours, **(more or {})}


@pytest.fixture
def smtpd(home):
    """smtpd(sent, environ={}) -> (exit code, all it said) of one run."""

    def run(sent, environ=None):
        done = subprocess.run(PROGRAM, input=sent, stdout=subprocess.PIPE, env=environment(home, environ), timeout=60)
        return done.returncode, done.stdout

    return run


@pytest.fixture
def smtpd_open(home):
    """smtpd_open(environ={}) -> running Popen with pipes."""
    started = []

    def start(environ=None, stderr=None):
        child = subprocess.Popen(
            PROGRAM,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment(home, environ),
            bufsize=0,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def set_controls(home, controls):
    for name, content in controls.items():
        (pathlib.Path(home.control) / name).write_bytes(content)


def in_queue(home):
    """Return [envelope, message without Received lines] of all that is queued, in the order of the qp."""
    found = []
    for todo in pathlib.Path(home.queue, "todo").iterdir():
        uid, qp, *records = todo.read_bytes().split(b"\0")
        message = next(pathlib.Path(home.queue, "mess").glob(f"*/{todo.name}")).read_bytes()
        ours, theirs, by, text = message.split(b"\n", 3)
        assert ours.startswith(b"Received: (qmail ")
        assert theirs.startswith(b"Received: from ") and by.startswith(b"  by ")
        found.append((int(qp[1:]), [b"\0".join(records) + b"\0", text]))
    return [message for _, message in sorted(found)]


def is_empty(home):
    queue = pathlib.Path(home.queue)
    return not any(queue.glob("todo/*")) and not any(queue.glob("mess/*/*")) and not any(queue.glob("intd/*"))


def read_up_to(fd, mark):
    """Read to a mark, or to the end."""
    said, is_ended = b"", False

    def read(seconds):
        nonlocal said, is_ended
        if select.select([fd], [], [], seconds)[0]:
            said += (piece := os.read(fd, 65536))
            is_ended = not piece

    until(lambda: is_ended or said.endswith(mark), lambda: repr(said), wait=read)
    return said


@pytest.mark.parametrize("name", NAMES)
def test_transcript_at_once(name, home, smtpd, transcript):
    told = transcript(name)
    set_controls(home, NO_DELAY | told.controls)
    code, said = smtpd(told.client(), told.environ)
    assert transcript.matches(said, told.server()), said
    assert (code, in_queue(home)) == (told.code, told.queued)


@pytest.mark.parametrize("name", NAMES)
def test_transcript_step_by_step(name, home, smtpd_open, transcript):
    told = transcript(name)
    set_controls(home, NO_DELAY | told.controls)
    child = smtpd_open(told.environ)
    said = wanted = b""
    for who, text in told.steps:
        if who == b"C":
            child.stdin.write(text)
            continue
        wanted += text
        while not transcript.matches(said, wanted):
            piece = read_up_to(child.stdout.fileno(), b"\r\n")
            assert piece, said
            said += piece
    child.stdin.close()
    assert (child.wait(30), child.stdout.read(), in_queue(home)) == (told.code, b"", told.queued)


QUEUE_CODES = [
    # what the queue program does at its end            reply
    ("exit 0", b"250 ok TIME qp NUMBER"),
    ("printf Dwhat >&6; exit 0", b"250 ok TIME qp NUMBER"),
    ("exit 11", b"554 envelope address too long for qq (#5.1.3)"),
    ("exit 115", b"554 envelope address too long for qq (#5.1.3)"),
    ("exit 31", b"554 mail server permanently rejected message (#5.3.0)"),
    ("exit 32", b"554 qq permanent problem (#5.3.0)"),
    ("exit 40", b"554 qq permanent problem (#5.3.0)"),
    ("exit 41", b"451 qq temporary problem (#4.3.0)"),
    ("exit 51", b"451 qq out of memory (#4.3.0)"),
    ("exit 52", b"451 qq timeout (#4.3.0)"),
    ("exit 53", b"452 qq write error or disk full (#4.3.0)"),
    ("exit 54", b"451 qq read error (#4.3.0)"),
    ("exit 55", b"451 qq unable to read configuration (#4.3.0)"),
    ("exit 56", b"451 qq trouble making network connection (#4.3.0)"),
    ("exit 61", b"451 qq trouble in home directory (#4.3.0)"),
    *((f"exit {code}", b"451 qq trouble creating files in queue (#4.3.0)") for code in (62, 63, 64, 65, 66)),
    ("exit 71", b"451 mail server temporarily rejected message (#4.3.0)"),
    ("exit 72", b"451 connection to mail server timed out (#4.4.1)"),
    ("exit 73", b"451 connection to mail server rejected (#4.4.1)"),
    ("exit 74", b"451 communication with mail server failed (#4.4.2)"),
    ("exit 81", b"451 qq internal bug (#4.3.0)"),
    ("exit 91", b"451 qq internal bug (#4.3.0)"),
    ("exit 120", b"451 unable to exec qq (#4.3.0)"),
    ("exit 1", b"451 qq temporary problem (#4.3.0)"),
    ("exit 111", b"451 qq temporary problem (#4.3.0)"),
    ("exit 82", b"451 qq temporary problem (#4.3.0)"),
    ("printf Dx >&6; exit 82", b"451 qq temporary problem (#4.3.0)"),
    ("printf 'Dnot here (#5.1.1)' >&6; exit 82", b"554 not here (#5.1.1)"),
    ("printf 'Zlater' >&6; exit 82", b"451 later"),
    ("printf 'D%0300d' 0 >&6; exit 82", b"554 " + b"0" * 254),
    ("printf 'Dignored' >&6; exit 31", b"554 mail server permanently rejected message (#5.3.0)"),
    ("kill -9 $$", b"451 qq crashed (#4.3.0)"),
]


def test_a_queue_program_that_reads_nothing_has_queued_nothing(home, smtpd_open):
    """250 would be a promise that nobody keeps; and the log says what is wrong with it."""
    make_queue_program(home, "exit 0\n")
    child = smtpd_open({b"QMAILQUEUE": b"./queue-program"}, stderr=subprocess.PIPE)
    said, err = child.communicate(SEND + MESSAGE + QUIT, 30)
    assert said.endswith(b"354 go ahead\r\n451 qq read error (#4.3.0)\r\n221 here.example\r\n")
    assert err == (
        b"qmail-smtpd: warning: unable to queue: the program of QMAILQUEUE did not read the message to its end\n"
    )


def test_why_nothing_could_be_queued_is_in_the_log(home, smtpd_open):
    os.rename(home.queue, f"{home.path}/away")
    child = smtpd_open({}, stderr=subprocess.PIPE)
    said, err = child.communicate(SEND + MESSAGE + QUIT, 30)
    assert b"354 go ahead\r\n451 qq trouble creating files in queue (#4.3.0)\r\n" in said
    assert err == b"qmail-smtpd: warning: unable to queue: no pyqueued at run/pyqueued\n"


@pytest.mark.parametrize("end, reply", QUEUE_CODES)
def test_a_queue_programs_end_is_the_reply(end, reply, home, smtpd, transcript):
    make_queue_program(home, f"cat >/dev/null\ncat <&1 >/dev/null\n{end}\n")
    code, said = smtpd(SEND + MESSAGE + QUIT, {b"QMAILQUEUE": b"./queue-program"})
    assert transcript.matches(said.split(b"354 go ahead\r\n")[1], reply + b"\r\n221 here.example\r\n"), said
    assert code == 0 and is_empty(home)


def test_what_a_queue_program_is_given(home, smtpd):
    make_queue_program(home, 'cat >message\ncat <&1 >envelope\necho "$0 $# $SOMETHING $$" >seen\n')
    _, said = smtpd(SEND + MESSAGE, {b"QMAILQUEUE": b"./queue-program", b"SOMETHING": b"else"})
    place = pathlib.Path(home.path)
    name, count, something, pid = (place / "seen").read_text().split()
    assert (count, something) == ("0", "else") and name.endswith("queue-program")
    assert said.endswith(b" qp %s\r\n" % pid.encode())
    assert (place / "envelope").read_bytes() == b"Fa@b\0Tc@d\0\0"
    assert (place / "message").read_bytes().split(b"\n", 2)[2] == b"Subject: x\n\nbody\n"


def test_a_queue_program_that_is_not_there(smtpd):
    assert b"451 unable to exec qq (#4.3.0)\r\n" in smtpd(SEND + MESSAGE, {b"QMAILQUEUE": b"./none"})[1]


def make_queue_program(home, script):
    path = pathlib.Path(home.path) / "queue-program"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


def test_a_refused_message_never_reaches_the_queue_program(home, smtpd):
    make_queue_program(home, "touch was-run\n")
    set_controls(home, {"databytes": b"3"})
    assert b"552 sorry" in smtpd(SEND + MESSAGE, {b"QMAILQUEUE": b"./queue-program"})[1]
    assert not os.path.exists(f"{home.path}/was-run")


@pytest.mark.parametrize("at", [0, 5, len(SEND) - 1, len(SEND), len(SEND) + 5, len(SEND + MESSAGE) - 1])
def test_a_client_that_vanishes_leaves_nothing(at, home, smtpd):
    code, said = smtpd((SEND + MESSAGE)[:at])
    assert code == 1 and said.startswith(b"220 ") and is_empty(home)


def test_a_client_that_hears_nothing_any_more(home, smtpd_open):
    child = smtpd_open()
    read_up_to(child.stdout.fileno(), b"\r\n")
    child.stdout.close()
    child.stdin.write(SEND.replace(b"DATA\r\n", b""))
    assert child.wait(30) == 1 and is_empty(home)


def test_a_silent_client_is_told(home, smtpd_open):
    set_controls(home, {"timeoutsmtpd": b"1"})
    child = smtpd_open()
    child.stdin.write(SEND + b"half")
    assert read_up_to(child.stdout.fileno(), b"(#4.4.2)\r\n").endswith(b"354 go ahead\r\n451 timeout (#4.4.2)\r\n")
    assert child.wait(30) == 1 and is_empty(home)


@pytest.mark.parametrize("broken", ["me", "rcpthosts", "home"])
def test_controls_that_cannot_be_read(broken, home, smtpd):
    if broken == "home":
        os.rename(home.path, f"{home.path}.away")
    else:
        pathlib.Path(home.control, broken).unlink(missing_ok=True)
        os.mkdir(f"{home.control}/{broken}")
    assert smtpd(QUIT) == (1, b"421 unable to read controls (#4.3.0)\r\n")


def test_a_relative_home(home):
    done = subprocess.run(
        PROGRAM, input=SEND + MESSAGE, stdout=subprocess.PIPE, cwd=os.path.dirname(home.path), timeout=60,
        env=environment(home, {b"PYQMAIL_HOME": os.path.basename(home.path).encode()}),
    )  # fmt: skip
    assert b"250 ok 1" in done.stdout and len(in_queue(home)) == 1


def test_fifty_megabytes(home):
    line = b"x" * 76 + b"\r\n"
    size = 50_000_000 // len(line)
    child = subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(home))
    child.stdin.write(SEND)
    for _ in range(size // 1000):
        child.stdin.write(line * 1000)
    child.stdin.write(b".\r\n")
    child.stdin.flush()
    said = b""
    while not said.endswith(b"\r\n") or b"250 ok 1" not in said:
        said += child.stdout.read1()
    peak = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{child.pid}/status").read_text())
    assert int(peak[1]) < 40_000  # its own: what wait4(2) tells counts the memory of whoever forked it
    out, _ = child.communicate(b"QUIT\r\n")
    assert child.returncode == 0 and out.startswith(b"221 ")
    message = next(pathlib.Path(home.queue, "mess").glob("*/*"))
    assert 0 < message.stat().st_size - size // 1000 * 1000 * 77 < 400


def test_start_up_imports():
    code = "import sys; import pyqmail.programs.pysmtpd; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    dear = {"asyncio", "click", "dns", "cdblib", "dataclasses", "subprocess", "typing", "re", "logging", "argparse",
            "tempfile", "random", "shutil", "threading", "contextlib", "pwd", "traceback"}  # fmt: skip
    assert not dear & set(done.stdout.split())


@pytest.fixture
def tcpserver(home):
    """tcpserver(*options) -> port of a C tcpserver with pysmtpd behind it."""
    path = shutil.which("tcpserver")
    if path is None:
        pytest.skip("no tcpserver")
    started = []

    def start(*options):
        argv = [path, "-1", "-HRl0", *options, "127.0.0.1", "0", *PROGRAM]
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment(home), start_new_session=True))
        return int(started[-1].stdout.readline())

    yield start
    for server in started:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        server.stdout.close()


def test_behind_tcpserver(home, tcpserver, transcript):
    told = transcript("smtp-plain.txt")
    with socket.create_connection(("127.0.0.1", tcpserver()), timeout=30) as sock:
        sock.sendall(told.client())
        assert transcript.matches(read_up_to(sock.fileno(), b"221 here.example\r\n"), told.server())
    assert in_queue(home) == told.queued
    message = next(pathlib.Path(home.queue, "mess").glob("*/*")).read_bytes()
    assert re.search(
        rb"\nReceived: from unknown \(HELO client\.example\) \(127\.0\.0\.1\)\n  by 0 with SMTP; "
        rb"[1-9][0-9]? [A-Z][a-z][a-z] [0-9]{4} [0-9:]{8} -0000\nSubject: x\n",
        message,
    )


def test_a_bare_newline_behind_tcpserver(home, tcpserver):
    with socket.create_connection(("127.0.0.1", tcpserver()), timeout=30) as sock:
        sock.sendall(SEND + b"a\n.\r\n")
        said = read_up_to(sock.fileno(), b"never")
        assert said.endswith(b"354 go ahead\r\n451 See https://cr.yp.to/docs/smtplf.html.\r\n")
    assert is_empty(home)


@pytest.mark.skipif(shutil.which("swaks") is None, reason="no swaks")
def test_swaks(home, tcpserver):
    done = subprocess.run(
        ["swaks", "--server", f"127.0.0.1:{tcpserver()}", "--helo", "client", "--pipeline", "--body", "..hello\n",
         "--from", "a@b.example", "--to", "c@here.example,d@here.example"],
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert in_queue(home)[0][0] == b"Fa@b.example\0Tc@here.example\0Td@here.example\0\0"


def converse(loop, sock, code_promise, sent):
    """Say all to a session of the loop and return what it says until it is over."""
    sock.sendall(sent)
    while not code_promise.done:
        loop.turn(10)
    return read_up_to(sock.fileno(), b"221 here.example\r\n")


def test_resident_sessions_see_a_changed_control_file(home, monkeypatch):
    monkeypatch.chdir(home.path)
    loop = Loop()
    driver = EventDriver(loop)
    handler = pysmtpd.session(["pysmtpd"], driver, environment(home))
    words = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n"

    def visit(environ):
        ours, theirs = socket.socketpair()
        peer = driver.peer(ours.fileno(), ours.fileno())
        with theirs:
            task = loop.start(handler(peer, environ))
            said = converse(loop, theirs, task.promise, words)
            peer.close()
        return task.promise.value, said.split(b"\r\n")[2][:3]

    assert visit({}) == (0, b"250")
    set_controls(home, {"rcpthosts": b"elsewhere"})
    assert visit({}) == (0, b"553")
    assert visit({b"RELAYCLIENT": b""}) == (0, b"250")
    os.unlink(f"{home.control}/rcpthosts")
    assert visit({}) == (0, b"250")
    loop.abandon()


def test_a_thousand_resident_sessions_at_once(home, monkeypatch):
    monkeypatch.chdir(home.path)
    count = 1000
    wanted = 2 * count + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # other tests of this process may hold some
    loop = Loop()
    driver = EventDriver(loop)
    handler = pysmtpd.session(["pysmtpd"], driver, environment(home))
    make_queue_program(home, "exit 31\n")
    pairs = [socket.socketpair() for _ in range(count)]
    tasks = [loop.start(handler(driver.peer(ours.fileno(), ours.fileno()), {})) for ours, _ in pairs]
    for _, theirs in pairs:
        theirs.sendall(b"EHLO c\r\nMAIL FROM:<a@b>\r\n")
    for _, theirs in reversed(pairs):
        theirs.sendall(b"RCPT TO:<c@d>\r\nQUIT\r\n")
    turn_until(loop, lambda: all(task.promise.done for task in tasks))
    assert [task.promise.value for task in tasks] == [0] * count
    for ours, theirs in pairs:
        assert theirs.recv(4096).endswith(b"250 ok\r\n250 ok\r\n221 here.example\r\n")
        theirs.close()
        loop.forget(ours.fileno())
        ours.close()
    loop.abandon()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


DISK_MB = 64
MOUNT = f'mount -t tmpfs -o size={DISK_MB}m none "$0" && exec "$@"'


@pytest.fixture
def on_small_disk(home, tmp_path):
    """A pytcpserver with two workers of pysmtpd, its port, and a function: how many MB of its TMPDIR are in use."""
    disk = tmp_path / "disk"
    disk.mkdir()
    prefix = ["unshare", "-rm", "sh", "-c", MOUNT, disk]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("may not mount")
    words = ["-1RHl0", "-Q", "--workers", "2", "127.0.0.1", "0", "pysmtpd"]
    server = subprocess.Popen(
        [*prefix, sys.executable, f"{ROOT}/bin/pytcpserver", *words],
        stdout=subprocess.PIPE,
        env=environment(home, {b"TMPDIR": os.fsencode(disk), b"PATH": os.fsencode(f"{ROOT}/bin:{os.environ['PATH']}")}),
    )

    def used():
        place = os.statvfs(f"/proc/{server.pid}/root{disk}")
        return (place.f_blocks - place.f_bfree) * place.f_frsize / (1 << 20)

    yield int(server.stdout.readline()), used
    server.kill()
    server.wait()
    server.stdout.close()


def unread_bytes(client):
    """Return how many bytes of a client's have not been read at the other end of its connection."""
    ours, theirs = client.getsockname()[1], client.getpeername()[1]
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split()[1:5] for line in file][1:]
    ends = {(int(local[-4:], 16), int(other[-4:], 16)): queues.split(":") for local, other, _, queues in rows}
    return int(ends[ours, theirs][0], 16) + int(ends[theirs, ours][1], 16)


def test_messages_that_arrive_take_a_quarter_of_the_disk_at_most(on_small_disk):
    """All workers together; whoever is one too many is told, and what it had is free again."""
    port, used = on_small_disk
    line = b"x" * 998 + b"\r\n"
    for _ in range(2):
        clients, seen, replies = [], [], []
        for _ in range(4):
            clients.append(socket.create_connection(("127.0.0.1", port), 30))
            read_up_to(clients[-1].fileno(), b"ESMTP\r\n")
            clients[-1].sendall(SEND)
            read_up_to(clients[-1].fileno(), b"354 go ahead\r\n")
        for _ in range(28):  # 7 MB each
            for client in clients:
                client.sendall(line * 250)
                until(lambda client=client: not unread_bytes(client))  # else it may come when others have gone
                seen.append(used())
        for client in clients:
            client.sendall(b".\r\n")
            replies.append(read_up_to(client.fileno(), b")\r\n"))
            seen.append(used())
            client.close()
        assert DISK_MB / 8 < max(seen) <= DISK_MB / 4
        refused = replies.count(b"452 sorry, I have no room for your message now (#4.3.1)\r\n")
        assert 2 <= refused < 4, replies  # the others: there is no pyqueued
    assert used() == 0


@pytest.mark.parametrize("limit, number", [("12x", 12), ("", 0), ("4294967296", 0), ("4294967301", 5), ("007", None)])
def test_a_limit_that_becomes_another_is_said(home, run, limit, number):
    done = run("pysmtpd", env={"PYQMAIL_HOME": home.path, "DATABYTES": limit}, input=b"QUIT\r\n")
    said = f"qmail-smtpd: warning: DATABYTES={limit} is read as {number}\n".encode()
    assert done.err.count(said if number is not None else b"DATABYTES") == (number is not None)
