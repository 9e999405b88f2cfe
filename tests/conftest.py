"""What all tests share: running a program as a program, with real pipes and a real exit code."""

import codecs
import collections
import os
import re
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


class Transcript:
    """A conversation from tests/transcripts, byte for byte.

    Lines, with the escapes of a bytes literal: `C: ` what the client says, `S: ` what the server must, `Q: ` the
    envelope and `M: ` the message (its Received lines left out) that must then be in the queue; `control NAME: TEXT`
    and `env NAME=VALUE` before all; `exit CODE`.  In what the server says TIME and NUMBER stand for any number.
    """

    def __init__(self, path):
        self.controls, self.environ, self.steps, self.code, self.queued = {}, {}, [], None, []
        with open(path, "rb") as lines:
            for line in lines:
                self._take(codecs.escape_decode(line.rstrip(b"\n"))[0], line)

    def _take(self, text, line):
        word, _, rest = text.partition(b" ")
        if word == b"control":
            name, _, content = rest.partition(b": ")
            self.controls[name.decode()] = content
        elif word == b"env":
            name, _, value = rest.partition(b"=")
            self.environ[name] = value
        elif word == b"exit":
            self.code = int(rest)
        elif word == b"Q:":
            self.queued.append([rest, b""])
        elif word == b"M:":
            self.queued[-1][1] += rest
        elif word in (b"C:", b"S:"):
            if self.steps and self.steps[-1][0] == word[:1]:
                rest = self.steps.pop()[1] + rest
            self.steps.append((word[:1], rest))
        else:
            assert not line.strip() or line.startswith(b"#"), line

    def client(self):
        return b"".join(said for who, said in self.steps if who == b"C")

    def server(self):
        return b"".join(said for who, said in self.steps if who == b"S")


def matches(said, wanted):
    """Return whether the server's words are those of a transcript."""
    pattern = re.escape(wanted).replace(b"TIME", rb"[0-9]+").replace(b"NUMBER", rb"[0-9]+")
    return re.fullmatch(pattern, said) is not None


@pytest.fixture
def transcript():
    """transcript(name) -> Transcript of tests/transcripts/name; transcript.matches(said, wanted)."""

    def read(name):
        return Transcript(f"{ROOT}/tests/transcripts/{name}")

    read.matches = matches
    return read
