"""pystart: which parts it starts, on which descriptors, under which names; and the end of all of them.

As root outside a private home: tests/interop/test_users.py.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys

import pytest

from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = f"{ROOT}/bin:{os.path.dirname(sys.executable)}:/usr/bin:/bin"
SECONDS = 30


class Started:
    """A running pystart; its log is the file `log`."""

    def __init__(self, home, tmp_path, *arguments, path=PATH, hard=None, **environ):
        self.home, self._log = home, tmp_path / "log"
        self.environ = {"PATH": path, "PYQMAIL_HOME": home.path, **environ}
        out = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.input, stdin = os.pipe()
        os.set_inheritable(self.input, True)  # a descriptor above 6 that is nobody's business
        self.process = subprocess.Popen(
            [sys.executable, f"{ROOT}/bin/pystart", *arguments],
            env=self.environ, stdin=stdin, stdout=out, stderr=subprocess.PIPE, close_fds=False, cwd=tmp_path,
            preexec_fn=None if hard is None else lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard)),
        )  # fmt: skip
        os.close(stdin)
        os.close(out)

    def log(self):
        return self._log.read_bytes()

    def parts(self):
        """Return {name: [pid, ...]} of every process that has this home, pystart's own included."""
        mark, found = f"PYQMAIL_HOME={self.home.path}\0".encode(), {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                    if mark in environ.read():
                        found.setdefault(comm.read().strip(), []).append(int(pid))
            except OSError:
                continue
        return found

    def close(self):
        for _ in range(5):
            for pid in sum(self.parts().values(), []):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.input)


@pytest.fixture
def start(home, tmp_path):
    running = []

    def begin(*arguments, **how):
        running.append(Started(home, tmp_path, *arguments, **how))
        return running[-1]

    yield begin
    for one in running:
        one.close()


def descriptors(pid):
    """Return {number: what it leads to} of a process, its own sockets, epolls and the like left out."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:
            continue
    return found


def connections(started, parts):
    """Return {descriptor of pysend: (part, its descriptor)} for the pipes and sockets they share."""
    ours, found = descriptors(started.process.pid), {}
    for name, pids in parts.items():
        for pid in pids:
            for number, target in descriptors(pid).items():
                if pid != started.process.pid and number < 2:
                    found |= {
                        fd: (name, number) for fd, end in ours.items() if end == target and target.startswith("pipe:")
                    }
    return found


FIRST = b"status: local 0/10 remote 0/20\n"
COMMON = {
    1: ("pylspawn", 0),
    2: ("pylspawn", 1),
    3: ("pyrspawn", 0),
    4: ("pyrspawn", 1),
    5: ("pyclean", 0),
    6: ("pyclean", 1),
}
RESOLVER = {7: ("pyresolve", 0), 8: ("pyresolve", 1)}
MORE = {9: ("pyrspawn", 0), 10: ("pyrspawn", 1), 11: ("pyrspawn", 0), 12: ("pyrspawn", 1)}


@pytest.mark.parametrize(
    "options, wanted",
    [
        ([], COMMON | RESOLVER),
        (["--sessions", "3"], COMMON | RESOLVER | MORE),
        (["--classic"], COMMON),
    ],
    ids=["native", "native, three", "classic"],
)
def test_parts_and_descriptors(start, options, wanted):
    started = start(*options, "./Maildir/")
    until(lambda: started.log() == FIRST)
    parts = started.parts()
    names = {name: len(pids) for name, pids in parts.items()}
    expected = {"pysend": 1} if "--classic" in options else {"pysend": 1, "pystart": 1}  # who starts parts again
    for name, number in wanted.values():
        expected[name] = expected.get(name, 0) + (number == 0)
    assert names == expected
    assert parts["pysend"] == [started.process.pid]
    assert connections(started, parts) == wanted
    log = str(started._log)
    assert descriptors(started.process.pid)[0] == log
    stray = os.readlink(f"/proc/self/fd/{started.input}")
    for name, pids in parts.items():
        for pid in pids:
            assert os.stat(f"/proc/{pid}").st_uid == os.getuid()
            assert stray not in descriptors(pid).values(), name
            pipes = [end for end in descriptors(pid).values() if end.startswith("pipe:")]
            assert name == "pysend" or len(pipes) == (0 if name == "pystart" else 2), (name, descriptors(pid))
    assert os.readlink(f"/proc/{parts['pylspawn'][0]}/cwd") == started.home.path


@pytest.mark.parametrize("options", [[], ["--classic"]], ids=["native", "classic"])
def test_term_ends_all_of_them(start, options):
    started = start(*options)
    until(lambda: started.log() == FIRST)
    started.process.terminate()
    assert started.process.wait(SECONDS) == 0
    assert started.log() == FIRST + b"status: exiting\n"
    until(lambda: not started.parts())
    assert started.process.stderr.read() == b""


@pytest.mark.parametrize("part", ["pylspawn", "pyrspawn", "pyclean"])
def test_without_a_part_all_of_them_end(start, part):
    started = start("--classic")
    until(lambda: started.log() == FIRST)
    os.kill(started.parts()[part][0], signal.SIGKILL)
    assert started.process.wait(SECONDS) == 0
    said = b"qmail-clean" if part == "pyclean" else b"spawn"
    assert started.log().startswith(FIRST + b"alert: oh no! lost %b connection! dying...\n" % said)
    assert started.log().endswith(b"status: exiting\n")
    until(lambda: not started.parts())


def lost(name, seconds):
    return b"warning: lost %b, killed by signal 9 (KILL); starting it again in %d seconds\n" % (name, seconds)


@pytest.mark.parametrize("part", ["pylspawn", "pyrspawn", "pyclean", "pyresolve"])
def test_a_part_that_is_killed_is_started_again(start, part):
    """As often as it is lost, after growing pauses; all else goes on."""
    started = start()
    until(lambda: started.log() == FIRST)
    others = {name: pids for name, pids in started.parts().items() if name != part}
    for seconds in (1, 2):
        (before,) = until(lambda: started.parts().get(part))
        os.kill(before, signal.SIGKILL)
        (after,) = until(lambda before=before: [pid for pid in started.parts().get(part, []) if pid != before])
        until(lambda seconds=seconds: lost(part.encode(), seconds) in started.log())
        until(lambda after=after: len(connections(started, {part: [after]})) == 2)
    assert started.log() == FIRST + lost(part.encode(), 1) + lost(part.encode(), 2)
    assert {name: pids for name, pids in started.parts().items() if name != part} == others
    started.process.terminate()
    assert started.process.wait(SECONDS) == 0
    until(lambda: not started.parts())


def test_each_session_process_is_started_again_by_itself(start):
    started = start("--sessions", "2")
    until(lambda: started.log() == FIRST)
    both = started.parts()["pyrspawn"]
    (second,) = [pid for pid in both if set(connections(started, {"pyrspawn": [pid]})) == {9, 10}]
    os.kill(second, signal.SIGKILL)
    until(lambda: lost(b"pyrspawn 2", 1) in started.log())
    until(lambda: len(connections(started, {"pyrspawn": started.parts()["pyrspawn"]})) == 4)
    started.process.terminate()
    assert started.process.wait(SECONDS) == 0


def test_without_who_starts_them_the_next_part_that_is_lost_ends_all(start):
    started = start()
    until(lambda: started.log() == FIRST)
    os.kill(started.parts()["pystart"][0], signal.SIGKILL)
    until(lambda: b"the next part that is lost ends pysend\n" in started.log())
    os.kill(started.parts()["pyclean"][0], signal.SIGKILL)
    assert started.process.wait(SECONDS) == 0
    assert b"alert: oh no! lost qmail-clean connection! dying...\n" in started.log()
    until(lambda: not started.parts())


@pytest.mark.parametrize("options", [[], ["--classic"]], ids=["native", "classic"])
def test_a_logger_reads_the_log(start, tmp_path, options):
    logger = tmp_path / "logger"
    logger.write_text('#!/bin/sh\necho I read; cat > "$1"; echo ended >> "$1"\n')
    logger.chmod(0o755)
    started = start(*options, "./Maildir/", str(logger), str(tmp_path / "its"))
    read = (tmp_path / "its").read_bytes
    until(lambda: (tmp_path / "its").exists() and read() == FIRST)
    started.process.terminate()
    assert started.process.wait(SECONDS) == 0
    until(lambda: read() == FIRST + b"status: exiting\nended\n")
    assert started.log() == b"I read\n"
    until(lambda: not started.parts())


def test_our_own_logger_shares_the_interpreter(start, tmp_path):
    started = start("./Maildir/", "pymultilog", str(tmp_path / "main"))
    read = (tmp_path / "main/current").read_bytes
    until(lambda: (tmp_path / "main/current").exists() and read() == FIRST)
    started.process.terminate()
    assert started.process.wait(SECONDS) == 0
    until(lambda: read() == FIRST + b"status: exiting\n")
    until(lambda: not started.parts())


PART = """#!/bin/sh
ls /proc/self/fd > %(place)s/${0##*/}.new
{ echo "$0 $*"; umask; pwd; } >> %(place)s/${0##*/}.new
mv %(place)s/${0##*/}.new %(place)s/${0##*/}.is
"""


def test_classic_parts_are_found_in_path_and_start_clean(start, tmp_path):
    other, place = tmp_path / "other", tmp_path / "places"
    other.mkdir()
    place.mkdir()
    for name in ("pylspawn", "pyrspawn", "pyclean", "pysend"):
        (other / name).write_text(PART % {"place": place})
        (other / name).chmod(0o755)
    started = start("--classic", "|this ./and that", path=f"{other}:{PATH}")
    assert started.process.wait(SECONDS) == 0
    until(lambda: len([name for name in os.listdir(place) if name.endswith(".is")]) == 4)
    said = {
        name: (place / f"{name}.is").read_text().splitlines() for name in ("pylspawn", "pyrspawn", "pyclean", "pysend")
    }
    for name, lines in said.items():
        last = 6 if name == "pysend" else 2
        assert lines[:-3] == [str(number) for number in range(last + 2)]  # and what ls reads
        arguments = " --exec |this ./and that" if name == "pylspawn" else " "
        assert lines[-3:] == [f"{other}/{name}{arguments}", "0077", "/"]


def test_a_part_that_cannot_be_executed_is_fatal(start, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("pylspawn", "pyclean", "pysend"):
        (other / name).symlink_to(f"{ROOT}/bin/{name}")
    (other / "python3").symlink_to(sys.executable)
    (other / "pyrspawn").write_text("no #! line\n")
    (other / "pyrspawn").chmod(0o755)
    started = start("--classic", path=str(other))
    assert started.process.wait(SECONDS) == 111
    missing = b"qmail-start: fatal: unable to start pyrspawn: exec format error\n"
    assert sorted(started.log().splitlines(True)) == [b"alert: cannot start: hath the daemon spawn no fire?\n", missing]
    until(lambda: not started.parts())


@pytest.mark.parametrize("mode", [(), ("--classic",)])
def test_its_parts_are_found_beside_it_where_path_does_not_lead_to_them(start, tmp_path, mode):
    """Started by its absolute path, with no directory of ours in PATH; a logger of ours is found so, too."""
    started = start(*mode, "./Mailbox", "pytai64n", path="/usr/bin:/bin")
    until(lambda: {"pysend", "pylspawn", "pyrspawn", "pyclean", "pytai64n"} <= set(started.parts()))
    until(lambda: b" status: local 0/10 remote 0/20\n" in started.log())


def test_a_second_one_ends_and_leaves_the_first_alone(start):
    first = start()
    until(lambda: first.log() == FIRST)
    second = start()
    assert second.process.wait(SECONDS) == 111
    warning = b"pystart: warning: unable to bind %b: address already used; pyqshape and its like have no answer\n"
    place = os.fsencode(f"{first.home.path}/run/pysend")
    assert first.log() == FIRST + warning % place + b"alert: cannot start: qmail-send is already running\n"
    assert first.process.poll() is None
    until(lambda: set(first.parts()) == {"pystart", "pysend", "pylspawn", "pyrspawn", "pyclean", "pyresolve"})


@pytest.mark.parametrize("options", [[], ["--classic"]], ids=["native", "classic"])
def test_without_the_users_nothing_is_started(accounts, home, options):
    os.unlink(f"{home.path}/private")
    words = [*accounts(), sys.executable, f"{ROOT}/bin/pystart", *options]
    environ = {"PATH": PATH, "PYQMAIL_HOME": home.path}
    done = subprocess.run(words, env=environ, capture_output=True, check=False, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (111, b"")
    assert done.stderr == b"qmail-start: fatal: unable to find user or group qmaill\n"


@pytest.mark.parametrize("number", ["0", "65", "x", ""])
def test_sessions_are_a_number_from_1_to_64(run, home, number):
    code, out, err = run("pystart", "--sessions", number, env={"PYQMAIL_HOME": home.path})
    assert (code, out) == (100, b"")
    assert err.startswith(b"qmail-start: not a number from 1 to 64: %b\nqmail-start: usage: " % number.encode())


LIMITS = [
    # options            the session process needs
    ([],                 440),
    (["--sessions", "2"], 240),
    (["--classic"],      840),  # a process for each
]  # fmt: skip


@pytest.mark.parametrize("options, needed", LIMITS, ids=["native", "two", "classic"])
def test_a_limit_that_is_too_low_is_said_first_with_the_command(start, home, options, needed):
    with open(f"{home.control}/concurrencyremote", "w") as file:
        file.write("200\n")
    started = start(*options, "./Maildir/", hard=128)
    until(lambda: b"status: local 0/" in started.log())
    assert started.log().startswith(
        b"pystart: warning: descriptors of each session process (pyrspawn): 128 of %d that are needed, by ulimit -n; "
        b"to raise it: ulimit -n %d\n" % (needed, needed)
    )
    assert started.log().count(b"pystart: warning: ") == 1


def test_a_limit_is_said_to_the_logger(start, home, tmp_path):
    with open(f"{home.control}/concurrencyremote", "w") as file:
        file.write("200\n")
    started = start("./Maildir/", "sh", "-c", f"exec cat >{tmp_path}/logger", hard=128)
    until(lambda: (tmp_path / "logger").exists() and b"status: local 0/" in (tmp_path / "logger").read_bytes())
    assert (tmp_path / "logger").read_bytes().startswith(b"pystart: warning: descriptors of each session process")
    assert started.log() == b""
