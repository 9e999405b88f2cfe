"""The original svc, svstat, svok, supervise, svscan and ours, in every mixture: same answers, bytes and files.

What stays untested: the original's 60 seconds after a failed fork.
"""

import os
import re
import shutil
import sys

import pytest

from tests.waiting import until

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("supervise", "svc", "svstat", "svok", "svscan", "multilog"))),
    reason="daemontools is not installed",
)

SUPERVISORS = ("supervise", "pysupervise")
HANDS = ("", "py")
TALKER = """#!/bin/sh
test -p hold || mkfifo hold
exec 9<>hold
for name in HUP ALRM INT; do trap "echo $name" $name; done
trap "echo TERM; exit" TERM
echo begun
while :; do read line <&9; done
"""


def without_numbers(line):
    return re.sub(rb"\d+", b"N", line)


def states(stage, *directories):
    """Return what both svstats say, which must be the same but for a second that passed."""
    ours, its = (stage.run(name, *directories) for name in ("pysvstat", "svstat"))
    assert (ours.code, ours.err) == (its.code, its.err)
    for mine, other in zip(ours.out.split(b"\n"), its.out.split(b"\n"), strict=True):
        if b" seconds" in mine:
            ages = [int(re.search(rb"(\d+) seconds", line)[1]) for line in (mine, other)]
            assert abs(ages[0] - ages[1]) <= 1
            mine, other = (re.sub(rb"\d+ seconds", b"N seconds", line) for line in (mine, other))
        assert mine == other
    return ours.out


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_a_life(stage, supervisor, hand):
    folder = stage.service("a", TALKER, is_down=True)
    svc, svok = f"{hand}svc", f"{hand}svok"
    assert stage.run(svok, "a").code == 100
    process = stage.start(supervisor, "a")
    until(lambda: stage.run(svok, "a").code == 0)
    stage.run(svc, "-p", "a")
    seen = []

    def see(text):
        seen.append(without_numbers(states(stage, "a")))
        assert seen[-1] == text

    see(b"a: down N seconds\n")
    stage.run(svc, "-u", "a")
    stage.up(folder)
    see(b"a: up (pid N) N seconds, normally down\n")
    (folder / "down").unlink()
    see(b"a: up (pid N) N seconds\n")
    said = ["begun"]
    for letter, name in (("h", "HUP"), ("a", "ALRM"), ("i", "INT")):
        said.append(name)
        assert stage.run(svc, f"-{letter}", "a") == (0, b"", b"")
        until(lambda: stage.err().decode().split() == said)
    stage.run(svc, "-po", "a")
    until(lambda: stage.state(folder)[16:] == b"\1\0")
    see(b"a: up (pid N) N seconds, paused\n")
    stage.run(svc, "-d", "a")
    until(lambda: stage.pid(folder) == 0)
    see(b"a: down N seconds, normally up\n")
    assert stage.err().decode().split() == [*said, "TERM"]
    stage.run(svc, "-ud", "a")  # u is up for a second before d is heard
    stage.up(folder)
    until(lambda: stage.pid(folder) == 0)
    assert stage.err().decode().split() == [*said, "TERM", "begun", "TERM"]
    stage.run(svc, "-u", "a")
    stage.up(folder)
    stage.run(svc, "-dx", "a")
    assert process.wait(10) == 0
    assert stage.state(folder)[12:] == b"\0\0\0\0\0d"
    see(b"a: supervise not running\n")
    assert stage.run(svok, "a").code == 100


@pytest.mark.parametrize("supervisor", SUPERVISORS)
def test_it_restarts_and_leaves_the_same_way(stage, supervisor):
    folder = stage.service("a", "#!/bin/sh\necho begun\n")
    process = stage.start(supervisor, "a")
    until(lambda: stage.err().count(b"begun") >= 2)
    stage.run("svc", "-o", "a")
    until(lambda: stage.pid(folder) == 0 and stage.state(folder)[17:] == b"\0")
    number = stage.err().count(b"begun")
    stage.run("pysvc", "-x", "a")
    assert process.wait(10) == 0
    assert stage.err().count(b"begun") == number
    assert set(os.listdir(folder / "supervise")) - {"details"} == {"control", "lock", "ok", "status"}


@pytest.mark.parametrize("first, second", [SUPERVISORS, SUPERVISORS[::-1]])
def test_they_lock_each_other_out(stage, first, second):
    folder = stage.service("a")
    stage.start(first, "a")
    stage.up(folder)
    line = b"supervise: fatal: unable to acquire a/supervise/lock: temporary failure\n"
    assert stage.run(second, "a") == (111, b"", line)


FAULTS = [
    # arguments, what is spoilt
    (["a"], lambda a: shutil.rmtree(a)),
    (["a"], lambda a: (a / "supervise").touch()),
    (["a"], lambda a: (a / "supervise/lock").mkdir(parents=True)),
    (["a"], lambda a: (a / "down").symlink_to("down")),
    (["a/run"], lambda a: None),
    ([], lambda a: None),
    (["a", "b"], lambda a: None),
    (["-x"], lambda a: None),
    (["--"], lambda a: None),
]


@pytest.mark.parametrize("arguments, spoil", FAULTS)
def test_supervise_fails_with_the_same_line(stage, arguments, spoil):
    spoil(stage.service("a"))
    its = stage.run("supervise", *arguments)
    assert its.code in (100, 111)
    assert stage.run("pysupervise", *arguments) == its


@pytest.mark.parametrize("spoil", ["missing", "plain", "folder", "script"])
def test_the_same_line_for_a_run_that_cannot_be_executed(stage, spoil):
    lines = {}
    for supervisor in SUPERVISORS:
        folder = stage.service(supervisor)
        path = folder / "run"
        if spoil == "plain":
            path.chmod(0o644)
        elif spoil == "script":
            path.write_text("exec sleep 600\n")
        else:
            path.unlink()
            if spoil == "folder":
                path.mkdir()
        begun = len(stage.err())
        process = stage.start(supervisor, supervisor)
        until(lambda begun=begun: stage.err()[begun:].count(b"\n") >= 2)
        stage.run("svc", "-dx", supervisor)
        assert process.wait(10) == 0
        said = stage.err()[begun:].replace(supervisor.encode() + b"/run", b"S/run")
        lines[supervisor] = set(said.split(b"\n"))
    assert lines["supervise"] == lines["pysupervise"]


DIRECTORIES = ("up", "missing", "dead", "never", "short", "file", "garbage", "wrong", "loop", "empty")


def test_svstat_and_svok_say_the_same_of_everything(stage):
    readers = []
    for name in ("dead", "never", "short", "garbage", "wrong", "loop", "empty"):
        stage.service(name, None)
    for name in ("dead", "short", "garbage", "loop", "empty"):
        place = stage.place / name / "supervise"
        place.mkdir()
        os.mkfifo(place / "ok")
        if name != "dead":
            readers.append(os.open(place / "ok", os.O_RDONLY | os.O_NONBLOCK))
    (stage.place / "wrong/supervise/ok").mkdir(parents=True)
    (stage.place / "short/supervise/status").write_bytes(b"x" * 17)
    (stage.place / "garbage/supervise/status").write_bytes(bytes(range(12)) + b"\xff\xff\xff\xff\7d and more")
    (stage.place / "garbage/down").touch()
    (stage.place / "loop/down").symlink_to("down")
    (stage.place / "file").touch()
    folder = stage.service("up")
    stage.start("pysupervise", "up")
    stage.up(folder)
    assert states(stage, *DIRECTORIES).count(b"\n") == len(DIRECTORIES)
    for name in DIRECTORIES:
        assert stage.run("pysvok", name) == stage.run("svok", name)
    for reader in readers:
        os.close(reader)


WORDS = ["", "-d", "-Z", "missing", "-d missing", "-d a file b", "-- -d", "- a", "-dQ a"]


@pytest.mark.parametrize("words", [line.split() for line in WORDS])
def test_svc_complains_the_same(stage, words):
    stage.service("a")
    stage.service("b").joinpath("supervise").mkdir()
    os.mkfifo(stage.place / "b/supervise/control")
    (stage.place / "file").touch()
    its, ours = stage.run("svc", *words), stage.run("pysvc", *words)
    # the name it was called by stands before an option's complaint; ours has four letters more
    said = ours.err.replace(b"pysvc: illegal", b"svc: illegal").replace(b", q quit, 1 usr1, 2 usr2, w winch\n", b"\n")
    assert (ours.code, ours.out, said) == its


@pytest.mark.parametrize("scanner, supervisor", [("svscan", "pysupervise"), ("pysvscan", "supervise")])
def test_scanners_and_supervisors_mixed(stage, tmp_path, scanner, supervisor):
    """The one scanner finds the other's supervise in PATH; the log is the original multilog."""
    (tmp_path / "bin").mkdir()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    starter = shutil.which("supervise") if supervisor == "supervise" else f"{root}/bin/pysupervise"
    (tmp_path / "bin/supervise").symlink_to(os.path.realpath(starter))
    folder = stage.service("a", "#!/bin/sh\necho begun\nexec sleep 600\n", log="#!/bin/sh\nexec multilog t ./main\n")
    path = f"{tmp_path}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    options = ["--supervise", "supervise"] if scanner == "pysvscan" else []
    stage.start(scanner, *options, env={**stage.environ(), "PATH": path})
    stage.up(folder)
    stage.up(folder / "log")
    current = folder / "log/main/current"
    until(lambda: current.exists() and re.fullmatch(r"@[0-9a-f]{24} begun\n", current.read_text()))
    stage.run("svc", "-dx", "a", "a/log")
    until(lambda: stage.pid(folder) == 0 and stage.pid(folder / "log") == 0)
