"""pyqueued as a process: batches, copies, strangers, stopping, and being killed in the middle.

Untested: the 24 hours of a copy; a home with the usual users.
"""

import contextlib
import fcntl
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys

import pytest

from pyqmail.mail.queue.client import MessageBuffer, QueueClient
from pyqmail.mail.queue.files import find_queue
from pyqmail.mail.queue_server.server import COPIES_OF_UID
from pyqmail.mail.queue_server.stranger_connections import STRANGERS
from pyqmail.protocol.envelope import format_envelope
from pyqmail.protocol.wires import queue_wire
from pyqmail.protocol.wires.queue_wire import DESCRIPTORS, INLINE
from pyqmail.system.channel import BlockingChannel, Gone, Unavailable, connect, send_with
from pyqmail.system.driver import EventDriver, drive
from pyqmail.system.loop import Loop
from tests.mail.queue.on_memory import CRASHED
from tests.mail.queue.stores import STORES
from tests.processes import needs_system_calls, wait_ms
from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STREAM = format_envelope(b"s@x.example", [b"r@y.example"])
on_both_stores = pytest.mark.parametrize("pyqueued", STORES, indirect=True)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def files(home):
    """Return everything that is in the queue but its lock folder."""
    found = (os.path.join(place, name) for place, _, inside in os.walk(home.queue) for name in inside)
    return sorted(path for path in found if "/lock/" not in path)


def queued(home):
    """Return {qp: message without its Received line} of all in todo; each is whole."""
    names, found = find_queue(home.queue), {}
    for name in os.listdir(f"{home.queue}/todo"):
        assert names.state(int(name)) == "S4"
        head, _, message = content(names.mess(int(name))).partition(b"\n")
        uid, qp, *records = content(names.todo(int(name))).split(b"\0")
        assert head.startswith(b"Received: (qmail %b invoked by uid %b); " % (qp[1:], uid[1:]))
        assert records == [b"Fs@x.example", b"Tr@y.example", b""]
        found[int(qp[1:])] = message
    return found


class Client:
    """One connection, used as bytes."""

    def __init__(self, home, uid=None):
        os.seteuid(uid or os.geteuid())
        try:
            self.sock = connect("pyqueued" if uid else home.queue_socket)
        finally:
            os.seteuid(os.getuid())
        self.sock.settimeout(20)
        self.unpacker = queue_wire.Unpacker()
        self.answers = {}

    def inline(self, number, message, stream=STREAM):
        self.sock.sendall(queue_wire.pack(INLINE, number, queue_wire.inline_body(stream, message)))

    def descriptors(self, number, *descriptors):
        send_with(self.sock, queue_wire.pack(DESCRIPTORS, number), descriptors)

    def answer(self, number):
        """Return (exit code, qp) of the answer to a request."""
        while number not in self.answers:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            for _, answered, body in self.unpacker.receive(data):
                self.answers[answered] = queue_wire.split_answer(body)[:2]
        return self.answers[number]


def memory(data):
    fd = os.memfd_create("test")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def write_control(home, name, text):
    with open(f"{home.control}/{name}", "w", encoding="ascii") as file:
        file.write(f"{text}\n")


@on_both_stores
def test_requests_that_came_together_are_all_answered(pyqueued, home):
    client = Client(home)
    for number in range(300):
        client.inline(number, b"%d" % number)
    answers = [client.answer(number) for number in range(300)]
    assert {code for code, _ in answers} == {0}
    assert queued(home) == {qp: b"%d" % number for number, (_, qp) in enumerate(answers)}


def test_a_store_that_cannot_commit_is_53_for_the_whole_batch(start_pyqueued, home):
    process = start_pyqueued(in_memory="commit=refuse,pass")
    client = Client(home)
    client.inline(1, b"refused")
    assert client.answer(1) == (53, 0) and files(home) == []
    client.inline(2, b"queued")
    code, qp = client.answer(2)
    assert code == 0 and queued(home) == {qp: b"queued"}
    process.terminate()
    assert process.wait() == 0
    said = b"pyqueued: warning: unable to queue for uid %d, exit code 53: not safely on disk\n" % os.getuid()
    assert process.stderr.read() == said


@pytest.mark.parametrize("step", ["stage", "write", "commit", "show"])
def test_a_crash_at_any_step_acknowledges_nothing(start_pyqueued, home, step):
    process = start_pyqueued(in_memory=f"{step}=crash")
    client = Client(home)
    client.inline(1, b"never acknowledged")
    with pytest.raises(EOFError):
        client.answer(1)
    assert process.wait() == CRASHED and files(home) == []


@on_both_stores
def test_a_bad_one_in_a_batch_harms_no_other(pyqueued, home):
    client = Client(home)
    streams = [STREAM, b"Xbad\0\0", STREAM, b"", STREAM]
    for number, stream in enumerate(streams):
        client.inline(number, b"%d" % number, stream)
    assert [client.answer(number)[0] for number in range(5)] == [0, 91, 0, 54, 0]
    assert sorted(queued(home).values()) == [b"0", b"2", b"4"]
    assert len(files(home)) == 9


@on_both_stores
def test_fifty_megabytes_by_descriptors(pyqueued, home):
    block = os.urandom(1 << 20)
    fd = memory(block)
    os.lseek(fd, 0, os.SEEK_END)
    for _ in range(49):
        os.write(fd, block)
    os.lseek(fd, 0, os.SEEK_SET)
    client = Client(home)
    client.descriptors(1, fd, memory(STREAM))
    code, qp = client.answer(1)
    assert code == 0
    assert queued(home) == {qp: block * 50}


@on_both_stores
def test_a_pipe_that_does_not_end_holds_nobody_up(pyqueued, home):
    reader, writer = os.pipe()
    client, other = Client(home), Client(home)
    client.descriptors(1, reader, memory(STREAM))
    os.write(writer, b"slowly ")
    for number in range(2, 5):
        other.inline(number, b"quick")
        assert other.answer(number)[0] == 0
    client.inline(2, b"quick")
    assert client.answer(2)[0] == 0
    os.write(writer, b"but surely")
    os.close(writer)
    code, qp = client.answer(1)
    assert code == 0 and queued(home)[qp] == b"slowly but surely"


def test_a_copy_ends_with_its_connection(pyqueued, home):
    reader, writer = os.pipe()
    client = Client(home)
    client.descriptors(1, reader, memory(STREAM))
    os.close(reader)
    until(lambda: files(home))
    client.sock.close()
    until(lambda: not files(home))
    with pytest.raises(BrokenPipeError):  # nobody reads there any more
        until(lambda: os.write(writer, b"x" * 60000) == 0)
    os.close(writer)


def test_more_copies_than_are_made_at_once_take_their_turn(pyqueued, home):
    client, pipes = Client(home), [os.pipe() for _ in range(COPIES_OF_UID + 5)]
    for number, (reader, _) in enumerate(pipes):
        client.descriptors(number, reader, memory(STREAM))
        os.close(reader)
    client.inline(99, b"in between")
    assert client.answer(99)[0] == 0
    assert len(files(home)) == 3 + COPIES_OF_UID
    for number, (_, writer) in enumerate(pipes):
        os.write(writer, b"%d" % number)
        os.close(writer)
    answers = [client.answer(number) for number in range(len(pipes))]
    assert {code for code, _ in answers} == {0}
    assert [queued(home)[qp] for _, qp in answers] == [b"%d" % number for number in range(len(pipes))]


@on_both_stores
def test_one_uid_cannot_take_all_connections(pyqueued, home):
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.chdir(home.run)
            os.setuid(65534)
            socks = [connect("pyqueued") for _ in range(STRANGERS + 1)]
            code = 0 if select.select(socks, [], [], 20)[0] == [socks[-1]] and not socks[-1].recv(1) else 1
        finally:
            os._exit(code)
    client = Client(home)
    client.inline(1, b"x")
    assert client.answer(1)[0] == 0
    assert os.waitpid(pid, 0)[1] == 0


UNREADABLE = [
    # message, envelope                                                              exit code
    (lambda: os.open("/", os.O_RDONLY), lambda: memory(STREAM), 54),
    (lambda: os.open("/dev/null", os.O_WRONLY), lambda: memory(STREAM), 54),
    (lambda: memory(b"x"), lambda: memory(STREAM[:-1]), 54),
    (lambda: memory(b"x"), lambda: memory(b"F" + b"x" * 1003 + b"\0\0"), 11),
    (lambda: memory(b"x"), lambda: memory(b"nonsense"), 91),
]


@on_both_stores
@pytest.mark.parametrize("message, envelope, exit_code", UNREADABLE)
def test_what_cannot_be_copied_leaves_nothing(pyqueued, home, message, envelope, exit_code):
    client = Client(home)
    client.descriptors(1, message(), envelope())
    assert client.answer(1) == (exit_code, 0)
    assert files(home) == []


STRANGE = [
    b"EHLO there\r\n" + b"x" * 100,
    queue_wire.pack(9, 1),
    queue_wire.pack(DESCRIPTORS, 1),  # none came with it
    queue_wire.pack(INLINE, 1, b"\xff\xff\xff\xff"),
    queue_wire.pack(INLINE, 1, bytes(queue_wire.INLINE_LIMIT + 100))[:100],
]


@on_both_stores
@pytest.mark.parametrize("data", STRANGE)
def test_a_stranger_is_dropped_and_nobody_else(pyqueued, home, data):
    good, bad = Client(home), Client(home)
    bad.sock.sendall(data)
    with pytest.raises((EOFError, ConnectionResetError)):
        bad.answer(1)
    good.inline(1, b"x")
    assert good.answer(1)[0] == 0
    assert len(files(home)) == 3


@on_both_stores
def test_descriptors_nobody_asks_about_do_not_pile_up(pyqueued, home):
    bad = Client(home)
    fd = memory(b"")
    with pytest.raises((EOFError, ConnectionError)):
        for _ in range(100):
            send_with(bad.sock, b"\0", [fd] * 8)
        bad.answer(1)


def test_a_write_error_is_53_and_leaves_nothing(pyqueued, home):
    resource.prlimit(pyqueued.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    client = Client(home)
    client.inline(1, b"x" * 200_000)
    client.descriptors(2, memory(b"x" * 200_000), memory(STREAM))
    client.inline(3, b"small")
    assert [client.answer(number)[0] for number in (1, 2, 3)] == [53, 53, 0]
    assert list(queued(home).values()) == [b"small"]
    assert len(files(home)) == 3


def mounted(home, options):
    """The queue on a file system of its own.  Needs root and the right to mount."""
    subprocess.run(["mv", home.queue, f"{home.path}/made"], check=True)
    os.mkdir(home.queue)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", home.queue], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    subprocess.run(f"cp -a {home.path}/made/. {home.queue}", shell=True, check=True)


@pytest.fixture
def full_disk(home):
    """The queue on a file system of 4 MB."""
    mounted(home, "size=4m")
    yield
    subprocess.run(["umount", "--lazy", home.queue], check=True)


@pytest.fixture
def few_inodes(home):
    """The queue on a file system that has room, but less than one inode in a hundred."""
    count = 1 + int(subprocess.run(f"find {home.queue} | wc -l", shell=True, capture_output=True, check=True).stdout)
    mounted(home, f"size=64m,nr_inodes={count + 1}")
    yield
    subprocess.run(["umount", "--lazy", home.queue], check=True)


LITTLE = [
    ("full_disk", b"less than 32000000 bytes free, see control/queueminfree"),
    ("few_inodes", b"less than 1/100 of the inodes free, see control/queueminfree"),
]


@pytest.mark.parametrize("place, why", LITTLE)
def test_too_little_room_is_53_and_the_control_is_read_again(home, request, place, why):
    request.getfixturevalue(place)
    pyqueued = request.getfixturevalue("pyqueued")
    client = Client(home)
    client.inline(1, b"inline")
    client.descriptors(2, memory(b"copied"), memory(STREAM))
    assert [client.answer(number) for number in (1, 2)] == [(53, 0), (53, 0)]
    assert files(home) == []
    write_control(home, "queueminfree", 0 if place == "few_inodes" else 100_000)
    client.inline(3, b"x")
    assert client.answer(3)[0] in ((63, 64) if place == "few_inodes" else (0,))
    pyqueued.terminate()
    first = b"pyqueued: warning: unable to queue for uid %d, exit code 53: %b\n" % (os.geteuid(), why)
    assert pyqueued.stderr.readline() == first


def test_room_is_looked_at_while_a_message_grows(full_disk, home, request):
    write_control(home, "queueminfree", 100_000)
    request.getfixturevalue("pyqueued")
    client = Client(home)
    zero = os.open("/dev/zero", os.O_RDONLY)
    client.descriptors(1, zero, memory(STREAM))
    assert client.answer(1) == (53, 0)
    assert files(home) == []
    os.close(zero)


def test_a_full_disk_is_53_and_room_is_used_again(full_disk, home, request):
    write_control(home, "queueminfree", 0)
    request.getfixturevalue("pyqueued")
    client = Client(home)
    for number in range(20):
        client.inline(number, b"x" * 500_000)
    codes = [client.answer(number)[0] for number in range(20)]
    assert set(codes) == {0, 53} and codes.count(0) >= 5
    assert len(files(home)) == 3 * codes.count(0)
    client.descriptors(20, memory(b"x" * 3_000_000), memory(STREAM))
    assert client.answer(20) == (53, 0)
    assert len(files(home)) == 3 * codes.count(0)
    for path in files(home):
        os.unlink(path)
    client.inline(21, b"x" * 500_000)
    assert client.answer(21)[0] == 0


@on_both_stores
def test_a_control_that_cannot_be_read_is_55(pyqueued, home):
    os.mkdir(f"{home.control}/queueminfree")
    client = Client(home)
    client.inline(1, b"x")
    assert client.answer(1) == (55, 0)
    os.rmdir(f"{home.control}/queueminfree")
    client.inline(2, b"x")
    assert client.answer(2)[0] == 0


def test_what_is_not_read_of_the_log_holds_up_nobody(home, start_pyqueued):
    """Each refusal is a line, and nobody reads: far more than a pipe takes."""
    process = start_pyqueued()
    client = Client(home)
    write_control(home, "queueminfree", 0)
    os.rename(f"{home.queue}/pid", f"{home.queue}/away")
    fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
    fill_log(process)
    for number in range(300):
        client.inline(number, b"x")
        assert client.answer(number)[0] == 63
        Client(home).sock.sendall(b"not a frame of this wire at all")
    os.rename(f"{home.queue}/away", f"{home.queue}/pid")
    for number in range(300, 310):
        client.inline(number, b"x")
        assert client.answer(number)[0] == 0
    process.terminate()
    assert process.wait(20) == 0


def fill_log(process):
    """Fill the pipe that is a process's descriptor 2, whoever else writes there."""
    fd = os.open(f"/proc/{process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x")
    os.close(fd)


@pytest.mark.parametrize("is_copied", [False, True])
@pytest.mark.parametrize("folder, code", [("pid", 63), ("intd", 65), ("todo", 66)])
def test_a_folder_that_is_gone_is_named(pyqueued, home, folder, code, is_copied):
    os.rename(f"{home.queue}/{folder}", f"{home.queue}/away")
    client = Client(home)
    if is_copied:
        client.descriptors(1, memory(b"copied"), memory(STREAM))
    else:
        client.inline(1, b"inline")
    assert client.answer(1) == (code, 0)
    said = pyqueued.stderr.readline()
    path = os.fsencode(f"{home.queue}/{folder}")
    assert said == b"pyqueued: warning: unable to queue for uid %d, exit code %d: file does not exist in %b\n" % (
        os.geteuid(),
        code,
        path,
    )


def test_one_reason_is_one_line_a_second(pyqueued, home):
    os.rename(f"{home.queue}/pid", f"{home.queue}/away")
    client = Client(home)
    for number in range(500):
        client.inline(number, b"x")
    assert {client.answer(number) for number in range(500)} == {(63, 0)}
    pyqueued.terminate()
    said = pyqueued.stderr.read().splitlines()
    first = b"pyqueued: warning: unable to queue for uid %d, exit code 63: file does not exist in %b" % (
        os.geteuid(),
        os.fsencode(f"{home.queue}/pid"),
    )
    assert said[0] == first
    assert len(said) <= 20 and all(line.startswith(first + b" (") for line in said[1:])


@on_both_stores
@needs_system_calls
def test_without_a_descriptor_it_waits_and_says_so_once(pyqueued, home):
    client = Client(home)
    client.inline(1, b"x")
    assert client.answer(1)[0] == 0
    _, hard = resource.prlimit(pyqueued.pid, resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir(f"/proc/{pyqueued.pid}/fd"))) + 1
    resource.prlimit(pyqueued.pid, resource.RLIMIT_NOFILE, (used, hard))
    waiting = [Client(home) for _ in range(3)]
    assert pyqueued.stderr.readline() == b"pyqueued: warning: unable to accept: process cannot open more files\n"
    until(lambda: 0 < (wait_ms(pyqueued.pid) or 0) <= 100)  # the fault was a loop, which never waits
    resource.prlimit(pyqueued.pid, resource.RLIMIT_NOFILE, (hard, hard))
    for other in waiting:
        other.inline(1, b"x")
        assert other.answer(1)[0] == 0
    pyqueued.terminate()
    assert pyqueued.stderr.read() == b""


def test_a_number_is_on_disk_before_it_is_used(home, strace_path, tmp_path):
    """What an strace shows: the reserving write is synced, and the new file's directory, before the answer."""
    process = subprocess.Popen(
        [strace_path, "-f", "-y", "-o", tmp_path / "trace", "-e", "trace=pwrite64,fdatasync,fsync,sendto",
         sys.executable, f"{ROOT}/bin/pyqueued"],
        env={"PATH": os.environ["PATH"], "PYQMAIL_HOME": home.path},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr.readline() == b"pyqueued: status: listening\n"
    client = Client(home)
    client.inline(1, b"x")
    assert client.answer(1)[0] == 0
    with open(f"{home.queue}/lock/pyqueued", "rb") as file:
        assert int(file.read()) > client.answer(1)[1]
    children = content(f"/proc/{process.pid}/task/{process.pid}/children").split()
    os.kill(int(children[0]), signal.SIGTERM)
    process.wait(20)
    process.stderr.close()
    trace, lock = content(tmp_path / "trace"), re.escape(os.fsencode(f"{home.queue}/lock"))
    wanted = (rb"fsync\(\d+<%b>", rb"pwrite64\(\d+<%b/pyqueued>", rb"fdatasync\(\d+<%b/pyqueued>")
    places = [re.search(pattern % lock, trace).start() for pattern in wanted]
    assert places == sorted(places) and places[-1] < re.search(rb"sendto\(", trace).start()


def test_a_number_that_cannot_be_put_on_disk_is_not_used(home, faults, request):
    process = request.getfixturevalue("start_pyqueued")()
    faults.attach(process.pid, "fdatasync:error=EIO")
    client = Client(home)
    client.inline(1, b"x")
    assert client.answer(1) == (53, 0)
    faults.detach()
    client.inline(2, b"x")
    code, qp = client.answer(2)
    assert code == 0 and int(content(f"{home.queue}/lock/pyqueued")) > qp


@on_both_stores
@pytest.mark.parametrize("uid", [0, 65534])
@pytest.mark.parametrize("fault", ["epoll_ctl:error=ENOSPC:when=1..3", "epoll_ctl:error=ENOMEM:when=1..9+2"])
def test_what_cannot_be_watched_now_is_watched_a_moment_later(pyqueued, home, faults, fault, uid, monkeypatch):
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    monkeypatch.chdir(home.run)
    faults.attach(pyqueued.pid, fault)
    for number in range(4):
        client = Client(home, uid)
        client.inline(number, b"x" * 100_000)
        assert client.answer(number)[0] == 0
        client.sock.close()
    faults.detach()
    assert pyqueued.poll() is None and len(queued(home)) == 4


def test_numbers_that_become_others_are_said(home, start_pyqueued):
    """100M is 100 bytes, which refuses everybody's mail: at the start, and when the file has changed."""
    write_control(home, "localbytes", "100M")
    write_control(home, "queueminfree", "0")
    process = start_pyqueued(greeting=b"pyqueued: warning: control/localbytes: 100M is read as 100\n")
    assert process.stderr.readline() == b"pyqueued: status: listening\n"
    write_control(home, "queueminfree", "no")
    client = Client(home)
    client.inline(1, b"x")
    assert client.answer(1)[0] == 0
    said = process.stderr.readline()
    assert said == b"pyqueued: warning: control/queueminfree: no is no number, so the default counts\n"


@on_both_stores
def test_the_client_is_whom_the_kernel_says(pyqueued, home):
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.chdir(home.run)
            os.setgid(65534)
            os.setuid(65534)
            channel = BlockingChannel("pyqueued", queue_wire)
            _, body = drive(channel.ask(INLINE, queue_wire.inline_body(STREAM, b"x"), (), 20))
            code = queue_wire.split_answer(body)[0]
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    (todo,) = (content(path) for path in files(home) if "/todo/" in path)
    assert todo.startswith(b"u65534\0p")
    assert len(queued(home)) == 1


def test_term_finishes_what_was_taken(pyqueued, home):
    reader, writer = os.pipe()
    client = Client(home)
    client.descriptors(1, reader, memory(STREAM))
    until(lambda: files(home))
    pyqueued.terminate()
    until(lambda: not listens(home))
    os.write(writer, b"to the end")
    os.close(writer)
    code, qp = client.answer(1)
    assert code == 0 and queued(home) == {qp: b"to the end"}
    assert pyqueued.wait(20) == 0
    assert pyqueued.stderr.read() == b""
    assert not os.path.exists(home.queue_socket)


def listens(home):
    try:
        connect(home.queue_socket).close()
    except Unavailable:
        return False
    return True


@on_both_stores
def test_term_without_work_is_at_once(pyqueued, home):
    client = Client(home)
    client.inline(1, b"x")
    client.answer(1)
    pyqueued.terminate()
    assert pyqueued.wait(20) == 0
    with pytest.raises(EOFError):
        client.answer(2)


@on_both_stores
def test_there_is_only_one(pyqueued, home, run):
    second = run("pyqueued", env={"PYQMAIL_HOME": home.path})
    assert second.code == 111
    assert second.err == (
        f"pyqueued: fatal: unable to lock {home.queue}/lock/pyqueued: another process writes this queue\n".encode()
    )
    client = Client(home)
    client.inline(1, b"x")
    assert client.answer(1)[0] == 0


def test_a_socket_left_behind_is_replaced(home, run, request):
    left = socket.socket(socket.AF_UNIX)
    left.bind(home.queue_socket)
    left.close()
    request.getfixturevalue("pyqueued")
    assert os.stat(home.queue_socket).st_mode & 0o777 == 0o666
    Client(home).sock.close()


def test_without_a_queue_it_says_so(home, run):
    os.rename(home.queue, f"{home.path}/away")
    result = run("pyqueued", env={"PYQMAIL_HOME": home.path})
    assert result == (111, b"", f"pyqueued: fatal: unable to read {home.queue}/mess: file does not exist\n".encode())


def test_a_path_too_long_for_a_socket_is_said(home, run, tmp_path):
    deep = tmp_path / ("d" * 100)
    os.rename(home.path, deep)
    result = run("pyqueued", env={"PYQMAIL_HOME": str(deep)})
    assert result.code == 111
    assert result.err == (
        f"pyqueued: fatal: unable to listen on {deep}/run/pyqueued: a socket's path has at most 107 bytes\n".encode()
    )


def test_numbers_go_on_over_restarts(home, start_pyqueued):
    qps = []
    for ending in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        process = start_pyqueued()
        client = Client(home)
        for number in range(3):
            client.inline(number, b"x")
            qps.append(client.answer(number)[1])
        process.send_signal(ending)
        process.wait(20)
    assert qps == sorted(set(qps)) and len(qps) == 9
    assert qps[0] > int(content("/proc/sys/kernel/pid_max"))


@pytest.mark.parametrize("answers_before", [0, 1, 7, 40, 150])
def test_killed_in_the_middle_no_acknowledged_message_is_lost(home, start_pyqueued, answers_before):
    process = start_pyqueued()
    loop, sent, outcomes = Loop(), {}, []

    async def client(number):
        queueing = QueueClient(EventDriver(loop), home)
        for turn in range(20):
            message = MessageBuffer()
            message.write(b"%d %d " % (number, turn) + b"x" * 3000)
            outcome = await queueing.queue(message, STREAM, {})
            outcomes.append(outcome.exit_code)
            if outcome.exit_code:
                return
            sent[outcome.qp] = message.content()
            if len(sent) >= answers_before and process.returncode is None:
                process.kill()
                process.wait()

    tasks = [loop.start(client(number)) for number in range(20)]
    if not answers_before:
        process.kill()
        process.wait()
    while not all(task.promise.done for task in tasks):
        loop.turn(0.1)  # what is called in a turn may be the last of all
    assert set(outcomes) <= {0, 62, 81} and set(outcomes) & {62, 81}
    check_after_kill(home, sent)
    start_pyqueued()
    client_after = Client(home)
    client_after.inline(1, b"after")
    code, qp = client_after.answer(1)
    assert code == 0 and qp not in sent


def check_after_kill(home, sent):
    """Whatever was acknowledged is in todo as sent; what is in todo without that is whole; the rest is not queued."""
    names = find_queue(home.queue)
    there = queued(home)
    assert {qp: there.get(qp) for qp in sent} == sent
    assert all(message.endswith(b" " + b"x" * 3000) for message in there.values())
    numbers = [int(os.path.basename(path)) for path in files(home) if "/mess/" in path]
    assert {names.state(number) for number in numbers} <= {"S2", "S3", "S4"}
    assert {os.path.basename(path) for path in files(home) if "/pid/" not in path} == {str(n) for n in numbers}


def test_a_killed_pyqueued_leaves_its_lock_even_while_a_copy_lives(home, start_pyqueued):
    process = start_pyqueued()
    reader, writer = os.pipe()
    client = Client(home)
    client.descriptors(1, reader, memory(STREAM))
    until(lambda: files(home))
    process.kill()
    process.wait()
    with pytest.raises((EOFError, ConnectionResetError)):
        client.answer(1)
    start_pyqueued()
    again = Client(home)
    again.inline(1, b"x")
    assert again.answer(1)[0] == 0
    os.write(writer, b"x")
    os.close(writer)  # the copy ends by itself
    assert len(queued(home)) == 1


@on_both_stores
def test_gone_is_what_a_blocking_client_sees(pyqueued, home):
    channel = BlockingChannel(home.queue_socket, queue_wire)
    with pytest.raises(Gone):
        drive(channel.ask(9, b"", (), 20))
