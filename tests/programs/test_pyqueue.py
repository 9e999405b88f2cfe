"""pyqueue as a program: qmail-queue's interface, with and without pyqueued.

Untested: the 24 hours; a home with the usual users.
"""

import os
import signal
import subprocess
import sys

import pytest

from pyqmail.mail.queue.files import find_queue, hold_writer_lock
from pyqmail.protocol.envelope import format_envelope
from tests.programs.test_pyqueued import mounted

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STREAM = format_envelope(b"s@x.example", [b"r@y.example"])


def content(path):
    with open(path, "rb") as file:
        return file.read()


def files(home):
    """Return everything that is in the queue but its lock folder."""
    found = (os.path.join(place, name) for place, _, inside in os.walk(home.queue) for name in inside)
    return sorted(path for path in found if "/lock/" not in path)


def queued(home):
    """Return [(message with its Received line, todo)]."""
    names = find_queue(home.queue)
    return [
        (content(names.mess(int(name))), content(names.todo(int(name)))) for name in os.listdir(f"{home.queue}/todo")
    ]


@pytest.fixture
def tmp_path(open_path):
    """Others are at home here, too."""
    return open_path


@pytest.fixture
def pyqueue(home):
    """pyqueue(message, stream) -> Popen of a pyqueue that reads two pipes, message and stream already in them."""
    started = []

    def start(message=b"", stream=STREAM, arguments=(), as_file=False, **more):
        envelope_fd = os.memfd_create("envelope")
        os.write(envelope_fd, stream)
        os.lseek(envelope_fd, 0, os.SEEK_SET)
        message_fd = None
        if as_file:
            message_fd = os.memfd_create("message")
            os.write(message_fd, message)
            os.lseek(message_fd, 0, os.SEEK_SET)
        process = subprocess.Popen(
            [sys.executable, f"{ROOT}/bin/pyqueue", *arguments],
            stdin=message_fd or subprocess.PIPE,
            stdout=envelope_fd,
            stderr=subprocess.PIPE,
            env={"PYQMAIL_HOME": home.path, **more},
        )
        started.append(process)
        os.close(envelope_fd)
        if as_file:
            os.close(message_fd)
        else:
            try:
                process.stdin.write(message)
                process.stdin.close()
            except BrokenPipeError:
                pass
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(params=["pyqueued", "alone"])
def either(request):
    """With pyqueued, and without."""
    if request.param == "pyqueued":
        request.getfixturevalue("pyqueued")
    return request.param


MESSAGES = [b"", b"x", b"Subject: x\n\nhello\n", bytes(range(256)), b"y" * (1 << 20), b"z" * (3 << 20)]


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("message", MESSAGES, ids=len)
def test_a_message_is_queued(either, home, pyqueue, message, as_file):
    process = pyqueue(message, as_file=as_file)
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    ((mess, todo),) = queued(home)
    uid, qp, *records = todo.split(b"\0")
    assert uid == b"u%d" % os.getuid()
    assert records == [b"Fs@x.example", b"Tr@y.example", b""]
    received, _, rest = mess.partition(b"\n")
    assert received.startswith(b"Received: (qmail %b invoked by uid %d); " % (qp[1:], os.getuid()))
    assert rest == message
    assert either == "pyqueued" or qp == b"p%d" % process.pid


BAD = [
    (b"", 54),
    (b"Fa\0", 54),
    (b"Fa\0Tb\0", 54),
    (b"\0", 91),
    (b"Ta\0\0", 91),
    (b"Fa\0Xb\0\0", 91),
    (b"F" + b"x" * 1003 + b"\0\0", 11),
]


@pytest.mark.parametrize("stream, exit_code", BAD)
def test_a_bad_envelope_leaves_nothing(either, home, pyqueue, stream, exit_code):
    process = pyqueue(b"x", stream)
    assert process.wait(20) == exit_code
    assert process.stderr.read() == b""
    assert files(home) == []


def test_what_follows_the_envelope_is_never_read(either, home, pyqueue):
    assert pyqueue(b"x", STREAM + b"Tevil\0\0").wait(20) == 0
    assert queued(home)[0][1].endswith(STREAM[:-1])


def test_arguments_are_nothing(home, pyqueue):
    assert pyqueue(b"x", arguments=["-x", "--y", "z"]).wait(20) == 0
    assert len(queued(home)) == 1


def test_qmailqueue_is_not_for_us(home, pyqueue):
    assert pyqueue(b"x", QMAILQUEUE="/bin/false").wait(20) == 0
    assert len(queued(home)) == 1


@pytest.mark.parametrize("descriptors", ["0>/dev/null", "0<&-", "</dev/null 1>/dev/null", "</dev/null 1>&-"])
def test_a_read_error_is_54(home, descriptors):
    """Also an empty envelope.  (A folder as descriptor 0 ends the interpreter itself, with 1: temporary too.)"""
    environ = {"PYQMAIL_HOME": home.path}
    command = f"exec {sys.executable} {ROOT}/bin/pyqueue {descriptors}"
    process = subprocess.run(command, shell=True, env=environ, timeout=20)
    assert process.returncode == 54
    assert files(home) == []


def test_no_home_no_queue(home, pyqueue, tmp_path):
    assert pyqueue(b"x", PYQMAIL_HOME=str(tmp_path / "nowhere")).wait(20) == 61
    os.rename(home.queue, f"{home.path}/away")
    assert pyqueue(b"x").wait(20) == 62


def test_who_holds_the_lock_without_listening_defers_us(home, pyqueue):
    lock = hold_writer_lock(find_queue(home.queue), alone=True)
    assert pyqueue(b"x").wait(20) == 71
    os.close(lock)
    assert files(home) == []


def test_a_signal_of_the_terminal_does_not_stop_it(home):
    """INT, HUP and QUIT come while it waits for the rest of the message."""
    envelope_fd = os.memfd_create("envelope")
    os.write(envelope_fd, STREAM)
    os.lseek(envelope_fd, 0, os.SEEK_SET)
    process = subprocess.Popen(
        [sys.executable, f"{ROOT}/bin/pyqueue"],
        stdin=subprocess.PIPE,
        stdout=envelope_fd,
        env={"PYQMAIL_HOME": home.path},
    )
    os.close(envelope_fd)
    process.stdin.write(b"x" * 200_000)  # more than a pipe holds: it has read some, and so is past its start
    process.stdin.flush()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        process.send_signal(number)
    process.stdin.write(b"end")
    process.stdin.close()
    assert process.wait(20) == 0
    assert queued(home)[0][0].endswith(b"xend")


def test_it_imports_little():
    code = "import sys; import pyqmail.programs.pyqueue; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=20
    ).stdout.split()
    assert "pyqmail.programs.pyqueue" in said
    slow = "asyncio re subprocess typing logging tempfile random shutil dataclasses click dns"
    assert set(said).isdisjoint(slow.split())
    queue = "pyqmail.mail.queue"
    assert set(said).isdisjoint({f"{queue}.alone", f"{queue}.file_store", "pyqmail.base.controls"})


def test_without_room_it_is_a_write_error(home, pyqueue):
    """Alone, on a queue of 4 MB, which is less than control/queueminfree's default."""
    mounted(home, "size=4m")
    try:
        assert pyqueue(b"x").wait(20) == 53
        assert files(home) == []
        with open(f"{home.control}/queueminfree", "w", encoding="ascii") as file:
            file.write("0\n")
        assert pyqueue(b"x").wait(20) == 0
        assert len(queued(home)) == 1
    finally:
        subprocess.run(["umount", "--lazy", home.queue], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("limit, endless", [("5000000", "cat /dev/zero |"), (None, "yes |"), ("2000000", "</dev/zero")])
def test_a_message_without_end_is_not_copied_first(home, limit, endless):
    """Its copy filled the disk: 31 as soon as it is larger than a message of a stranger may be."""
    if limit is not None:
        with open(f"{home.control}/localbytes", "w", encoding="ascii") as file:
            file.write(limit)
    before, after = (endless, "") if endless.endswith("|") else ("", endless)
    command = f"{before} {sys.executable} {ROOT}/bin/pyqueue {after} 1</dev/null"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin", "PYQMAIL_HOME": home.path},
        timeout=60,
    )
    assert done.returncode == 31


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_full_disk_ends_a_message_without_end(home, tmp_path):
    """What cannot be kept is read no further."""
    (tmp_path / "small").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", tmp_path / "small"]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        environ = {"PYQMAIL_HOME": home.path, "TMPDIR": str(tmp_path / "small")}
        with open("/dev/zero", "rb") as zeros:
            command = [sys.executable, f"{ROOT}/bin/pyqueue"]
            assert subprocess.run(command, stdin=zeros, env=environ, timeout=60).returncode == 53
    finally:
        subprocess.run(["umount", "--lazy", tmp_path / "small"], check=True)
