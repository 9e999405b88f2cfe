"""pysvstat as a program: a line for each directory, whatever is wrong with it."""

import json
import os
import re
import subprocess
import sys

import pytest

from pyqmail.base import tai
from pyqmail.supervise.status import pack_status
from pyqmail.system import clock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_a_line_for_each(run, tmp_path):
    for name in ("a", "dead", "never", "short", "nostatus", "folder"):
        (tmp_path / name).mkdir()
    readers = []
    for name in ("a", "dead", "short", "nostatus", "folder"):
        (tmp_path / name / "supervise").mkdir()
        os.mkfifo(tmp_path / name / "supervise/ok")
        if name != "dead":
            readers.append(os.open(tmp_path / name / "supervise/ok", os.O_RDONLY | os.O_NONBLOCK))
    (tmp_path / "a/supervise/status").write_bytes(bytes.fromhex("400000006b0475290c38519c4a3e00000075") + b"more")
    (tmp_path / "short/supervise/status").write_bytes(bytes(17))
    (tmp_path / "folder/supervise/status").mkdir()
    done = run("pysvstat", "a", "missing", "dead", "never", "short", "nostatus", "folder", cwd=tmp_path)
    for reader in readers:
        os.close(reader)
    assert (done.code, done.err) == (0, b"")
    assert re.sub(rb"\d+ seconds", b"N seconds", done.out).decode().split("\n") == [
        "a: up (pid 15946) N seconds",
        "missing: unable to chdir: file does not exist",
        "dead: supervise not running",
        "never: unable to open supervise/ok: file does not exist",
        "short: unable to read supervise/status: bad format",
        "nostatus: unable to open supervise/status: file does not exist",
        "folder: unable to read supervise/status: is a directory",
        "",
    ]


def test_what_nobody_can_read_is_no_failure():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, f"{ROOT}/bin/pysvstat", "missing"], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_nothing_to_say(run):
    assert run("pysvstat") == (0, b"", b"")


def made_up(place, name, pid, wish, details=b"", seconds=100):
    """Make a service as a supervisor would leave it; returns what stands for the supervisor."""
    (place / name / "supervise").mkdir(parents=True)
    os.mkfifo(place / name / "supervise/ok")
    now, _ = clock.now()
    (place / name / "supervise/status").write_bytes(pack_status(tai.label(now - seconds, 0), pid, False, wish))
    label = b"label %b\n" % tai.text_label(now - seconds, 0)
    details = details.replace(b"READY", tai.text_label(now - 90, 0))
    (place / name / "supervise/details").write_bytes(label + details)
    return os.open(place / name / "supervise/ok", os.O_RDONLY | os.O_NONBLOCK)


LONG = [
    # pid, details, what follows `up (pid 7) N seconds` or `down N seconds, normally up, want up`, JSON's additions
    (7, b"", "", {}),
    (0, b"state starting\nstarts 0\n", "; starting, not started yet", {"state": "starting", "starts": 0}),
    (7, b"state up\nstarts 1\n", "; started once", {"state": "up", "starts": 1}),
    (
        7,
        b"state up\nready READY\nstarts 3\nended 111 0\n",
        "; ready N seconds, started 3 times, last exit code 111",
        {"state": "up", "ready_seconds": 90, "starts": 3, "exit_code": 111},
    ),
    (
        0,
        b"state waiting\nstarts 9\nwait 8\nended 256 15\n",
        "; waiting, N seconds between starts, started 9 times, last killed by signal 15",
        {"state": "waiting", "wait_seconds": 8, "starts": 9, "signal": 15},
    ),
    (0, b"state finishing\nended 256 0\n", "; finishing, last end unknown", {"state": "finishing"}),
    (7, b"nonsense\nstarts many\n\xff", "", {}),
]


@pytest.mark.parametrize("pid, details, long, more", LONG)
def test_what_is_known_beyond(run, tmp_path, pid, details, long, more):
    reader = made_up(tmp_path, "a", pid, b"u", details)

    def ask(*options):
        done = run("pysvstat", *options, "a", "missing", cwd=tmp_path)
        assert (done.code, done.err) == (0, b"")
        return done.out.decode()

    short = "a: up (pid 7) N seconds" if pid else "a: down N seconds, normally up, want up"
    failed = "missing: unable to chdir: file does not exist\n"
    assert re.sub(r"\d+ seconds", "N seconds", ask()) == f"{short}\n{failed}"
    assert re.sub(r"\d+ seconds", "N seconds", ask("--long")) == f"{short}{long}\n{failed}"
    line, other = map(json.loads, ask("--json").splitlines())
    assert other == {"directory": "missing", "error": "unable to chdir: file does not exist"}
    for name in ("seconds", "ready_seconds"):
        if name in line:
            assert 0 <= line.pop(name) - {"seconds": 100, "ready_seconds": 90}[name] <= 5
    more = {name: value for name, value in more.items() if name != "ready_seconds"}
    plain = {"directory": "a", "up": pid != 0, "pid": pid, "paused": False, "wish": "up", "has_down_file": False}
    assert line == {**plain, **more}
    os.close(reader)


def test_details_of_another_moment_say_nothing(run, tmp_path):
    reader = made_up(tmp_path, "a", 7, b"u", b"state up\nstarts 3\n")
    (tmp_path / "a/supervise/status").write_bytes(pack_status(clock.now_label(), 7, False, b"u"))
    assert b";" not in run("pysvstat", "--long", "a", cwd=tmp_path).out
    os.close(reader)


def test_one_that_should_say_when_it_is_ready_and_did_not(run, tmp_path):
    reader = made_up(tmp_path, "a", 7, b"u", b"state up\nstarts 1\n")
    (tmp_path / "a/notification-fd").write_text("3")
    assert b" seconds; not ready, started once\n" in run("pysvstat", "--long", "a", cwd=tmp_path).out
    os.close(reader)
