"""pysupervise and what goes wrong: files of others, no processes, a thousand ends, a clock that jumps, full FIFOs.

What stays untested: the 60 seconds of rest after a failed fork, to their end; a full disk (a full /dev stands for it).
"""

import os
import pwd
import re
import resource
import signal
import sys

import pytest

from tests.waiting import until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to become another user")


def send(folder, commands):
    fd = os.open(folder / "supervise/control", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, commands)
    os.close(fd)


def said(stage):
    return stage.err().decode().split("\n")[:-1]


def nobody():
    return pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def tmp_path(open_path):
    """Others are at home here, too."""
    return open_path


@as_root
@pytest.mark.parametrize("name", ["", "lock", "control", "ok"])
def test_files_of_another_user(stage, name):
    folder = stage.service("a")
    os.chown(folder, nobody(), -1)
    place = folder / "supervise"
    place.mkdir(mode=0o700)
    if name:
        os.chown(place, nobody(), -1)
        if name == "lock":
            (place / name).touch(mode=0o600)
        else:
            os.mkfifo(place / name, 0o600)
    done = stage.run("pysupervise", "a", user=nobody())
    what = {"": "acquire a/supervise/lock", "lock": "acquire a/supervise/lock"}.get(name, f"read a/supervise/{name}")
    assert done == (111, b"", f"supervise: fatal: unable to {what}: access denied\n".encode())


@as_root
@pytest.mark.parametrize("link", [None, "there"])
def test_a_folder_that_cannot_be_made(stage, link):
    """Its lock is not there then, but that is not what is wrong."""
    folder = stage.service("a")
    if link:
        (folder / "supervise").symlink_to(link)
    done = stage.run("pysupervise", "a", user=nobody())
    assert done == (111, b"", b"supervise: fatal: unable to acquire a/supervise/lock: access denied\n")


FULL = """mount -t tmpfs -o nr_inodes=%d none "$PWD" && cd "$PWD" || exit 77
mkdir a && echo '#!/bin/sh' > a/run || exit 78
exec "$@"
"""


@pytest.mark.parametrize("inodes, what", [(3, "acquire a/supervise/lock"), (5, "read a/supervise/control")])
def test_a_disk_without_room_for_another_file(stage, inodes, what):
    command = ["unshare", "-m", "sh", "-c", FULL % inodes, "sh", *stage.command("pysupervise"), "a"]
    done = stage.run(*command)
    if done.code in (1, 77):
        pytest.skip(done.err.decode())
    last = done.err.decode().splitlines()[-1]  # with five there is a lock, but no status
    assert (done.code, last) == (111, f"supervise: fatal: unable to {what}: out of disk space")


@as_root
@pytest.mark.parametrize("name", ["status", "details"])
def test_files_of_another_user_that_are_replaced(stage, name):
    folder = stage.service("a", is_down=True)
    os.chown(folder, nobody(), -1)
    (folder / "supervise").mkdir(mode=0o700)
    os.chown(folder / "supervise", nobody(), -1)
    (folder / "supervise" / name).write_bytes(b"x" * 99)
    process = stage.start("pysupervise", "a", user=nobody())
    until(lambda: stage.is_supervised(folder) and len(stage.state(folder)) == 18)
    send(folder, b"x")
    assert process.wait(10) == 0 and said(stage) == []
    assert (folder / "supervise" / name).stat().st_uid == nobody()


@as_root
def test_no_process_to_be_had(stage):
    """One line, 60 seconds of rest; TERM still ends it."""
    folder = stage.service("a")
    uid = 64999  # nobody else's, so that one process is all there is
    os.chown(folder, uid, -1)

    def become():
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        os.setgid(65534)
        os.setuid(uid)

    process = stage.start("pysupervise", "a", preexec_fn=become)
    line = "supervise: warning: unable to fork for a, sleeping 60 seconds: temporary failure"
    until(lambda: said(stage) == [line])
    assert stage.is_supervised(folder) and stage.pid(folder) == 0
    assert stage.state(folder)[17:] == b"u"
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM


# exits a thousand times: the supervisor's second is made short, nothing else is changed
FAST = """
import sys
from pyqmail.programs import pysupervise
from pyqmail.supervise import supervisor
from pyqmail.supervise import timing
supervisor.DEAF_SECONDS = timing.MIN_SECONDS = 0
sys.exit(pysupervise.main(["supervise", sys.argv[1]]))
"""


def test_a_thousand_ends(stage):
    folder = stage.service("a", "#!/bin/sh\n")
    stage.command = lambda name: [sys.executable, "-c", FAST]
    process = stage.start("fast", "a")

    def starts():
        try:
            facts = (folder / "supervise/details").read_text()
        except FileNotFoundError:
            return 0
        return int(facts.split("starts ")[1].split("\n")[0])

    def pages():
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
            return int(file.read().split("Rss:")[1].split()[0])

    until(lambda: starts() >= 100)
    before, files = pages(), len(os.listdir(f"/proc/{process.pid}/fd"))
    until(lambda: starts() >= 1000)
    assert pages() - before < 256 and abs(len(os.listdir(f"/proc/{process.pid}/fd")) - files) <= 1
    send(folder, b"dx")
    assert process.wait(10) == 0 and said(stage) == []


def test_a_control_fifo_full_of_rubbish(stage):
    folder = stage.service("a", is_down=True)
    process = stage.start("pysupervise", "a")
    until(lambda: stage.is_supervised(folder))
    os.kill(process.pid, signal.SIGSTOP)
    fd = os.open(folder / "supervise/control", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(fd, b"\0z!\xff" * 1024)
    except BlockingIOError:
        pass
    os.kill(process.pid, signal.SIGCONT)

    def gets_through():
        try:
            return os.write(fd, b"x")
        except BlockingIOError:
            return 0

    until(gets_through)
    os.close(fd)
    assert process.wait(20) == 0 and said(stage) == []


def test_a_run_that_closes_and_forks(stage):
    """What it leaves behind does not keep the supervisor from anything."""
    folder = stage.service("a", "#!/bin/sh\nexec <&- >&- 2>&-\nsleep 600 &\nsleep 600 &\n")
    process = stage.start("pysupervise", "a")
    first = stage.up(folder)
    until(lambda: stage.pid(folder) not in (0, first))
    send(folder, b"dx")
    assert process.wait(10) == 0


def test_a_status_that_cannot_be_written(stage, faults):
    """As on a full disk: one line each time, and the service is supervised all the same."""
    folder = stage.service("a", is_down=True)
    paths = [folder / f"supervise/{name}.new" for name in ("status", "details")]
    words = faults.prefix("write:error=ENOSPC", paths=paths)
    process = stage.start(*words, *stage.command("pysupervise"), "a")
    until(lambda: stage.is_supervised(folder))
    line = "supervise: warning: unable to write a/supervise/status.new: out of disk space"
    until(lambda: said(stage))
    send(folder, b"u")
    until(lambda: any(os.readlink(f"/proc/{pid}/exe").endswith("sleep") for pid in stage.everyone()))
    send(folder, b"dx")
    assert process.wait(10) == 0
    alone = line.replace("status", "details")  # if it ended before x was read: that it is down is in the details only
    assert {line} <= set(said(stage)) <= {line, alone}


def test_a_supervise_directory_that_goes_away(stage):
    folder = stage.service("a")
    stage.start("pysupervise", "a")
    first = stage.up(folder)
    (folder / "supervise").rename(folder / "gone")
    os.kill(first, signal.SIGKILL)
    line = "supervise: warning: unable to open a/supervise/status.new: file does not exist"
    until(lambda: said(stage).count(line) >= 2)  # its end, and the new start
    caught = "supervise: warning: unable to rename a/supervise/status.new to status: file does not exist"
    assert set(said(stage)) <= {line, caught}  # it may have been about to write that the first second is over


JUMPING = """
import sys, time
from pyqmail.programs import pysupervise
real, shift = time.time_ns, 0
time.time_ns = lambda: real() - shift
class Jumping(pysupervise.Supervisor):
    def _end_deaf_second(self):
        global shift
        shift = 3600 * 10**9  # after the first second somebody sets the clock
        super()._end_deaf_second()
pysupervise.Supervisor = Jumping
sys.exit(pysupervise.main(["supervise", sys.argv[1]]))
"""


def test_a_clock_set_back_an_hour(stage):
    """Labels show the wall clock, as they must; starts come all the same, not an hour later."""
    folder = stage.service("a", "#!/bin/sh\ndate +%s.%N >> times\n")
    (folder / "backoff").write_text("2")
    stage.command = lambda name: [sys.executable, "-c", JUMPING] if name == "jumping" else [name]
    process = stage.start("jumping", "a")
    path = folder / "times"
    times = until(lambda: path.exists() and len(path.read_text().split()) >= 3 and path.read_text().split())
    seconds = int.from_bytes(stage.state(folder)[:8], "big") - (1 << 62) - 10
    assert 3500 < float(times[0]) - seconds < 3700
    send(folder, b"dx")
    assert process.wait(10) == 0


REFUSALS = [
    # the system call that fails     program         what it says
    ("epoll_create1:error=EMFILE",    "pysupervise a", "unable to create pipe for a: process cannot open more files"),
    ("pipe2:error=ENFILE:when=1",     "pysupervise a", "unable to create pipe for a: system cannot open more files"),
    ("epoll_ctl:error=ENOSPC:when=2", "pysupervise a", "unable to watch a: out of disk space"),
    ("epoll_create1:error=EMFILE",    "pysvscan",      "unable to create pipe: process cannot open more files"),
    ("pipe2:error=ENFILE:when=1",     "pysvscan",      "unable to create pipe: system cannot open more files"),
    ("epoll_ctl:error=ENOSPC:when=2", "pysvscan",      "unable to watch directory: out of disk space"),
    ("epoll_ctl:error=ENOSPC:when=2", "pysvscan --stop-on-term", "unable to watch directory: out of disk space"),
]  # fmt: skip


@pytest.mark.parametrize("fault, program, problem", REFUSALS)
def test_it_cannot_begin(stage, faults, fault, program, problem):
    stage.service("a")
    name, *arguments = program.split()
    done = stage.run(*faults.prefix(fault), *stage.command(name), *arguments)
    assert done == (111, b"", f"{name[2:]}: fatal: {problem}\n".encode())
    assert stage.everyone() == []


def test_nothing_is_watched_anew_after_a_start(stage, tmp_path, strace_path):
    """The kernel could refuse it, and the supervisor would have to leave its service alone."""
    folder, trace = stage.service("a"), tmp_path / "trace"
    command = [*stage.command("pysupervise"), "a"]
    process = stage.start(strace_path, "-D", "-qq", "-o", trace, "-e", "trace=epoll_ctl", *command)
    os.kill(first := stage.up(folder), signal.SIGKILL)
    until(lambda: stage.pid(folder) not in (0, first))
    send(folder, b"dx")
    assert process.wait(10) == 0
    calls = trace.read_bytes()
    assert calls.count(b"EPOLL_CTL_ADD") == 2 and calls.count(b"EPOLL_CTL_MOD") >= 3  # SIGCHLD's, control's


@pytest.mark.parametrize("fault", ["pipe2:error=EMFILE:when=2", "epoll_ctl:error=ENOSPC:when=3"])
def test_a_service_that_cannot_be_heard_to_be_ready(stage, faults, fault):
    """It is started without the descriptor."""
    folder = stage.service("a", "#!/bin/sh\n[ ! -e /proc/self/fd/7 ] || touch given\nexec sleep 600\n")
    (folder / "notification-fd").write_text("7\n")
    process = stage.start(*faults.prefix(fault), *stage.command("pysupervise"), "a")
    pid = stage.up(folder)
    until(lambda: os.readlink(f"/proc/{pid}/exe").endswith("sleep"))
    assert faults.count and not (folder / "given").exists()
    send(folder, b"dx")
    assert process.wait(10) == 0 and said(stage) == []


def test_a_supervisor_loads_nothing_after_its_start(stage, tmp_path, strace_path):
    """There may be no descriptor for it, or another version by then."""
    folder, trace = stage.service("a"), tmp_path / "trace"
    command = [*stage.command("pysupervise"), "a"]
    process = stage.start(strace_path, "-D", "-qq", "-o", trace, "-e", "trace=open,openat,flock", *command)
    first = stage.up(folder)
    for name in ("backoff", "down-signal", "timeout-kill", "timeout-finish", "notification-fd"):
        (folder / name).write_text("nonsense")
    (folder / "finish").write_text("#!/bin/sh\n")
    (folder / "finish").chmod(0o755)
    os.kill(first, signal.SIGKILL)
    until(lambda: stage.pid(folder) not in (0, first))
    send(folder, b"dx")
    assert process.wait(10) == 0 and len(said(stage)) >= 5
    _, _, opened = trace.read_bytes().partition(b"flock(")
    assert b'"status.new"' in opened and b".py" not in opened


LOOKS = [
    # what it fails to look at when it begins
    "openat:error=ENFILE:path=supervise/status",
    "openat:error=EMFILE:path=supervise/details",
    "pidfd_open:error=ENOMEM",
    "openat:error=ENFILE:path=/proc/sys/kernel/random/boot_id",
]


@pytest.mark.parametrize("look", LOOKS)
def test_no_second_copy_for_want_of_a_descriptor(stage, faults, look):
    """A survivor that cannot be looked for may be there: the next try will tell."""
    folder, (fault, _, path) = stage.service("a"), look.partition(":path=")
    process = stage.start("pysupervise", "a")
    pid = stage.up(folder)
    until(lambda: os.readlink(f"/proc/{pid}/exe").endswith("sleep"))
    process.kill()
    process.wait()
    done = stage.run(*faults.prefix(fault, paths=[path] if path else ()), *stage.command("pysupervise"), "a")
    assert done.code == 111 and re.fullmatch(rb"supervise: fatal: unable to (read|look for) [^:]*: [a-z ]+\n", done.err)
    assert stage.everyone() == [pid]
    process = stage.start("pysupervise", "a")
    until(lambda: stage.is_supervised(folder))
    send(folder, b"dx")
    assert process.wait(10) == 0 and stage.everyone() == []
