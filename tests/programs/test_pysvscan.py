"""pysvscan as a program: supervisors without an interpreter of their own, logs through pipes, a clean end."""

import os
import re
import resource
import signal
import sys
import time

import pytest

LOGGED = "#!/bin/sh\necho $$ begun\nexec sleep 600\n"
TO_FILE = "#!/bin/sh\nexec cat >> lines\n"


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
    stage.until(lambda: lines(folder) == [f"{pid} begun"])
    supervisor = int(field(pid, "PPid"))
    assert int(field(supervisor, "PPid")) == scanner.pid
    assert field(supervisor, "Name") == "pysupervise"
    assert os.readlink(f"/proc/{supervisor}/exe") == os.readlink(f"/proc/{scanner.pid}/exe")
    with open(f"/proc/{supervisor}/cmdline", "rb") as ours, open(f"/proc/{scanner.pid}/cmdline", "rb") as its:
        assert ours.read() == its.read()  # forked, not executed
    assert stage.err() == b""


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
    stage.until(lambda: lines(folder) == [f"{first} begun"])
    stage.run("pysvc", "-t", folder / "log")
    stage.until(lambda: stage.pid(folder / "log") not in (0, log))  # a log that dies takes with it what it has read
    stage.run("pysvc", "-t", folder)
    second = stage.until(lambda: (pid := stage.pid(folder)) not in (0, first) and pid)
    stage.until(lambda: lines(folder) == [f"{first} begun", f"{second} begun"])


def test_like_the_original_it_dies_alone(stage):
    folder = stage.service("a")
    scanner = start(stage)
    pid = stage.up(folder)
    scanner.terminate()
    assert scanner.wait(10) == -signal.SIGTERM
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
    stage.until(lambda: not stage.is_supervised(hidden))


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
    stage.until(
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
        stage.until(lambda: stage.err() == f"{scanner.pid} a\n".encode())
    else:
        assert int(field(int(field(stage.up(folder), "PPid")), "PPid")) == scanner.pid


def test_descriptors_run_out(stage):
    """With 20 of them 15 logs are too many; what is started keeps the limit of 20."""
    folders = [stage.service(str(number), LOGGED, log=TO_FILE) for number in range(15)]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    scanner = start(stage, "--stop-on-term", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard)))
    for folder in folders:
        assert stage.up(folder / "log")
        assert resource.prlimit(stage.up(folder), resource.RLIMIT_NOFILE) == (20, hard)
    scanner.terminate()
    assert scanner.wait(10) == 0 and stage.err() == b""


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
    scanner = start(stage, "--stop-on-term", stage.place)
    stage.up(folder), stage.up(other)
    stage.until(lambda: lines(folder) == ["begun"])
    begun = time.monotonic()
    scanner.send_signal(number)
    assert scanner.wait(10) == 0
    assert time.monotonic() - begun < 3  # of which a second may be deafness
    assert lines(folder) == ["begun", "last words"]
    assert stage.everyone() == [] and stage.err() == b""


def test_a_clean_end_of_what_does_not_want_to(stage):
    stubborn = stage.service("stubborn", STUBBORN, log=TO_FILE)
    folders = [stubborn, stage.service("deaf", LOGGED, log=DEAF_LOG), stage.service("down", is_down=True)]
    forker = stage.service("forker", FORKER)
    stage.service("none", None)
    scanner = start(stage, "--stop-on-term")
    stage.up(folders[0]), stage.up(folders[1])
    stage.until(lambda: stage.is_supervised(forker) and lines(stubborn) == ["begun"])
    begun = time.monotonic()
    scanner.terminate()
    assert scanner.wait(10) == 0
    assert time.monotonic() - begun < 5
    assert stage.everyone() == []


def test_an_end_before_it_has_begun(stage):
    for name in "abcd":
        stage.service(name, LOGGED, log=TO_FILE)
    scanner = start(stage, "--stop-on-term")
    stage.until(lambda: len(stage.everyone()) > 1)
    scanner.terminate()
    assert scanner.wait(10) == 0
    assert stage.everyone() == []


def test_an_interrupt_from_the_terminal_goes_to_the_scanner_alone(stage):
    folder = stage.service("a", LAST_WORDS, log=TO_FILE)
    scanner = start(stage, "--stop-on-term", start_new_session=True)
    stage.up(folder)
    stage.until(lambda: lines(folder) == ["begun"])
    os.killpg(scanner.pid, signal.SIGINT)
    assert scanner.wait(10) == 0
    assert lines(folder) == ["begun", "last words"] and stage.everyone() == []


def test_a_killed_supervisor_does_not_leave_a_second_copy(stage):
    folder = stage.service("a", LAST_WORDS, log=TO_FILE)
    scanner = start(stage, "--stop-on-term")
    first = stage.up(folder)
    stage.until(lambda: lines(folder) == ["begun"])
    os.kill(int(field(first, "PPid")), signal.SIGKILL)
    stage.until(lambda: stage.is_supervised(folder) and stage.pid(folder) not in (0, first))
    stage.until(lambda: lines(folder) == ["begun", "last words", "begun"])
    assert first not in stage.everyone()
    assert stage.err() == b"svscan: warning: supervise a was killed, ending its service\n"
    scanner.terminate()
    assert scanner.wait(10) == 0 and stage.everyone() == []


def test_what_a_killed_scanner_left_is_brought_down_first(stage):
    folder = stage.service("a", LAST_WORDS, log=TO_FILE)
    scanner = start(stage, "--stop-on-term")
    first = stage.up(folder)
    stage.until(lambda: lines(folder) == ["begun"])
    scanner.kill()
    scanner.wait()
    assert stage.is_supervised(folder)
    scanner = start(stage, "--stop-on-term")
    stage.until(lambda: stage.is_supervised(folder) and stage.pid(folder) not in (0, first))
    stage.until(lambda: lines(folder) == ["begun", "last words", "begun"])
    scanner.terminate()
    assert scanner.wait(10) == 0
    assert stage.everyone() == [] and not re.search(b"fatal", stage.err())
