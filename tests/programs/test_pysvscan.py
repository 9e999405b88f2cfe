"""pysvscan as a program: supervisors without an interpreter of their own, logs through pipes, a clean end."""

import contextlib
import errno
import fcntl
import os
import re
import resource
import shutil
import signal
import sys
import time

import pytest

from tests.processes import needs_system_calls, sleeps_for_ever, wait_ms
from tests.waiting import until

LOGGED = "#!/bin/sh\necho $$ begun\nexec sleep 600\n"
TO_FILE = "#!/bin/sh\nexec cat >> lines\n"


UNHURRIED = ("--stop-seconds", "60")  # a clean end comes long before that; a wait for anything's end does not


@pytest.fixture
def tmp_path(open_path):
    """Others are at home here, too."""
    return open_path


def start(stage, *options, **how):
    return stage.start("pysvscan", *options, **how)


def lines(folder):
    path = folder / "log/lines"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def field(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith(f"{name}:"))


def test_it_supervises_a_service_and_its_log(stage):
    folder, other = stage.service("a", LOGGED, log=TO_FILE), stage.service("b")
    scanner = start(stage)
    pid = stage.up(folder)
    assert stage.up(other) and stage.up(folder / "log")
    until(lambda: lines(folder) == [f"{pid} begun"])
    supervisor = int(field(pid, "PPid"))
    assert int(field(supervisor, "PPid")) == scanner.pid
    assert field(supervisor, "Name") == "pysupervise"
    assert os.readlink(f"/proc/{supervisor}/exe") == os.readlink(f"/proc/{scanner.pid}/exe")
    with open(f"/proc/{supervisor}/cmdline", "rb") as ours, open(f"/proc/{scanner.pid}/cmdline", "rb") as its:
        shown = ours.read().rstrip(b"\0"), its.read().rstrip(b"\0").split(b"\0")[0]
    assert shown == (b"pysupervise\0a", b"pysvscan")
    assert stage.err() == b""


def own_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(("Private_Dirty:", "Private_Clean:")))


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="measured with Python 3.11")
def test_a_supervisor_has_little_memory_of_its_own(stage):
    """1,420 KB beside a hundred; one that is executed has 5 MB."""
    folders = [stage.service(f"a{number}") for number in range(12)]
    start(stage)
    supervisors = [int(field(stage.up(folder), "PPid")) for folder in folders]
    until(lambda: all("state up" in (folder / "supervise/details").read_text() for folder in folders))
    assert sorted(map(own_kb, supervisors))[6] < 1550


def test_no_pipe_is_left_open_elsewhere(stage):
    folders = [stage.service(name, LOGGED, log=TO_FILE) for name in "abc"]
    scanner = start(stage)
    pids = [stage.up(place) for folder in folders for place in (folder, folder / "log")]
    holders = {}
    for pid in [scanner.pid, *pids, *(int(field(pid, "PPid")) for pid in pids)]:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
            if int(fd) < 2 and pid != scanner.pid and target.startswith("pipe:"):
                holders.setdefault(target, set())
    for pid in [*pids, *(int(field(pid, "PPid")) for pid in pids)]:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert len([link for link in links if link in holders]) == 1
    assert len(holders) == 3


def test_a_restarted_log_goes_on_reading(stage):
    folder = stage.service("a", LOGGED, log=TO_FILE)
    start(stage)
    first, log = stage.up(folder), stage.up(folder / "log")
    until(lambda: lines(folder) == [f"{first} begun"])
    stage.run("pysvc", "-t", folder / "log")
    until(lambda: stage.pid(folder / "log") not in (0, log))  # a log that dies takes with it what it has read
    stage.run("pysvc", "-t", folder)
    second = until(lambda: (pid := stage.pid(folder)) not in (0, first) and pid)
    until(lambda: lines(folder) == [f"{first} begun", f"{second} begun"])


def test_like_the_original_it_dies_alone(stage):
    folder = stage.service("a")
    scanner = start(stage)
    pid = stage.up(folder)
    scanner.terminate()
    assert scanner.wait(20) == -signal.SIGTERM
    os.kill(pid, 0)
    assert stage.is_supervised(folder)


def test_a_service_that_comes_and_goes(stage):
    folder = stage.service(".a")
    start(stage)
    first = stage.service("first")
    shown = folder.rename(stage.place / "a")
    stage.up(shown)
    assert stage.up(first)
    hidden = shown.rename(stage.place / ".a")
    stage.run("pysvc", "-dx", hidden)
    until(lambda: not stage.is_supervised(hidden))


def test_missing_directory(stage):
    for name in ("missing", "-x"):
        line = f"svscan: fatal: unable to chdir to {name}: file does not exist\n"
        assert stage.run("pysvscan", name) == (111, b"", line.encode())


def test_the_faults_of_a_service_are_its_own(stage):
    stage.service("none", None)
    stage.service("folder", None).joinpath("run").mkdir()
    stage.service("plain").joinpath("run").chmod(0o644)
    stage.service("odd").joinpath("log").touch()
    good = stage.service("good")
    scanner = start(stage)
    assert stage.up(good)
    until(
        lambda: (
            set(stage.err().decode().split("\n"))
            == {
                "supervise: fatal: unable to start none/run: file does not exist",
                "supervise: fatal: unable to start folder/run: access denied",
                "supervise: fatal: unable to start plain/run: access denied",
                "supervise: fatal: unable to chdir to log: not a directory",
                "",
            }
        )
    )
    assert scanner.poll() is None


@pytest.mark.parametrize("program", ["supervise", "pysupervise"])
def test_another_supervisor_through_path(stage, tmp_path, program):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/supervise").write_text("#!/bin/sh\necho $PPID $*\nexec sleep 600\n")
    (tmp_path / "bin/supervise").chmod(0o755)
    folder = stage.service("a")
    environ = {**stage.environ(), "PATH": f"{tmp_path}/bin:{stage.environ()['PATH']}"}
    scanner = start(stage, "--supervise", program, env=environ)
    if program == "supervise":
        until(lambda: stage.err() == f"{scanner.pid} a\n".encode())
    else:
        assert int(field(int(field(stage.up(folder), "PPid")), "PPid")) == scanner.pid


def test_descriptors_run_out(stage):
    """With 20 of them 15 logs are too many; what is started keeps the limit of 20."""
    folders = [stage.service(str(number), LOGGED, log=TO_FILE) for number in range(15)]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    scanner = start(stage, *UNHURRIED, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard)))
    for folder in folders:
        assert stage.up(folder / "log")
        assert resource.prlimit(stage.up(folder), resource.RLIMIT_NOFILE) == (20, hard)
    scanner.terminate()
    assert scanner.wait(20) == 0 and stage.err() == b""


# changes


def supervisor(stage, folder):
    return int(field(stage.up(folder), "PPid"))


@pytest.mark.parametrize("options", [(), ("--stop-on-term",), ("--stop-on-term", ".")])
@needs_system_calls
def test_at_rest_nobody_wakes_up(stage, tmp_path, options):
    """Nothing but an event wakes a process that waits without a time limit."""
    (tmp_path / "real").mkdir()
    folders = [stage.service("a", LOGGED, log=TO_FILE), stage.service("b"), stage.service("down", is_down=True)]
    (stage.place / "link").symlink_to(stage.service(".real"))
    scanner = start(stage, *options)
    pids = [supervisor(stage, place) for place in (folders[0], folders[0] / "log", folders[1], stage.place / "link")]
    until(lambda: sleeps_for_ever(scanner.pid, *pids))
    number = field(scanner.pid, "voluntary_ctxt_switches")
    (folders[0] / "root").mkdir()  # of no interest
    (tmp_path / "other").touch()
    assert sleeps_for_ever(scanner.pid, *pids) and field(scanner.pid, "voluntary_ctxt_switches") == number
    assert stage.err() == b""


def test_a_trouble_is_looked_at_again(stage):
    (stage.place / "dangling").symlink_to("missing")
    scanner = start(stage)
    until(lambda: stage.err().count(b"unable to stat dangling: file does not exist\n") == 1)
    until(lambda: 0 < (wait_ms(scanner.pid) or 0) <= 5000)
    folder = stage.service("missing")
    stage.up(folder)
    until(lambda: sleeps_for_ever(scanner.pid))


def test_names_that_keep_changing_hold_nothing_up(stage):
    """In the directory of services, beside a trouble; and in that of a service."""
    (stage.place / "dangling").symlink_to("missing")
    start(stage)
    until(lambda: stage.err())
    folder = stage.service("a")
    churn = "while :; do : >{0}/x; mv {0}/x {0}/y; : >x; rm x {0}/y; done"
    stage.start("sh", "-c", churn.format("a"))
    stage.up(folder)
    assert stage.err().count(b"dangling") <= 3  # the original's rate: one in five seconds


SOMEBODY = 12345
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
# what is wrong with a service a -> (its name in the warning, what ends it)
RISKS = {
    "chown run": ("a", "a/run belongs to uid 12345"),
    "chown log": ("a/log", "a/log belongs to uid 12345"),  # as README had it
    "chown log/run": ("a/log", "a/log/run belongs to uid 12345"),
    "chown a": ("a", "a belongs to uid 12345"),
    "chown finish": ("a", "a/finish belongs to uid 12345"),
    "chown start": ("a", "a/start belongs to uid 12345"),
    "chown log/notify": ("a/log", "a/log/notify belongs to uid 12345"),
    "chown env/PATH": ("a", "a/env/PATH belongs to uid 12345"),
    "chown env": ("a", "a/env belongs to uid 12345"),
    "chmod 0757 a": ("a", "a can be changed by everybody"),
    "chmod 0777 run": ("a", "a/run can be changed by everybody"),
    "chgrp run": ("a", "a/run can be changed by group 12345"),
    "link run": ("a", "elsewhere belongs to uid 12345"),
}
HARMLESS = ["chown log/main", "chmod 0770 a", "chmod 1777 log", "chown supervise", "chown down", "chown log/supervise"]


def spoil(stage, folder, how):
    """Do to the service what makes it unsafe, or nearly."""
    words, place = how.split(), folder / how.split()[-1]
    place = folder if words[-1] == "a" else place
    if "." not in words[-1] and not place.exists():
        place.mkdir() if words[-1] in ("env", "log/main", "supervise", "log/supervise") else make_program(place)
    if words[0] == "chown":
        os.chown(place, SOMEBODY, SOMEBODY)
    elif words[0] == "chmod":
        place.chmod(int(words[1], 8))
    elif words[0] == "chgrp":
        os.chown(place, 0, SOMEBODY)
        place.chmod(0o775)
    else:
        elsewhere = stage.place.parent / "elsewhere"
        elsewhere.mkdir()
        place.rename(elsewhere / "run")
        place.symlink_to(elsewhere / "run")
        os.chown(elsewhere, SOMEBODY, SOMEBODY)


def make_program(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def warning(stage, who, how):
    name, end = RISKS[how]
    place = stage.place.parent if end.startswith("elsewhere") else stage.place
    return f"{who}: warning: {name} is run as root, but {place}/{end}\n".encode()


@as_root
@pytest.mark.parametrize("how", RISKS)
def test_who_could_become_root_is_told_once(stage, how):
    folder = stage.service("a", LOGGED, log=TO_FILE)
    spoil(stage, folder, how)
    scanner = start(stage, "--stop-on-term")
    until(lambda: lines(folder))
    for name in ("b", "c"):  # further passes; and another start of its supervisor
        stage.up(stage.service(name))
        stage.run("pysvc", "-x" if name == "c" else "-t", "a", "a/log")
    scanner.terminate()
    assert scanner.wait(20) == 0
    assert stage.err() == warning(stage, "svscan", how)


@as_root
@pytest.mark.parametrize("how", HARMLESS)
def test_what_harms_nobody_is_not_told(stage, how):
    folder = stage.service("a", LOGGED, log=TO_FILE, is_down="down" in how)
    spoil(stage, folder, how)
    scanner = start(stage, "--stop-on-term")
    until(lambda: stage.is_supervised(folder) and ("down" in how or lines(folder)))
    scanner.terminate()
    assert scanner.wait(20) == 0 and stage.err() == b""


@as_root
def test_a_folder_above_all_services(stage):
    """Two services, a line each."""
    os.chown(stage.place, SOMEBODY, SOMEBODY)
    folders = [stage.service("a", LOGGED, log=TO_FILE), stage.service("b")]
    start(stage)
    for folder in folders:
        stage.up(folder)
    said = stage.err().decode().splitlines()
    assert sorted(said) == [
        f"svscan: warning: {name} is run as root, but {stage.place} belongs to uid {SOMEBODY}" for name in "ab"
    ]


@as_root
@pytest.mark.parametrize("how", [how for how in RISKS if RISKS[how][0] == "a"])
def test_a_supervisor_alone_tells_it_too(stage, how):
    folder = stage.service("a")
    spoil(stage, folder, how)
    stage.start("pysupervise", "a")
    stage.up(folder)
    assert stage.err() == warning(stage, "supervise", how)


@as_root
def test_whoever_is_not_root_is_told_nothing(stage):
    folder = stage.service("a")
    os.chown(stage.place, SOMEBODY, SOMEBODY)
    os.chown(folder, SOMEBODY, SOMEBODY)
    start(stage, user=SOMEBODY)
    stage.up(folder)
    assert stage.err() == b""


def rest(scanner):
    """Wait until nothing but an event wakes it: what it sees from then on it does not see by looking now and then."""
    until(lambda: sleeps_for_ever(scanner.pid))


@needs_system_calls
def test_what_comes_is_seen_at_once(stage):
    """The original looks every five seconds."""
    scanner = start(stage)
    stage.up(stage.service("first"))
    ready = stage.service(".a")
    rest(scanner)
    shown = ready.rename(stage.place / "a")
    until(lambda: stage.pid(shown))
    elsewhere = stage.service(".elsewhere/b", LOGGED, log=TO_FILE)
    rest(scanner)
    (stage.place / "b").symlink_to(elsewhere)
    until(lambda: stage.pid(elsewhere) and lines(elsewhere))
    rest(scanner)
    for name in ("c", "c/log"):  # piece by piece, its log last
        (stage.place / name).mkdir()
        (stage.place / name / "run").write_text(LOGGED if name == "c" else TO_FILE)
        (stage.place / name / "run").chmod(0o755)
    until(lambda: stage.pid(stage.place / "c") and lines(stage.place / "c"))
    assert stage.err() == b""


@needs_system_calls
def test_another_target_of_a_link(stage):
    target = stage.service(".set/a")
    (stage.place / "a").symlink_to(target)
    scanner = start(stage)
    first = stage.up(target)
    rest(scanner)
    moved = target.rename(stage.place / ".old")
    other = stage.service(".new/a").rename(target)
    until(lambda: stage.pid(other) and stage.is_supervised(other))
    assert stage.pid(moved) == first and stage.pid(other) != first  # beside the old one, as ever
    assert scanner.poll() is None


@needs_system_calls
def test_another_directory(stage):
    """A link to a set of services is turned to another one: what is in both goes on."""
    place = stage.place
    both = stage.service("both")
    old, new = stage.service(".one/old"), stage.service(".two/new")
    for name in ("one", "two"):
        (place / f".{name}/both").symlink_to(both)
    (place / ".links").mkdir()
    (place / ".links/set").symlink_to("../.one")
    scanner = start(stage, ".links/set")
    first, last = stage.up(both), stage.up(old)
    rest(scanner)
    (place / ".links/next").symlink_to("../.two")
    (place / ".links/next").rename(place / ".links/set")
    until(lambda: stage.pid(new))
    assert (stage.pid(both), stage.pid(old)) == (first, last)
    rest(scanner)
    stage.run("pysvc", "-dx", old)
    until(lambda: not stage.is_supervised(old))
    rest(scanner)
    os.kill(int(field(first, "PPid")), signal.SIGKILL)
    until(lambda: stage.is_supervised(both))
    os.kill(first, signal.SIGKILL)
    stage.run("pysvc", "-dx", new, both)


def supervisors(stage):
    found = set()
    for pid in stage.everyone():
        try:
            if field(pid, "Name") == "pysupervise":
                found.add(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it was killed since it was listed
    return found


@needs_system_calls
def test_a_killed_supervisor_is_started_within_a_second(stage):
    """The original takes five; tests/supervise/test_scanner.py has the times."""
    folder = stage.service("a", is_down=True)
    seen, waits = set(), set()
    scanner = start(stage)

    def look():
        waits.add(wait_ms(scanner.pid))
        return supervisors(stage) - seen

    for _ in range(4):
        (one,) = until(look)
        until(lambda: stage.is_supervised(folder))
        seen.add(one)
        os.kill(one, signal.SIGKILL)
    assert max(waits - {None}) <= 1000


def test_what_was_told_to_leave_comes_back_while_its_name_is_there(stage):
    folder = stage.service("a")
    start(stage)
    first = stage.up(folder)
    stage.run("pysvc", "-dx", folder)
    until(lambda: stage.is_supervised(folder) and stage.pid(folder) not in (0, first))


def test_removed_while_its_log_is_behind(stage):
    folder = stage.service("a", "#!/bin/sh\necho one\nexec sleep 600\n", log="#!/bin/sh\nexec sleep 600\n")
    start(stage)
    stage.up(folder), stage.up(folder / "log")
    hidden = folder.rename(stage.place / ".a")
    stage.run("pysvc", "-dx", hidden, hidden / "log")
    until(lambda: stage.err() == b"svscan: warning: log of a has left 4 bytes unread\n")


@pytest.mark.long
@needs_system_calls
def test_fifteen_hundred_services(stage):
    """Each with a log: 3,000 supervisors and as many descriptors here."""
    folders = [stage.service(str(number), log=stage.IDLE, is_down=True) for number in range(1500)]
    for folder in folders:
        (folder / "log/down").touch()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 3100:
        pytest.skip("not enough descriptors")
    scanner = start(
        stage, "--stop-seconds", "60", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    )
    until(lambda: all(stage.is_supervised(place) for folder in folders for place in (folder, folder / "log")))
    (folders[700] / "down").unlink()
    stage.run("pysvc", "-u", folders[700])
    stage.up(folders[700])
    rest(scanner)
    new = stage.service("new")
    until(lambda: stage.is_supervised(new))
    assert stage.err() == b""
    scanner.terminate()
    assert scanner.wait(60) == 0 and stage.everyone() == []


def test_more_services_than_descriptors(stage):
    folders = [stage.service(str(number), LOGGED, log=TO_FILE) for number in range(30)]
    scanner = start(stage, "--stop-on-term", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
    line = rb"svscan: warning: unable to create pipe for \d+ and (\d+) more: process cannot open more files\n"
    left = int(until(lambda: re.fullmatch(line, stage.err()))[1]) + 1
    assert 15 < left < 25
    running = until(lambda: len(up := [one for one in folders if lines(one)]) == 30 - left and up)
    gone = running[0].rename(stage.place / ".gone")  # seen, although they have run out
    stage.run("pysvc", "-dx", gone)
    until(lambda: not stage.is_supervised(gone))
    stage.run("pysvc", "-dx", gone / "log")
    until(lambda: sum(bool(lines(one)) for one in folders) == 30 - left)
    scanner.terminate()
    assert scanner.wait(20) == 0


# the clean end

STUBBORN = "#!/bin/sh\ntrap '' TERM\necho begun\nwhile :; do sleep 1; done\n"
FORKER = "#!/bin/sh\nsleep 601 &\nsetsid sleep 602 &\nexit 0\n"
DEAF_LOG = "#!/bin/sh\nexec sleep 600\n"
# a shell could be told to end just before it waits, and would not hear it
LAST_WORDS = f"""#!{sys.executable}
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.write(1, b"begun\\n")
signal.sigwait([signal.SIGTERM])
os.write(1, b"last words\\n")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_clean_end_with_all_lines_logged(stage, number):
    folder, other = stage.service("a", LAST_WORDS, log=TO_FILE), stage.service("b")
    scanner = start(stage, *UNHURRIED, stage.place)
    stage.up(folder), stage.up(other)
    until(lambda: lines(folder) == ["begun"])
    scanner.send_signal(number)
    assert scanner.wait(20) == 0
    assert lines(folder) == ["begun", "last words"]
    assert stage.everyone() == [] and stage.err() == b""


def test_a_clean_end_of_what_does_not_want_to(stage):
    stubborn = stage.service("stubborn", STUBBORN, log=TO_FILE)
    folders = [stubborn, stage.service("deaf", LOGGED, log=DEAF_LOG), stage.service("down", is_down=True)]
    forker = stage.service("forker", FORKER)
    stage.service("none", None)
    scanner = start(stage, "--stop-on-term")
    stage.up(folders[0]), stage.up(folders[1])
    until(lambda: stage.is_supervised(forker) and lines(stubborn) == ["begun"])
    scanner.terminate()
    assert scanner.wait(20) == 0
    assert stage.everyone() == []


@pytest.mark.parametrize("seconds", ["1", "60"])
def test_a_log_that_is_down_or_killed_at_the_end_is_started_once_more_to_read_all(stage, seconds):
    """When it hears x its service is at an end, so its supervisor leaves, and what it has not read would be lost."""
    folder = stage.service("a", "#!/bin/sh\nseq 5000\nexec sleep 600\n", log=DEAF_LOG)
    scanner = start(stage, "--stop-seconds", seconds)
    stage.up(folder)
    logger = stage.up(folder / "log")
    until(lambda: stage.unread_bytes(logger) == len(SEQUENCE))
    (folder / "log/run").write_text(TO_FILE if seconds == "60" else DEAF_LOG)
    stage.run("pysvc", "-d", folder / "log")
    until(lambda: not stage.pid(folder / "log"))
    scanner.terminate()
    assert scanner.wait(20) == 0 and stage.everyone() == []
    if seconds == "60":
        assert (folder / "log/lines").read_bytes() == SEQUENCE and stage.err() == b""
    else:
        assert stage.err() == b"svscan: warning: log of a has left %d bytes unread\n" % len(SEQUENCE)


SEQUENCE = b"".join(b"%d\n" % number for number in range(1, 5001))


SLOW = f"""#!{sys.executable}
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.write(1, b"begun\\n")
signal.sigwait([signal.SIGTERM])
signal.sigtimedwait([signal.SIGTERM], 1.5)  # a second one does not come
os.write(1, b"last words\\n")
"""


@pytest.mark.parametrize("seconds, said", [("1", ["begun"]), ("60", ["begun", "last words"])])
def test_less_or_more_time_to_end(stage, seconds, said):
    folder = stage.service("a", SLOW, log=TO_FILE)
    scanner = start(stage, "--stop-seconds", seconds)
    stage.up(folder)
    until(lambda: lines(folder) == ["begun"])
    scanner.terminate()
    assert scanner.wait(20) == 0 and stage.everyone() == []
    assert lines(folder) == said
    assert stage.err() == (b"svscan: warning: a does not end, killing it\n" if seconds == "1" else b"")


def test_a_warning_is_said_once_for_each_look(stage):
    (stage.place / "dangling").symlink_to("nowhere")
    begun = time.monotonic()
    scanner = start(stage, "--stop-on-term")
    until(lambda: stage.err() and 0 < (wait_ms(scanner.pid) or 0) <= 5000)
    said = stage.err()
    looks = 1 + int((time.monotonic() - begun) / 5)  # at most, however busy the machine is
    assert said in [b"svscan: warning: unable to stat dangling: file does not exist\n" * n for n in range(1, looks + 1)]


@pytest.mark.parametrize("number", ["0", "x", "-1", "", "3601", "1.5"])
def test_no_such_time(stage, number):
    done = stage.run("pysvscan", "--stop-seconds", number)
    assert done.code == 100
    assert done.err.startswith(b"svscan: not a number of seconds from 1 to 3600: %b\nsvscan: usage: " % number.encode())


def test_the_end_of_services_whose_names_are_gone(stage):
    folder = stage.service("a", LAST_WORDS, log=TO_FILE)
    scanner = start(stage, *UNHURRIED)
    stage.up(folder)
    until(lambda: lines(folder) == ["begun"])
    hidden = folder.rename(stage.place / ".hidden")
    scanner.terminate()
    assert scanner.wait(20) == 0
    assert lines(hidden) == ["begun", "last words"]
    assert stage.everyone() == [] and stage.err() == b""


def remove(folder):
    """Remove a directory where somebody may be writing a file."""
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            assert error.errno in (errno.ENOENT, errno.ENOTEMPTY)


GONE = [
    # SUPERVISEDIR, what becomes of the directory
    ("", remove),
    ("sv", remove),
    ("sv", lambda folder: folder.rename(folder.parent / "b")),
    ("sv", lambda folder: folder.rename(folder.parent / ".a")),
]


@pytest.mark.parametrize("place, change", GONE)
def test_the_end_of_services_whose_files_are_not_where_they_should_be(stage, tmp_path, place, change):
    place, said = str(tmp_path / place) if place else "", tmp_path / "said"
    folder = stage.service("a", LAST_WORDS, log=f"#!/bin/sh\nexec cat >> {said}\n")
    scanner = start(stage, *UNHURRIED, env={**stage.environ(), "SUPERVISEDIR": place})
    until(lambda: said.exists() and said.read_text() == "begun\n")
    change(folder)
    scanner.terminate()
    assert scanner.wait(20) == 0
    assert said.read_text() == "begun\nlast words\n" and stage.everyone() == []


def test_an_end_before_it_has_begun(stage):
    for name in "abcd":
        stage.service(name, LOGGED, log=TO_FILE)
    scanner = start(stage, "--stop-on-term")
    until(lambda: len(stage.everyone()) > 1)
    scanner.terminate()
    assert scanner.wait(20) == 0
    assert stage.everyone() == []


def test_an_interrupt_from_the_terminal_goes_to_the_scanner_alone(stage):
    folder = stage.service("a", LAST_WORDS, log=TO_FILE)
    scanner = start(stage, *UNHURRIED, start_new_session=True)
    stage.up(folder)
    until(lambda: lines(folder) == ["begun"])
    os.killpg(scanner.pid, signal.SIGINT)
    assert scanner.wait(20) == 0
    assert lines(folder) == ["begun", "last words"] and stage.everyone() == []


def test_a_killed_supervisor_does_not_leave_a_second_copy(stage):
    folder = stage.service("a", LAST_WORDS, log=TO_FILE)
    scanner = start(stage, "--stop-on-term")
    first = stage.up(folder)
    until(lambda: lines(folder) == ["begun"])
    os.kill(int(field(first, "PPid")), signal.SIGKILL)
    until(lambda: stage.is_supervised(folder) and stage.pid(folder) not in (0, first))
    until(lambda: lines(folder) == ["begun", "last words", "begun"])
    assert first not in stage.everyone()
    assert stage.err() == b"svscan: warning: supervise a was killed, ending its service\n"
    scanner.terminate()
    assert scanner.wait(20) == 0 and stage.everyone() == []


def test_what_a_killed_scanner_left_is_brought_down_first(stage):
    folder = stage.service("a", LAST_WORDS, log=TO_FILE)
    scanner = start(stage, "--stop-on-term")
    first = stage.up(folder)
    until(lambda: lines(folder) == ["begun"])
    scanner.kill()
    scanner.wait()
    assert stage.is_supervised(folder)
    scanner = start(stage, "--stop-on-term")
    until(lambda: stage.is_supervised(folder) and stage.pid(folder) not in (0, first))
    until(lambda: lines(folder) == ["begun", "last words", "begun"])
    scanner.terminate()
    assert scanner.wait(20) == 0
    assert stage.everyone() == [] and not re.search(b"fatal", stage.err())


@pytest.mark.parametrize("place", ["", "/absolute"])
def test_nobody_else_can_lock_the_scanner_out(stage, tmp_path, place):
    """Whoever may read the directory can lock it; only the owner can open what the scanner locks."""
    place = place and str(tmp_path / "run")
    folder = stage.service("a")
    with open_directory(stage.place) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX)
        scanner = start(stage, "--stop-on-term", env={**stage.environ(), "SUPERVISEDIR": place})
        until(lambda: stage.run("pysvstat", folder, env={**stage.environ(), "SUPERVISEDIR": place}).out.count(b"up"))
        assert os.stat(scanner_lock_path(stage, place)).st_mode & 0o7777 == 0o600
        done = stage.run("pysvscan", "--stop-on-term", env={**stage.environ(), "SUPERVISEDIR": place})
        assert done == (111, b"", b"svscan: fatal: another svscan is in this directory\n")
        scanner.terminate()
        assert scanner.wait(20) == 0


def test_a_link_in_the_place_of_the_lock_is_not_followed(stage, tmp_path):
    os.symlink(tmp_path / "made", scanner_lock_path(stage))
    scanner = start(stage, "--stop-on-term")
    stage.up(stage.service("a"))
    scanner.terminate()
    assert scanner.wait(20) == 0 and not (tmp_path / "made").exists()


def test_another_name_of_a_file_in_the_place_of_the_lock_is_left_alone(stage, tmp_path):
    other = tmp_path / "other"
    other.touch(0o644)
    other.chmod(0o644)
    os.link(other, scanner_lock_path(stage))
    scanner = start(stage, "--stop-on-term")
    stage.up(stage.service("a"))
    scanner.terminate()
    assert scanner.wait(20) == 0 and other.stat().st_mode & 0o777 == 0o644


def test_what_a_scanner_leaves_is_in_its_directory(stage):
    """Directories of services come and go: a file for each in a place of the system's would stay for ever."""
    before = set(os.listdir("/run"))
    scanner = start(stage, "--stop-on-term")
    stage.up(stage.service("a"))
    scanner.kill()
    scanner.wait()
    assert not [name for name in set(os.listdir("/run")) - before if "svscan" in name]
    assert set(os.listdir(stage.place)) - {"err"} == {".svscan-lock", "a"}


def scanner_lock_path(stage, place=""):
    """Return the path where a scanner of the stage has its lock."""
    code = "from pyqmail.supervise.control import scanner_lock_path; print(scanner_lock_path())"
    done = stage.run("env", f"SUPERVISEDIR={place}", sys.executable, "-c", code)
    return os.path.join(stage.place, done.out.decode().strip())


@contextlib.contextmanager
def open_directory(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("options", [(), ("--stop-on-term",)])
def test_a_second_scanner_does_not_stop_what_the_first_one_runs(stage, options):
    """It would take it for what a killed one has left.  Without --stop-on-term it stops nothing: as the original."""
    folder = stage.service("a")
    scanner = start(stage, *options)
    first = stage.up(folder)
    done = stage.run("pysvscan", "--stop-on-term", timeout=20)
    assert done == (111, b"", b"svscan: fatal: another svscan is in this directory\n")
    assert stage.pid(folder) == first and stage.is_supervised(folder)
    scanner.kill()
    scanner.wait()
    scanner = start(stage, "--stop-on-term")
    until(lambda: stage.is_supervised(folder) and stage.pid(folder) not in (0, first))
    scanner.terminate()
    assert scanner.wait(20) == 0


def test_who_starts_it_with_every_signal_blocked_can_end_it_all_the_same(stage):
    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    folder = stage.service("a")
    scanner = start(stage, "--stop-on-term", preexec_fn=block)
    stage.up(folder)
    scanner.terminate()
    assert scanner.wait(20) == 0
