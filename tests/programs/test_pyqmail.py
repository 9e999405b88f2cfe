"""`pyqmail run` as a new user sees it: from nothing to a delivered message, again, and what goes wrong.

Untested here: `make run` itself, an old Python (the Makefile asks), and Ctrl-C on a real terminal.
"""

import os
import signal
import socket
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def place(tmp_path_factory):
    """A short path for a home: a UNIX socket must fit into it."""
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="pyq", dir="/tmp")
    yield f"{folder}/home"
    shutil.rmtree(folder)


def start(home, *options):
    environ = {
        "PATH": f"{ROOT}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "PYQMAIL_HOME": home,
    }
    argv = [sys.executable, f"{ROOT}/bin/pyqmail", "run", *options]
    return subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes_of(home):
    """Return the pids of all processes that have this home in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if f"PYQMAIL_HOME={home}\0".encode() in file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def test_once_and_once_again(place):
    for count in (1, 2):
        process = start(place, "--once", "--port", "0")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), out
        assert "Subject: it works" in out and "delivery 1: success" in out
        assert len(os.listdir(f"{place}/home/demo/Maildir/new")) == count
        assert processes_of(place) == []
    assert sum(len(files) for _, _, files in os.walk(f"{place}/queue/mess")) == 0


def test_a_signal_stops_everything(place):
    process = start(place, "--port", "0")
    for line in process.stdout:
        if line.startswith("Running."):
            break
    assert len(processes_of(place)) > 10
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert processes_of(place) == [] and process.stderr.read() == ""
    process.stdout.close()
    process.stderr.close()


def refused(home, *options):
    process = start(home, "--once", *options)
    out, err = process.communicate(timeout=60)
    assert out == "" and err.count("\n") == 1
    return process.returncode, err


def test_a_port_in_use(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused(place, "--port", str(port)) == (
            111,
            f"pyqmail: fatal: unable to listen on 127.0.0.1 port {port}: address already used\n",
        )


def test_a_folder_that_is_a_file(place):
    os.makedirs(place)
    open(f"{place}/private", "w").close()
    open(f"{place}/queue", "w").close()
    assert refused(place) == (111, f"pyqmail: fatal: unable to create {place}/queue/pid: not a directory\n")


def test_a_home_whose_path_is_too_long(place):
    home = f"{place}/{'x' * 100}"
    assert refused(home) == (
        100,
        f"pyqmail: fatal: the path of the home is too long for a UNIX socket: {home}/run/pyqueued\n",
    )


def test_a_folder_that_is_no_private_home(place):
    os.makedirs(f"{place}/control")
    assert refused(place) == (
        100,
        f"pyqmail: fatal: {place} is not empty and has no file `private`: it is not a private home\n",
    )
    assert os.listdir(place) == ["control"]


def test_two_at_once(place):
    process = start(place, "--port", "0")
    for line in process.stdout:
        if line.startswith("Running."):
            break
    assert refused(place, "--port", "0") == (100, f"pyqmail: fatal: {place} is running already\n")
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()
    process.stderr.close()


def test_manual_pages_render(tmp_path):
    from pyqmail.programs import manuals

    assert all(text.startswith(".TH ") and "\n.SH DESCRIPTION\n.PP\n" in text for text in manuals.pages().values())
