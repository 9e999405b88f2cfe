"""pysupervise as a program: its files, its service, its faults.  What it shares with the original: tests/interop."""

import fcntl
import itertools
import os
import re
import shutil
import signal
import stat

import pytest

from tests.processes import needs_system_calls, sleeps_for_ever, switches
from tests.waiting import until

# says what it gets, on descriptor 1, and waits without children
TALKER = """#!/bin/sh
test -p hold || mkfifo hold
exec 9<>hold
for name in HUP ALRM INT TERM QUIT USR1 USR2 WINCH; do trap "echo $name" $name; done
echo begun
while :; do read line <&9; done
"""
ENDS = "#!/bin/sh\necho begun\n"


def said(stage):
    return stage.err().decode().split("\n")[:-1]


def send(folder, commands):
    fd = os.open(folder / "supervise/control", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, commands)
    os.close(fd)


def test_nothing_stands_between_control_and_ok(stage, tmp_path, strace_path):
    """Who sends dx in between and then finds no ok believes that we have left, while we start the service."""
    folder, trace = stage.service("a", is_down=True), tmp_path / "trace"
    command = stage.command("pysupervise")
    calls = ("-e", "trace=open,openat,rename,renameat,renameat2")
    stage.start("strace", "-D", "-f", "-qq", "-o", trace, *calls, *command, "a")
    until(lambda: stage.is_supervised(folder))
    send(folder, b"dx")
    until(lambda: not stage.is_supervised(folder))
    until(lambda: re.search(rb'"supervise/ok"', trace.read_bytes()))
    names = re.findall(rb'"supervise/([a-z.]+)"', trace.read_bytes())
    first = names.index(b"control")
    assert b"status" in names[:first] and names[first : first + 3] == [b"control", b"control", b"ok"]


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_usage(run, arguments):
    assert run("pysupervise", *arguments) == (100, b"", b"supervise: usage: supervise dir\n")


def test_its_files(stage):
    folder = stage.service("a")
    stage.start("pysupervise", "a")
    pid = stage.up(folder)
    place = folder / "supervise"
    assert sorted(os.listdir(place)) == ["control", "details", "lock", "ok", "status"]
    modes = {name: os.stat(place / name).st_mode for name in os.listdir(place)}
    assert modes == {
        "control": stat.S_IFIFO | 0o600,
        "ok": stat.S_IFIFO | 0o600,
        "lock": stat.S_IFREG | 0o600,
        "details": stat.S_IFREG | 0o644,
        "status": stat.S_IFREG | 0o644,
    }
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o700
    assert len(stage.state(folder)) == 18 and stage.state(folder)[16:] == b"\0u"
    assert os.readlink(f"/proc/{pid}/cwd") == str(folder)
    with open(place / "lock", "ab") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    second = stage.run("pysupervise", "a")
    assert second == (111, b"", b"supervise: fatal: unable to acquire a/supervise/lock: temporary failure\n")


def test_what_the_service_starts_with(stage):
    folder = stage.service("a")
    extra = os.open("/dev/null", os.O_RDONLY)
    stage.start("pysupervise", "a", pass_fds=[extra])
    pid = stage.up(folder)
    until(lambda: os.readlink(f"/proc/{pid}/exe").endswith("sleep"))
    # sleep itself opens a few files as it begins
    until(lambda: sorted(map(int, os.listdir(f"/proc/{pid}/fd"))) == sorted({0, 1, 2, extra}))
    os.close(extra)
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.rstrip("\n").split(":\t") for line in file if ":\t" in line)
    assert [int(fields[name], 16) for name in ("SigBlk", "SigCgt")] == [0, 0]
    ignored = int(fields["SigIgn"], 16)
    assert not any(ignored >> (number - 1) & 1 for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGXFSZ))
    assert os.getpgid(pid) == os.getpgid(0)


def test_every_letter(stage):
    folder = stage.service("a", TALKER)
    supervisor = stage.start("pysupervise", "a")
    pid = stage.up(folder)
    until(lambda: said(stage) == ["begun"])
    expected = ["begun"]
    old = {b"h": "HUP", b"a": "ALRM", b"i": "INT", b"t": "TERM"}
    for letter, name in {**old, b"q": "QUIT", b"1": "USR1", b"2": "USR2", b"w": "WINCH"}.items():
        send(folder, letter)
        expected.append(name)
        until(lambda: said(stage) == expected)
    send(folder, b"p")
    until(lambda: stage.state(folder)[16] == 1)
    send(folder, b"z!c")
    until(lambda: stage.state(folder)[16] == 0)
    send(folder, b"o")
    until(lambda: stage.state(folder)[17:] == b"\0")
    send(folder, b"k")
    until(lambda: stage.pid(folder) == 0)
    send(folder, b"u")
    assert stage.up(folder) != pid
    send(folder, b"xd")  # x before d works too; TERM does not end this one
    until(lambda: said(stage)[-1] == "TERM")
    assert supervisor.poll() is None
    send(folder, b"k")
    assert supervisor.wait(10) == 0
    assert stage.state(folder)[12:] == b"\0\0\0\0\0d"


def test_down_file_and_once(stage):
    folder = stage.service("a", ENDS, is_down=True)
    supervisor = stage.start("pysupervise", "a")
    until(lambda: stage.is_supervised(folder))
    assert stage.state(folder)[12:] == b"\0\0\0\0\0d" and said(stage) == []
    send(folder, b"o")
    until(lambda: said(stage) == ["begun"])
    until(lambda: stage.pid(folder) == 0 and stage.state(folder)[17:] == b"\0")
    send(folder, b"x")
    assert supervisor.wait(10) == 0 and said(stage) == ["begun"]


def test_a_service_that_ends_at_once_starts_once_a_second_and_obeys(stage):
    folder = stage.service("a", "#!/bin/sh\ndate +%s.%N >> times\n")
    supervisor = stage.start("pysupervise", "a")
    times = until(lambda: len(t := lines(folder / "times")) >= 3 and t)
    assert all(0.9 < float(later) - float(earlier) < 2 for earlier, later in itertools.pairwise(times))
    send(folder, b"dx")
    assert supervisor.wait(10) == 0


def lines(path):
    return path.read_text().split() if path.exists() else []


UNFIT = [
    # what stands in the way, message
    (lambda folder: (folder / "run").unlink(), "file does not exist"),
    (lambda folder: (folder / "run").chmod(0o644), "access denied"),
    (lambda folder: ((folder / "run").unlink(), (folder / "run").mkdir()), "access denied"),
    (lambda folder: (folder / "run").write_text("exec sleep 600\n"), "exec format error"),
    (lambda folder: (folder / "run").write_text("#!/no/such/interpreter\n"), "file does not exist"),
]


@pytest.mark.parametrize("spoil, why", UNFIT)
def test_a_run_that_cannot_be_executed(stage, spoil, why):
    folder = stage.service("a")
    spoil(folder)
    supervisor = stage.start("pysupervise", "a")
    line = f"supervise: fatal: unable to start a/run: {why}"
    until(lambda: len(said(stage)) >= 2)
    assert set(said(stage)) == {line} and supervisor.poll() is None
    send(folder, b"dx")
    assert supervisor.wait(10) == 0


def test_a_run_mended_while_it_is_tried(stage):
    folder = stage.service("a", None)
    stage.start("pysupervise", "a")
    until(lambda: said(stage))
    (folder / "new").write_text(stage.IDLE)
    (folder / "new").chmod(0o755)
    (folder / "new").rename(folder / "run")
    assert stage.up(folder)


GARBAGE = [
    # name, what stands there, message or None if it goes on
    ("status", "file", None),
    ("status", "folder", "supervise: warning: unable to rename a/supervise/status.new to status: is a directory"),
    ("status.new", "folder", "supervise: warning: unable to open a/supervise/status.new: is a directory"),
    ("control", "file", "supervise: warning: a/supervise/control is not a FIFO, making it again"),
    ("ok", "file", "supervise: warning: a/supervise/ok is not a FIFO, making it again"),
]


@pytest.mark.parametrize("name, kind, line", GARBAGE)
def test_garbage_it_survives(stage, name, kind, line):
    folder = stage.service("a")
    (folder / "supervise").mkdir()
    path = folder / "supervise" / name
    path.mkdir() if kind == "folder" else path.write_bytes(b"x" * 99)
    supervisor = stage.start("pysupervise", "a")
    until(lambda: stage.is_supervised(folder))
    until(lambda: set(said(stage)) == ({line} if line else set()))
    send(folder, b"dx")
    assert supervisor.wait(10) == 0


FATAL = [
    ("control", "folder", "unable to read a/supervise/control: is a directory"),
    ("ok", "folder", "unable to read a/supervise/ok: is a directory"),
    ("lock", "folder", "unable to acquire a/supervise/lock: is a directory"),
    ("", "file", "unable to acquire a/supervise/lock: not a directory"),
]


@pytest.mark.parametrize("name, kind, text", FATAL)
def test_garbage_it_does_not(stage, name, kind, text):
    folder = stage.service("a")
    path = folder / "supervise" / name
    if kind == "folder":
        path.mkdir(parents=True)
    else:
        path.write_bytes(b"")
    assert stage.run("pysupervise", "a") == (111, b"", f"supervise: fatal: {text}\n".encode())


def test_a_dangling_link_is_filled(stage):
    folder = stage.service("a")
    os.symlink("../elsewhere", folder / "supervise")
    stage.start("pysupervise", "a")
    assert stage.up(folder)
    assert stat.S_IMODE(os.stat(stage.place / "elsewhere").st_mode) == 0o700


@needs_system_calls
def test_at_rest_it_does_nothing(stage):
    folder = stage.service("a")
    supervisor = stage.start("pysupervise", "a")
    stage.up(folder)
    send(folder, b"o")  # heard only after the deaf second: from then on it rests
    until(lambda: stage.state(folder)[17:] == b"\0")
    until(lambda: sleeps_for_ever(supervisor.pid))
    before = switches(supervisor.pid)
    stage.run("pysvstat", "a")  # of no interest
    assert sleeps_for_ever(supervisor.pid) and switches(supervisor.pid) == before


def test_killed_it_leaves_its_service_and_the_next_takes_it_over(stage):
    folder = stage.service("a")
    supervisor = stage.start("pysupervise", "a")
    pid = stage.up(folder)
    supervisor.terminate()
    assert supervisor.wait(10) == -signal.SIGTERM
    os.kill(pid, 0)
    assert not stage.is_supervised(folder)
    before = stage.state(folder)
    second = stage.start("pysupervise", "a")
    assert stage.up(folder) == pid and stage.state(folder) == before  # with its age
    line = f"supervise: warning: a/run still runs as pid {pid}, its supervisor was killed: taking it over"
    assert said(stage) == [line]
    send(folder, b"p")
    until(lambda: stage.state(folder)[16] == 1)
    send(folder, b"ct")  # it ends, and is started again
    assert until(lambda: stage.pid(folder) not in (0, pid))
    send(folder, b"dx")
    assert second.wait(10) == 0 and said(stage) == [line]


# what makes it doubtful that the process with the pid in the status is the service
DOUBTS = [
    lambda details, pid: None,
    lambda details, pid: b"",
    lambda details, pid: re.sub(rb"begun \d+", b"begun 1", details),  # a pid used again
    lambda details, pid: re.sub(rb"begun (\d+) .*", rb"begun \1 another-boot", details),
    lambda details, pid: re.sub(rb"label @.{16}", b"label @4000000000000000", details),
    lambda details, pid: re.sub(rb"place (\d+) \d+", rb"place \1 1", details),
    lambda details, pid: re.sub(rb"place \d+", b"place 1", details),
    lambda details, pid: re.sub(rb"place .*\n", b"", details),
    lambda details, pid: re.sub(rb"supervisor .*\n", b"", details),
    lambda details, pid: re.sub(
        rb"supervisor .*", b"supervisor %d %b" % (pid, re.search(rb"begun (.*)", details)[1]), details
    ),
]


COPIES = [
    "cp -a a b",
    "cp -R a b",
    "mkdir b; tar -C a -cf - . | tar -C b -xf -",
    "cp -a a b; rm -rf a",  # as mv does where b is on another file system
    "cp -a a b; rm -rf a; mv b a",
    "cp -a a b; rm -rf a; cp -a b a; rm -rf b",
    "tar -cf c.tar a; rm -rf a; tar -xf c.tar",  # it may get the same inode number
    "cp -a a c; mkdir b; cp -a c/. b",
    "cp -a a b; rm -rf b/supervise; cp -a a/supervise b",
]


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("copying", COPIES)
def test_a_copied_directory_has_a_service_of_its_own(stage, copying, is_killed):
    """Whether the first one's supervisor lives or was killed; its process is not waited for as if it were a copy's."""
    supervisor = stage.start("pysupervise", stage.service("a"))
    pid = stage.up(stage.place / "a")
    if is_killed:
        supervisor.kill()
        supervisor.wait()
    number = (stage.place / "a").stat().st_ino

    def copies():
        for name in ("b", "c"):
            shutil.rmtree(stage.place / name, ignore_errors=True)
        return stage.run("sh", "-ec", copying).code == 0

    until(copies)  # again if cp or tar saw a file that was just being replaced
    place = stage.place / ("b" if (stage.place / "b").exists() else "a")
    if is_killed and place.stat().st_ino == number:
        pytest.skip("the same place again: it may as well be taken over")
    assert stage.run("pysvwait", "-d", "-t", "20", place).code == 0
    stage.start("pysupervise", place)
    assert until(lambda: stage.is_supervised(place) and stage.pid(place) not in (0, pid))
    os.kill(pid, 0)
    assert b"taking it over" not in stage.err()


def test_renamed_it_is_the_same_service(stage):
    supervisor = stage.start("pysupervise", stage.service("a"))
    pid = stage.up(stage.place / "a")
    supervisor.kill()
    supervisor.wait()
    (stage.place / "a").rename(stage.place / "b")
    stage.start("pysupervise", "b")
    assert stage.up(stage.place / "b") == pid and b"taking it over" in stage.err()


@pytest.mark.parametrize("place", ["supervise a link", "SUPERVISEDIR"])
def test_the_status_is_true_when_the_directory_was_made_again(stage, tmp_path, place):
    """Its folder is elsewhere, and found by the new directory too: there it must show what the old supervisor does."""
    environ = stage.environ()
    if place == "SUPERVISEDIR":
        environ["SUPERVISEDIR"] = str(tmp_path / "run")

    def make():
        folder = stage.service("a")
        if place != "SUPERVISEDIR":
            (folder / "supervise").symlink_to(tmp_path / "elsewhere")
        return folder

    folder = make()
    supervisor = stage.start("pysupervise", "a", env=environ)
    wait = stage.run("pysvwait", "-u", "-t", "20", "a", env=environ)
    assert wait.code == 0, wait
    shutil.rmtree(folder)
    make()
    assert stage.run("pysvstat", "a", env=environ).out.startswith(b"a: up (pid ")
    stage.run("pysvc", "-d", "a", env=environ)
    assert stage.run("pysvwait", "-d", "-t", "20", "a", env=environ).code == 0
    assert stage.run("pysvstat", "a", env=environ).out.startswith(b"a: down ")
    stage.run("pysvc", "-x", "a", env=environ)
    assert supervisor.wait(10) == 0 and said(stage) == []


@pytest.mark.parametrize("name", ["status.new", "details.new"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_what_stands_in_its_folder_is_not_written_to(stage, tmp_path, name, link):
    """The folder may belong to whoever is to command the service."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = stage.service("a")
    (folder / "supervise").mkdir(mode=0o700)
    link(victim, folder / "supervise" / name)
    supervisor = stage.start("pysupervise", "a")
    stage.up(folder)
    for _ in range(3):
        try:
            link(victim, folder / "supervise" / name)
        except FileExistsError:
            pass
        send(folder, b"c")
    send(folder, b"dx")
    assert supervisor.wait(10) == 0
    assert victim.read_text() == "precious" and len(stage.state(folder)) == 18


@pytest.mark.parametrize("name", ["lock", "control", "ok"])
def test_no_link_in_its_folder_is_followed(stage, tmp_path, name):
    victim = tmp_path / "victim"
    folder = stage.service("a", is_down=True)
    (folder / "supervise").mkdir(mode=0o700)
    os.symlink(victim, folder / "supervise" / name)
    if name == "lock":
        done = stage.run("pysupervise", "a")
        assert done == (111, b"", b"supervise: fatal: unable to acquire a/supervise/lock: symbolic link loop\n")
    else:
        os.mkfifo(victim)
        supervisor = stage.start("pysupervise", "a")
        until(lambda: stage.is_supervised(folder))
        assert said(stage) == [f"supervise: warning: a/supervise/{name} is not a FIFO, making it again"]
        send(folder, b"x")
        assert supervisor.wait(10) == 0
    assert not victim.exists() or not victim.is_file()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_status_that_somebody_else_wrote_is_not_believed(stage):
    """Or root would take over, and end, whatever process they name."""
    folder = stage.service("a")
    supervisor = stage.start("pysupervise", "a")
    pid = stage.up(folder)
    supervisor.kill()
    supervisor.wait()
    os.chown(folder / "supervise/details", 12345, 12345)
    stage.start("pysupervise", "a")
    assert until(lambda: stage.pid(folder) not in (0, pid))


@pytest.mark.parametrize("change", DOUBTS)
def test_what_is_doubtful_is_not_taken_over(stage, change):
    folder = stage.service("a")
    supervisor = stage.start("pysupervise", "a")
    pid = stage.up(folder)
    supervisor.kill()
    supervisor.wait()
    path = folder / "supervise/details"
    content = change(path.read_bytes(), pid)
    path.unlink() if content is None else path.write_bytes(content)
    stage.start("pysupervise", "a")
    assert until(lambda: stage.pid(folder) not in (0, pid))
    os.kill(pid, 0)
    assert said(stage) == []


def test_one_that_ended_meanwhile_is_not_taken_over(stage):
    folder = stage.service("a")
    supervisor = stage.start("pysupervise", "a")
    pid = stage.up(folder)
    supervisor.kill()
    supervisor.wait()
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_gone(pid))
    stage.start("pysupervise", "a")
    assert until(lambda: stage.pid(folder) not in (0, pid)) and said(stage) == []


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"  # nobody here reaps what init should
    except FileNotFoundError:
        return True


def test_what_is_taken_over_while_it_should_be_down_is_not_started_again(stage):
    folder = stage.service("a")
    supervisor = stage.start("pysupervise", "a")
    pid = stage.up(folder)
    supervisor.kill()
    supervisor.wait()
    (folder / "down").touch()
    second = stage.start("pysupervise", "a")
    until(lambda: stage.is_supervised(folder) and stage.state(folder)[17:] == b"d")
    assert stage.pid(folder) == pid
    send(folder, b"dx")
    assert second.wait(10) == 0
