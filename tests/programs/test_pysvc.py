"""pysvc as a program: which bytes it sends, and how it fails.  Beside the original: tests/interop."""

import os

import pytest

OPTIONS = (
    b"svc options: u up, d down, o once, x exit, p pause, c continue, h hup, a alarm, i interrupt, t term, k kill, "
    b"q quit, 1 usr1, 2 usr2, w winch\n"
)


@pytest.fixture
def service(tmp_path):
    """A directory whose control FIFO the test reads: (directory, read)."""
    (tmp_path / "a/supervise").mkdir(parents=True)
    os.mkfifo(tmp_path / "a/supervise/control")
    fd = os.open(tmp_path / "a/supervise/control", os.O_RDONLY | os.O_NONBLOCK)
    yield tmp_path / "a", lambda: os.read(fd, 100)
    os.close(fd)


SENT = [
    (["-d"], b"d"),
    (["-dx"], b"dx"),
    (["-xd"], b"xd"),
    (["-uudduxcpt", "-k", "-a"], b"udxcptka"),
    (["-uopchaitkxdq12w"], b"uopchaitkxdq12w"),
    (["-d", "--"], b"d"),
    ([], b""),
]


@pytest.mark.parametrize("options, commands", SENT)
def test_the_bytes(run, service, options, commands):
    folder, read = service
    assert run("pysvc", *options, str(folder)) == (0, b"", b"")
    assert read() == commands


def test_no_directory(run):
    assert run("pysvc", "-d") == (0, b"", b"")


def test_usage(run):
    assert run("pysvc", "-q3", "a") == (100, b"", b"pysvc: illegal option -- 3\n" + OPTIONS)


def test_what_cannot_be_reached_is_a_warning_each(run, service, tmp_path):
    folder, read = service
    (tmp_path / "none").mkdir()
    (tmp_path / "dead/supervise").mkdir(parents=True)
    os.mkfifo(tmp_path / "dead/supervise/control")
    done = run("pysvc", "-d", "missing", "none", "dead", "a", cwd=tmp_path)
    assert (done.code, done.out) == (0, b"")
    assert done.err.decode().split("\n") == [
        "svc: warning: unable to chdir to missing: file does not exist",
        "svc: warning: unable to control none: file does not exist",
        "svc: warning: unable to control dead: supervise not running",
        "",
    ]
    assert read() == b"d"


STRICT = [
    # directories, exit code
    (["a"], 0),
    (["a", "none"], 100),
    (["dead"], 100),
    (["missing", "dead"], 111),
    (["dead", "file"], 111),
    ([], 0),
]


@pytest.mark.parametrize("directories, code", STRICT)
def test_the_exit_code_tells_if_asked(run, service, tmp_path, directories, code):
    folder, read = service
    (tmp_path / "none").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dead/supervise").mkdir(parents=True)
    os.mkfifo(tmp_path / "dead/supervise/control")
    done = run("pysvc", "--strict", "-d", *directories, cwd=tmp_path)
    assert (done.code, done.out) == (code, b"")
    assert done.err == run("pysvc", "-d", *directories, cwd=tmp_path).err
    if "a" in directories:
        assert read() == b"dd"
