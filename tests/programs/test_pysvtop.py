"""The table of services under our supervisor and the original's, printed and on a terminal."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios

import pytest

from tests.waiting import read_until, until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENVIRON = {"PATH": f"{ROOT}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
SECONDS = 30
SCRIPTS = {
    "one": "sleep 1000 &\nexec sleep 1000\n",
    "one/log": "exec cat >log\n",
    "two": "exec sleep 1000\n",
}
original = pytest.mark.skipif(not shutil.which("svscan"), reason="not installed: svscan")


@pytest.fixture
def services(tmp_path):
    """A directory of services; two is normally down."""
    place = tmp_path / "services"
    for name, script in SCRIPTS.items():
        (place / name).mkdir(parents=True)
        (place / name / "run").write_text(f"#!/bin/sh\n{script}")
        (place / name / "run").chmod(0o755)
    (place / "two/down").touch()
    return place


@pytest.fixture
def scan(services):
    """scan(program) starts it on the services, and waits for the supervisors."""
    started = []

    def start(program):
        process = subprocess.Popen([program, str(services)], env=ENVIRON, start_new_session=True)
        started.append(process)
        shown = ["pysvtop", str(services)]
        until(lambda: subprocess.run(shown, env=ENVIRON, capture_output=True).stdout.count(b" up ") >= 2)

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


UP = rb"up +[0-9]+s +[0-9]+ +%b +- +- +[0-9.]+[kM] +[0-9]+\.[0-9] +[0-9]+\n"


@pytest.mark.parametrize("program, restarts", [("pysvscan", b"0"), pytest.param("svscan", b"-", marks=original)])
def test_services_with_what_they_use(run, services, scan, program, restarts):
    scan(program)
    shown = run("pysvtop", cwd=services)
    assert (shown.code, shown.err) == (0, b"")
    pattern = rb"""2 of 3 up, memory [0-9.]+[kM], processor [0-9.]+%%, descriptors [0-9]+

SERVICE  STATE  FOR +PID  RESTARTS  ENDED  PAUSE  MEMORY  CPU%%  FDS
one      %b(?:one/log  %b)two      down +[0-9]+s +- +%b  -          -       -     -    -
""" % (UP % restarts, UP % restarts, restarts)
    assert re.fullmatch(pattern, shown.out), shown.out.decode()
    assert run("pysvtop", "--once", str(services)).out.count(b"\n") == 6


def test_a_service_alone_and_several_directories(run, services):
    names = [line.split()[0] for line in run("pysvtop", str(services / "one")).out.decode().splitlines()[3:]]
    assert names == [f"{services}/one", f"{services}/one/log"]
    shown = run("pysvtop", "one", ".", cwd=services).out.decode().splitlines()[3:]
    assert [line.split()[:2] for line in shown] == [
        [name, "unsupervised"] for name in ("one", "one/log", "./one", "./one/log", "./two")
    ]


def test_a_directory_that_is_not_there(run, tmp_path):
    done = run("pysvtop", f"{tmp_path}/no\x1b[2Jne")
    assert done == (111, b"", f"pysvtop: fatal: unable to read {tmp_path}/no?[2Jne: file does not exist\n".encode())
    assert run("pysvtop", "--twice").code == 100


def test_nobody_reads_it(services):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(["pysvtop", str(services)], env=ENVIRON, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_cannot_be_written_is_said(services):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(["pysvtop", str(services)], env=ENVIRON, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (111, b"pysvtop: fatal: unable to write: out of disk space\n")


def test_it_refreshes_on_a_terminal_until_q(services):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    environ = {**ENVIRON, "TERM": "xterm"}
    process = subprocess.Popen(["pysvtop", str(services)], env=environ, stdin=theirs, stdout=theirs)
    try:
        text = read_until(ours, lambda text: text.count(b"0 of 3 up") >= 2)
        assert b"\r\n\x1b[Kone/log  unsupervised " in text
        os.write(ours, b"q")
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("environ", [{}, {"TERM": ""}, {"TERM": "dumb"}])
def test_on_a_terminal_that_cannot_be_steered_it_is_shown_once(services, environ):
    ours, theirs = pty.openpty()
    subprocess.run(["pysvtop", str(services)], env={**ENVIRON, **environ}, stdin=theirs, stdout=theirs, timeout=SECONDS)
    os.close(theirs)
    text = os.read(ours, 65536)
    os.close(ours)
    assert text.startswith(b"0 of 3 up, ") and b"\x1b" not in text


def test_a_service_named_run(services):
    (services / "two").rename(services / "run")
    shown = subprocess.run(["pysvtop", str(services)], env=ENVIRON, capture_output=True, check=True).stdout
    assert [line.split()[0] for line in shown.splitlines()[3:]] == [b"one", b"one/log", b"run"]


def test_no_name_is_no_directory(run):
    assert run("pysvtop", "") == (111, b"", b"pysvtop: fatal: unable to read : file does not exist\n")
