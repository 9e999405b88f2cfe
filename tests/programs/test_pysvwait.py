"""pysvwait as a program: what it waits for, and that it sleeps meanwhile.

What stays untested: a kernel without notices, where it looks once a second.
"""

import os
import shutil
import signal
import subprocess

import pytest

from tests.processes import is_at_rest, switches
from tests.waiting import until

USAGE = b"pysvwait: usage: pysvwait -u | -U | -d [ -t seconds ] [ -a | -o ] dir ...\n"
needs_original = pytest.mark.skipif(not shutil.which("supervise"), reason="daemontools is not installed")
SUPERVISORS = [
    "pysupervise",
    pytest.param("supervise", marks=needs_original),
]


@pytest.fixture
def wait(stage):
    """Start pysvwait; returns its Popen, once it sleeps unless it has ended."""

    def start(*words):
        process = stage.start("pysvwait", *words)
        until(lambda: process.poll() is not None or is_waiting(process.pid))
        return process

    return start


def is_waiting(pid):
    """Return whether it sleeps in poll(2), which it does for one reason."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
        return file.read().split()[0] in (POLL, PPOLL)


POLL, PPOLL = "7", "271"
pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls")


def send(folder, commands):
    fd = os.open(folder / "supervise/control", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, commands)
    os.close(fd)


BAD = [
    ([], b""),
    (["a"], b""),
    (["-u"], b""),
    (["-u", "-t", "x", "a"], b"pysvwait: not a number of seconds: x\n"),
    (["-u", "-t", "-1", "a"], b"pysvwait: not a number of seconds: -1\n"),
    (["-u", "-t", "٣", "a"], "pysvwait: not a number of seconds: ٣\n".encode()),
    (["-z", "a"], b"pysvwait: illegal option -- z\n"),
]


@pytest.mark.parametrize("words, complaint", BAD)
def test_usage(run, words, complaint):
    assert run("pysvwait", *words) == (100, b"", complaint + USAGE)


def test_what_cannot_be_told(run, tmp_path):
    (tmp_path / "a/supervise/status").mkdir(parents=True)
    (tmp_path / "file").touch()

    def fails(name):
        done = run("pysvwait", "-u", "-t", "0", name, cwd=tmp_path)
        assert (done.code, done.out) == (111, b"")
        return done.err.decode()

    assert fails("missing") == "pysvwait: fatal: unable to chdir to missing: file does not exist\n"
    assert fails("") == "pysvwait: fatal: unable to chdir to : file does not exist\n"
    assert fails("file") == "pysvwait: fatal: unable to chdir to file: not a directory\n"
    assert fails("a") == "pysvwait: fatal: unable to read a/supervise/status: is a directory\n"


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_up_and_down(stage, wait, supervisor):
    """From before there is a supervisor until after it has gone."""
    folder = stage.service("a", is_down=True)
    up = wait("-u", "a")
    assert stage.run("pysvwait", "-d", "-t", 0, "a").code == 0
    process = stage.start(supervisor, "a")
    until(lambda: stage.is_supervised(folder))
    assert stage.run("pysvwait", "-u", "-t", 0, "a").code == 99
    assert stage.run("pysvwait", "-d", "-t", 0, "a").code == 0
    send(folder, b"u")
    assert up.wait(10) == 0
    assert stage.run("pysvwait", "-U", "-t", 0, "a").code == 0  # it cannot say when it is ready
    down = wait("-d", "a")
    assert down.poll() is None
    send(folder, b"dx")
    assert down.wait(10) == 0 and process.wait(10) == 0
    assert stage.run("pysvwait", "-d", "-t", 0, "a").code == 0
    assert stage.run("pysvwait", "-u", "-t", 0, "a").code == 99


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_a_supervisor_that_is_killed_leaves_a_service_that_is_not_down(stage, wait, supervisor):
    folder = stage.service("a")
    process = stage.start(supervisor, "a")
    pid = stage.up(folder)
    down = wait("-d", "a")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert stage.run("pysvwait", "-d", "-t", 0, "a").code == 99
    assert stage.run("pysvwait", "-u", "-t", 0, "a").code == 99
    os.kill(pid, signal.SIGKILL)
    assert down.wait(10) == 0


def test_another_process_of_its_number_is_not_the_service(stage, wait):
    folder = stage.service("a")
    supervisor = stage.start("pysupervise", "a")
    pid = stage.up(folder)
    supervisor.kill()
    supervisor.wait()
    os.kill(pid, signal.SIGKILL)
    status = folder / "supervise/status"
    before = status.read_bytes()
    status.write_bytes(before[:12] + os.getpid().to_bytes(4, "little") + before[16:])
    assert wait("-t", "10", "-d", "a").wait(10) == 0


def test_a_number_that_no_process_has(stage):
    folder = stage.service("a")
    (folder / "supervise").mkdir()
    (folder / "supervise/status").write_bytes(b"\xff" * 18)
    assert stage.run("pysvwait", "-t", "0", "-d", "a") == (0, b"", b"")


def test_down_is_after_finish_and_stop(stage, wait):
    folder = stage.service("a")
    for name in ("finish", "stop"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> told\nread line < go\n")
        (folder / name).chmod(0o755)
    os.mkfifo(folder / "go")
    stage.start("pysupervise", "a")
    stage.up(folder)
    send(folder, b"d")
    down = wait("-d", "a")
    for told in ("finish\n", "finish\nstop\n"):
        until(lambda told=told: (folder / "told").exists() and (folder / "told").read_text() == told)
        assert stage.run("pysvwait", "-d", "-t", 0, "a").code == 99
        assert down.poll() is None
        (folder / "go").write_text("\n")
    assert down.wait(10) == 0


def test_between_two_starts_it_is_not_down(stage):
    folder = stage.service("a", "#!/bin/sh\n")
    (folder / "backoff").write_text("60")
    stage.start("pysupervise", "a")
    stage.up(folder)
    until(lambda: b"state waiting" in (folder / "supervise/details").read_bytes())
    assert stage.run("pysvwait", "-d", "-t", 0, "a").code == 99


def test_all_and_one(stage, wait):
    a, b = stage.service("a"), stage.service("b", is_down=True)
    stage.start("pysupervise", "a")
    stage.start("pysupervise", "b")
    stage.up(a)
    until(lambda: stage.is_supervised(b))
    assert stage.run("pysvwait", "-u", "-o", "-t", 0, "a", "b").code == 0
    assert stage.run("pysvwait", "-uao", "-t0", "b", "a").code == 0
    assert stage.run("pysvwait", "-d", "-o", "-t", 0, "a", "b").code == 0
    assert stage.run("pysvwait", "-uoa", "-t", 0, "a", "b").code == 99
    everything = wait("-u", "a", "b", "a")
    send(b, b"u")
    assert everything.wait(10) == 0


@pytest.mark.parametrize("seconds", ["3000000", "9" * 400])
def test_a_very_long_time(stage, wait, seconds):
    folder = stage.service("a", is_down=True)
    stage.start("pysupervise", "a")
    until(lambda: stage.run("pysvok", "a").code == 0)
    waiting = wait("-u", "-t", seconds, "a")
    send(folder, b"u")
    assert waiting.wait(10) == 0


def test_a_time_limit(stage):
    stage.service("a")
    assert stage.run("pysvwait", "-u", "-t", "0.05", "a") == (99, b"", b"")


def test_it_sleeps(stage, wait):
    folder = stage.service("a")
    stage.start("pysupervise", "a")
    stage.up(folder)
    send(folder, b"o")  # heard only after the deaf second: from then on both rest
    until(lambda: stage.state(folder)[17:] == b"\0")
    process = wait("-d", "a")
    before = switches(process.pid)
    stage.run("pysvok", "a")  # of no interest
    assert is_at_rest(process.pid) and switches(process.pid) == before
    send(folder, b"d")
    assert process.wait(10) == 0


def test_a_folder_that_goes_and_comes_back(stage, wait):
    folder = stage.service("a", is_down=True)
    process = stage.start("pysupervise", "a")
    until(lambda: stage.is_supervised(folder))
    up = wait("-u", "a")
    send(folder, b"x")
    assert process.wait(10) == 0
    shutil.rmtree(folder / "supervise")
    stage.start("pysupervise", "a")
    until(lambda: stage.is_supervised(folder))
    send(folder, b"u")
    assert up.wait(10) == 0


def test_another_directory_of_its_name(stage, wait):
    folder = stage.service("a")
    stage.start("pysupervise", "a")
    stage.up(folder)
    process = wait("-d", "a")
    folder.rename(stage.place / ".a")  # where it goes on
    stage.service("a", is_down=True)
    assert process.poll() is None
    stage.start("pysupervise", "a")
    assert process.wait(10) == 0
    assert stage.pid(stage.place / ".a")


def test_a_removed_folder_says_nothing_of_a_supervisor_that_lives(stage, wait):
    folder = stage.service("a")
    supervisor = stage.start("pysupervise", "a")
    stage.up(folder)
    process = wait("-d", "a")
    shutil.rmtree(folder)
    until(lambda: is_waiting(process.pid))
    assert process.poll() is None
    supervisor.kill()
    assert process.wait(10) == 0  # nobody can know of anything there


def test_a_link_that_leads_nowhere_yet(stage, wait):
    folder = stage.service("a")
    os.symlink("../elsewhere", folder / "supervise")
    up = wait("-u", "a")
    stage.start("pysupervise", "a")
    assert up.wait(10) == 0


def test_a_hundred_services(stage, wait):
    """Made up: what a supervisor leaves, and a process of our own in its place."""
    from pyqmail.supervise.status import pack_status
    from pyqmail.system import clock

    readers, folders = [], [stage.service(f"s{number}", None) for number in range(100)]
    child = subprocess.Popen(["sleep", "600"])
    for folder in folders:
        (folder / "supervise").mkdir()
        os.mkfifo(folder / "supervise/ok")
        readers.append(os.open(folder / "supervise/ok", os.O_RDONLY | os.O_NONBLOCK))
        (folder / "supervise/status").write_bytes(pack_status(clock.now_label(), 0, False, b"d"))
    process = wait("-u", *(folder.name for folder in folders))
    for folder in reversed(folders):
        (folder / "supervise/status.new").write_bytes(pack_status(clock.now_label(), child.pid, False, b"u"))
        (folder / "supervise/status.new").rename(folder / "supervise/status")
    assert process.wait(20) == 0
    child.kill()
    child.wait()
    for reader in readers:
        os.close(reader)
