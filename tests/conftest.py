"""What all tests share: running a program as a program, with real pipes and a real exit code."""

import collections
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
Result = collections.namedtuple("Result", "code out err")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; only in `make test-long`")
    if not config.option.markexpr:
        config.option.markexpr = "not long"


@pytest.fixture
def run():
    """run(name, *arguments, input=b"", env={}, cwd=None) -> Result(code, out, err) of one of our programs."""

    def run_program(name, *arguments, input=b"", env=None, cwd=None, timeout=60):
        done = subprocess.run(
            [sys.executable, f"{ROOT}/bin/{name}", *arguments],
            input=input,
            capture_output=True,
            env={"PATH": f"{ROOT}/bin:{os.environ['PATH']}", "PYTHONPATH": ROOT, **(env or {})},
            cwd=cwd,
            timeout=timeout,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run_program


@pytest.fixture
def home(tmp_path):
    """A private qmail home with an empty queue of 23 parts: Home, me is `here.example`."""
    from pyqmail.system.home import Home

    place = tmp_path / "home"
    for folder in ("control", "users", "alias", "run"):
        (place / folder).mkdir(parents=True)
    make_queue(place / "queue")
    (place / "private").touch()
    (place / "control/me").write_bytes(b"here.example\n")
    return Home(str(place))


def make_queue(queue, split=23):
    """Make an empty queue as the original's installer does: see reference, the queue on disk."""
    for folder in ("pid", "intd", "todo", "bounce", "lock"):
        (queue / folder).mkdir(parents=True)
    for folder in ("mess", "info", "local", "remote"):
        for part in range(split):
            (queue / folder / str(part)).mkdir(parents=True)
    (queue / "lock/sendmutex").touch()
    (queue / "lock/tcpto").write_bytes(bytes(1024))
    os.mkfifo(queue / "lock/trigger")
