"""Knocking at FIFOs, and commands that never wait."""

import os

import pytest

from pyqmail.supervise.control import (
    NOT_RUNNING,
    StartingDirectory,
    check_supervised,
    command,
    command_process,
    is_supervised,
    supervise_path,
)


@pytest.fixture
def service(tmp_path):
    (tmp_path / "supervise").mkdir()
    for name in ("ok", "control"):
        os.mkfifo(tmp_path / "supervise" / name)
    return tmp_path


def test_without_a_reader_nobody_is_there(service):
    assert not is_supervised(str(service)) and not command(str(service), b"d")
    with pytest.raises(OSError) as caught:
        check_supervised(str(service))
    assert caught.value.errno in NOT_RUNNING


def test_with_a_reader(service):
    ok, control = (os.open(service / "supervise" / name, os.O_RDONLY | os.O_NONBLOCK) for name in ("ok", "control"))
    assert is_supervised(str(service)) and command(str(service), b"dx")
    assert os.read(control, 10) == b"dx"
    os.close(ok)
    os.close(control)


def test_a_full_fifo_does_not_hold_us(service):
    control = os.open(service / "supervise/control", os.O_RDWR | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(control, bytes(4096))
    assert not command(str(service), b"d")
    os.close(control)


def test_there_and_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    start = StartingDirectory()
    os.chdir("a")
    start.go_back()
    assert os.getcwd() == str(tmp_path)
    start.close()


PLACES = [
    # SUPERVISEDIR, directory, where below {tmp} the files are
    (None, ".", "supervise"),
    (None, "a", "a/supervise"),
    ("", "a", "a/supervise"),
    ("state", ".", "state"),
    ("state", "/x/y", "/x/y/state"),
    ("/run/sv", "/x/y", "/run/sv/x:y"),
    ("/run/sv", "link", "/run/sv/{tmp}:a"),
    ("/run/sv", ".", "/run/sv/{tmp}"),
]


@pytest.mark.parametrize("place, directory, folder", PLACES)
def test_where_the_files_are(tmp_path, monkeypatch, place, directory, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    if place is None:
        monkeypatch.delenv("SUPERVISEDIR", raising=False)
    else:
        monkeypatch.setenv("SUPERVISEDIR", place)
    flat = str(tmp_path.resolve())[1:].replace("/", ":")
    assert supervise_path(directory) == folder.replace("{tmp}", flat)


def test_a_supervisor_is_reached_by_its_process(service):
    control = os.open(service / "supervise/control", os.O_RDONLY | os.O_NONBLOCK)
    (service / "supervise/control").unlink()
    assert not command(str(service), b"d")
    assert command_process(os.getpid(), b"dx") and os.read(control, 10) == b"dx"
    os.close(control)
    assert not command_process(os.getpid(), b"d")
    assert not command_process(2**22 + 1, b"d")  # more than there can be
