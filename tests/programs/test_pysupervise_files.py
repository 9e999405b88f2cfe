"""pysupervise and what a service directory asks for beyond run and down: scripts, signals, time limits, readiness."""

import itertools
import os
import pathlib
import re
import sys

import pytest

from tests.waiting import until

IDLE = "#!/bin/sh\nexec sleep 600\n"
NOTE = '#!/bin/sh\necho "${0#./} $*" >> notes\n'
DEAF = "#!/bin/sh\ntrap '' TERM\necho deaf >> notes\nwhile :; do sleep 600 & wait; done\n"


def write(folder, name, script):
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


def send(folder, commands):
    fd = os.open(folder / "supervise/control", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, commands)
    os.close(fd)


def notes(folder):
    path = folder / "notes"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def details(folder):
    """Return the facts of supervise/details, a dict of strings."""
    try:
        lines = (folder / "supervise/details").read_text().split("\n")
    except FileNotFoundError:
        return {}
    return dict(line.split(" ", 1) for line in lines if line)


def state(folder):
    return details(folder).get("state")


ENDS = [
    # run, what finish is told, what details say
    ("exit 0", "0 0", "0 0"),
    ("exit 3", "3 0", "3 0"),
    ("exit 111", "111 0", "111 0"),
    ("kill -9 $$", "256 9", "256 9"),
    ("kill -TERM $$", "256 15", "256 15"),
]


@pytest.mark.parametrize("run, told, ended", ENDS)
def test_finish_is_told_how_run_ended(stage, run, told, ended):
    folder = stage.service("a", f"#!/bin/sh\n{run}\n")
    write(folder, "finish", NOTE)
    process = stage.start("pysupervise", "a")
    until(lambda: len(notes(folder)) >= 2)
    assert set(notes(folder)) == {f"finish {told}"} and details(folder)["ended"] == ended
    send(folder, b"dx")
    assert process.wait(10) == 0
    assert details(folder)["state"] == "left"


def test_finish_after_a_run_that_cannot_be_executed(stage):
    folder = stage.service("a", None)
    write(folder, "finish", NOTE)
    stage.start("pysupervise", "a")
    until(lambda: notes(folder) == ["finish 111 0"])


def test_finish_that_says_stop(stage):
    folder = stage.service("a", "#!/bin/sh\nexit 1\n")
    write(folder, "finish", NOTE + "exit 125\n")
    process = stage.start("pysupervise", "a")
    until(lambda: state(folder) == "failed" and stage.state(folder)[12:] == b"\0\0\0\0\0d")
    assert notes(folder) == ["finish 1 0"]
    assert stage.run("pysvstat", "--long", "a").out.endswith(b"; failed, started once, last exit code 1\n")
    send(folder, b"u")
    until(lambda: notes(folder) == ["finish 1 0"] * 2 and state(folder) == "failed")
    send(folder, b"x")
    assert process.wait(10) == 0


def test_finish_that_does_not_end_is_killed(stage):
    folder = stage.service("a", "#!/bin/sh\nexit 1\n")
    write(folder, "finish", DEAF)
    (folder / "timeout-finish").write_text("50\n")
    process = stage.start("pysupervise", "a")
    until(lambda: len(notes(folder)) >= 2)
    send(folder, b"dx")
    assert process.wait(10) == 0


def test_commands_while_finish_runs(stage):
    folder = stage.service("a", "#!/bin/sh\nexit 1\n")
    write(folder, "finish", "#!/bin/sh\necho $$ >> notes\nexec sleep 600\n")
    (folder / "timeout-finish").write_text("0\n")
    stage.start("pysupervise", "a")
    until(lambda: state(folder) == "finishing" and notes(folder))
    assert stage.pid(folder) == 0  # the service is down, whatever svstat is asked
    send(folder, b"o")
    until(lambda: stage.state(folder)[17:] == b"\0")
    send(folder, b"k")  # goes to finish; then the start that o asked for, then finish again
    until(lambda: len(notes(folder)) == 2 and state(folder) == "finishing")
    send(folder, b"k")
    until(lambda: state(folder) == "down")
    assert details(folder)["starts"] == "2"


def test_start_run_stop_and_notify(stage):
    folder = stage.service("a")
    for name in ("start", "stop"):
        write(folder, name, NOTE)
    write(folder, "notify", '#!/bin/sh\necho "$1 $2 $4" >> news\n')
    process = stage.start("pysupervise", "a")
    pid = stage.up(folder)
    assert notes(folder) == ["start "]
    send(folder, b"t")  # a restart is no start
    until(lambda: stage.pid(folder) not in (0, pid))
    send(folder, b"d")
    until(lambda: state(folder) == "down")
    assert notes(folder) == ["start ", "stop "]
    send(folder, b"u")
    stage.up(folder)
    send(folder, b"dx")
    assert process.wait(10) == 0
    assert notes(folder) == ["start ", "stop "] * 2
    news = ["start start 0", "start exit 0", "run start 0", "run killed 15", "run start 0", "run killed 15"]
    news += ["stop start 0", "stop exit 0", "start start 0", "start exit 0", "run start 0", "run killed 15"]
    news += ["stop start 0", "stop exit 0"]
    # nobody waits for notify, so the order is not certain
    until(lambda: sorted((folder / "news").read_text().split("\n")[:-1]) == sorted(news))


def test_start_that_fails(stage):
    folder = stage.service("a", NOTE)
    write(folder, "start", "#!/bin/sh\nexit 7\n")
    write(folder, "stop", NOTE)
    process = stage.start("pysupervise", "a")
    until(lambda: state(folder) == "failed")
    send(folder, b"x")
    assert process.wait(10) == 0 and notes(folder) == []


def test_start_that_cannot_be_executed(stage):
    folder = stage.service("a", NOTE)
    write(folder, "start", "#!/no/such/interpreter\n")
    stage.start("pysupervise", "a")
    until(lambda: state(folder) == "failed")
    assert stage.err() == b"supervise: fatal: unable to start a/start: file does not exist\n"


@pytest.mark.parametrize("name, is_restarted", [(None, True), ("finish", True), ("stop", False), ("notify", False)])
def test_run_that_exits_with_100(stage, name, is_restarted):
    folder = stage.service("a", NOTE + "exit 100\n")
    if name:
        write(folder, name, "#!/bin/sh\n")
    stage.start("pysupervise", "a")
    if is_restarted:
        until(lambda: len(notes(folder)) == 2)
    else:
        until(lambda: state(folder) == "failed")
        assert notes(folder) == ["run "]


def test_files_of_those_names_that_are_no_programs_mean_nothing(stage):
    folder = stage.service("a", NOTE + "exit 100\n")
    for name in ("start", "stop", "notify", "finish"):
        (folder / name).write_text(NOTE + "exit 125\n")
    stage.start("pysupervise", "a")
    until(lambda: notes(folder) == ["run "] * 2)


@pytest.mark.parametrize("content", ["QUIT", "3\n", "SIGQUIT"])
def test_down_signal(stage, content):
    folder = stage.service(
        "a", "#!/bin/sh\ntrap 'echo quit >> notes; exit' QUIT\necho up >> notes\nwhile :; do :; done\n"
    )
    (folder / "down-signal").write_text(content)
    process = stage.start("pysupervise", "a")
    until(lambda: notes(folder) == ["up"])
    send(folder, b"dx")
    assert process.wait(10) == 0 and notes(folder) == ["up", "quit"]


@pytest.mark.parametrize(
    "content, shown", [(b"LOUD\n", b"LOUD"), (b"\033[2J\xff", b"?[2J?"), (b"x" * 100, b"x" * 40), (b"", b"")]
)
def test_a_down_signal_that_makes_no_sense(stage, content, shown):
    folder = stage.service("a")
    (folder / "down-signal").write_bytes(content)
    process = stage.start("pysupervise", "a")
    stage.up(folder)
    send(folder, b"dx")
    assert process.wait(10) == 0
    assert stage.err() == b"supervise: warning: a/down-signal makes no sense: %b\n" % shown


def test_a_run_that_ignores_term_is_killed_if_asked_for(stage):
    folder = stage.service("a", DEAF)
    process = stage.start("pysupervise", "a")
    until(lambda: notes(folder))
    send(folder, b"d")  # without the file: for ever
    until(lambda: stage.state(folder)[17:] == b"d")
    (folder / "timeout-kill").write_text("50\n")
    send(folder, b"dx")
    assert process.wait(10) == 0 and details(folder)["ended"] == "256 9"


def test_backoff_grows_and_is_shown(stage):
    folder = stage.service("a", "#!/bin/sh\ndate +%s.%N >> notes\n")
    (folder / "backoff").write_text("2\n")
    process = stage.start("pysupervise", "a")
    times = list(map(float, until(lambda: len(notes(folder)) >= 4 and notes(folder))))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] > 0.5 and sum(gaps) > 4.5  # 1 + 2 + 2; run notes the time a moment after its start
    until(lambda: state(folder) == "waiting")
    shown = stage.run("pysvstat", "--long", "a").out
    assert b"want up; waiting, 2 seconds between starts, started 4 times, last exit code 0\n" in shown
    send(folder, b"u")  # starts it at once
    *_, last, next_one = map(float, until(lambda: len(notes(folder)) >= 5 and notes(folder)[:5]))
    assert next_one - last < 1.8
    send(folder, b"dx")
    assert process.wait(10) == 0


READY = """#!/bin/sh
read line < go
printf 'almost' >&5
read line < go
printf ' ready\\n' >&5
echo more >&5
exec sleep 600
"""


def test_readiness(stage):
    folder = stage.service("a", READY)
    (folder / "notification-fd").write_text("5\n")
    os.mkfifo(folder / "go")
    stage.start("pysupervise", "a")
    pid = stage.up(folder)
    assert stage.run("pysvwait", "-U", "-t", 0, "a").code == 99
    assert stage.run("pysvwait", "-u", "-t", 0, "a").code == 0
    (folder / "go").write_text("\n")
    assert stage.run("pysvstat", "--long", "a").out.split(b"; ")[1].startswith(b"not ready")
    (folder / "go").write_text("\n")
    assert stage.run("pysvwait", "-U", "-t", 15, "a").code == 0
    assert re.match(rb"ready \d seconds, started once\n", stage.run("pysvstat", "--long", "a").out.split(b"; ")[1])
    send(folder, b"k")
    until(lambda: stage.pid(folder) not in (0, pid))
    assert "ready" not in details(folder)


@pytest.mark.parametrize("content", ["x", "2", "-1", "999999999"])
def test_a_notification_descriptor_that_makes_no_sense(stage, content):
    folder = stage.service("a")
    (folder / "notification-fd").write_text(content)
    stage.start("pysupervise", "a")
    stage.up(folder)
    assert stage.err().decode() == f"supervise: warning: a/notification-fd makes no sense: {content}\n"


def test_state_outside_a_read_only_directory(stage, tmp_path):
    folder = stage.service("a")
    environ = {**stage.environ(), "SUPERVISEDIR": str(tmp_path / "run")}
    process = stage.start("pysupervise", "a", env=environ)
    place = tmp_path / "run" / str(folder)[1:].replace("/", ":")

    def run(*words):
        return stage.run(*words, env=environ)

    assert run("pysvwait", "-u", "-t", 15, "a").code == 0
    assert sorted(os.listdir(place)) == ["control", "details", "lock", "ok", "status"]
    assert os.listdir(folder) == ["run"]
    assert run("pysvok", "a").code == 0 and stage.run("pysvok", "a").code == 100
    assert b"a: up (pid " in run("pysvstat", "a").out
    assert run("pysvc", "--strict", "-dx", "a") == (0, b"", b"")
    assert process.wait(10) == 0
    assert run("pysvwait", "-d", "-t", 0, "a").code == 0
    second = stage.start("pysupervise", "a", env={**environ, "SUPERVISEDIR": "state"})
    until(lambda: (folder / "state/status").exists())
    lock = stage.run("pysupervise", "a", env={**environ, "SUPERVISEDIR": "state"})
    assert lock.err == b"supervise: fatal: unable to acquire a/state/lock: temporary failure\n"
    second.kill()


def test_the_directory_is_only_read(stage, tmp_path):
    """What a supervisor with SUPERVISEDIR leaves in the directory: nothing, as it is mounted read-only somewhere."""
    folder = stage.service("a", is_down=True)
    before = sorted(p.name for p in pathlib.Path(folder).iterdir())
    stage.start("pysupervise", "a", env={**stage.environ(), "SUPERVISEDIR": str(tmp_path / "run")})
    until(lambda: (tmp_path / "run").is_dir() and any((tmp_path / "run").glob("*/ok")))
    assert sorted(p.name for p in pathlib.Path(folder).iterdir()) == before


GATED = '#!/bin/sh\necho "${0#./} begins" >> notes\nread go < gate\necho "${0#./} ends" >> notes\n'
LEFT = [
    # script, run, what brings it about, the state then, what is done once it has ended
    ("start", "exec sleep 600", b"", "starting", ["start begins"]),
    ("finish", "exit 3", b"", "finishing", ["run", "finish begins"]),
    ("stop", "exec sleep 600", b"d", "stopping", ["run"]),
]


@pytest.mark.parametrize("script, run, commands, before, after", LEFT)
def test_a_script_that_runs_when_its_supervisor_is_killed_is_waited_for(stage, script, run, commands, before, after):
    folder = stage.service("a", f"#!/bin/sh\necho run >> notes\n{run}\n")
    os.mkfifo(folder / "gate")
    write(folder, script, GATED)
    first = stage.start("pysupervise", "a")
    until(lambda: state(folder) == ("up" if commands else before))
    if commands:
        send(folder, commands)
    until(lambda: state(folder) == before and f"{script} begins" in notes(folder))
    so_far, pid = notes(folder), details(folder)["script"].split()[0]
    first.kill()
    first.wait()
    assert stage.run("pysvwait", "-t", "0", "-d", "a").code == 99
    stage.start("pysupervise", "a")
    until(lambda: stage.is_supervised(folder))
    said = f"supervise: warning: a/{script} still runs as pid {pid}, its supervisor was killed: taking it over\n"
    until(lambda: stage.err().decode() == said)
    send(folder, b"a")  # SIGALRM ends the script as it is, so nobody else runs
    until(lambda: len(notes(folder)) >= len(so_far) + len(after))
    assert notes(folder)[: len(so_far) + len(after)] == [*so_far, *after]
    assert stage.err().decode() == said


def test_a_finish_that_was_taken_over_is_killed_in_its_time(stage):
    folder = stage.service("a", "#!/bin/sh\necho run >> notes\n")
    write(folder, "finish", DEAF)
    first = stage.start("pysupervise", "a")
    until(lambda: notes(folder) == ["run", "deaf"] and "script" in details(folder))
    first.kill()
    first.wait()
    (folder / "timeout-finish").write_text("1")
    stage.start("pysupervise", "a")
    until(lambda: len(notes(folder)) >= 3)
    assert notes(folder)[:3] == ["run", "deaf", "run"]


SLOW_TO_END = f"""#!{sys.executable}
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open("notes", "a").write("start\\n")
signal.sigwait([signal.SIGTERM])
open("gate").read()
sys.exit(1)
"""


def test_a_start_that_is_told_to_end_has_not_failed(stage):
    folder = stage.service("a")
    os.mkfifo(folder / "gate")
    write(folder, "start", SLOW_TO_END)
    stage.start("pysupervise", "a")
    until(lambda: notes(folder) == ["start"])
    write(folder, "start", NOTE)
    send(folder, b"du")
    until(lambda: state(folder) == "abandoning" and stage.state(folder)[17:] == b"u")
    (folder / "gate").write_text("go\n")
    stage.up(folder)
    assert notes(folder) == ["start", "start "]
