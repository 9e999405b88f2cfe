"""What a service directory asks for by files of its own."""

import os
import signal

import pytest

from pyqmail.supervise.settings import down_signal, is_program, number


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def complaints():
    made = []
    return made, lambda name, word: made.append((name, word))


SIGNALS = [
    # content of down-signal, the signal, whether it is complained about
    (None, signal.SIGTERM, False),
    ("", signal.SIGTERM, True),
    ("QUIT\n", signal.SIGQUIT, False),
    ("SIGQUIT", signal.SIGQUIT, False),
    ("sigint\nrest\n", signal.SIGINT, False),
    ("3\n", signal.SIGQUIT, False),
    ("0", signal.SIGTERM, True),
    ("65", signal.SIGTERM, True),
    ("99999999999999", signal.SIGTERM, True),
    ("_DFL", signal.SIGTERM, True),
    ("BLOCK", signal.SIGTERM, True),
    ("\u0663", signal.SIGTERM, True),
    ("RTMIN", signal.SIGRTMIN, False),
]


@pytest.mark.parametrize("content, wanted, is_odd", SIGNALS)
def test_down_signal(place, complaints, content, wanted, is_odd):
    made, complain = complaints
    if content is not None:
        (place / "down-signal").write_text(content)
    assert down_signal(complain) == wanted
    assert bool(made) == is_odd


NUMBERS = [(None, 7, False), ("0", 0, False), (" 250\n", 250, False), ("", 7, True), ("-1", 7, True), ("1e3", 7, True)]


@pytest.mark.parametrize("content, wanted, is_odd", NUMBERS)
def test_number(place, complaints, content, wanted, is_odd):
    made, complain = complaints
    if content is not None:
        (place / "n").write_text(content)
    assert number("n", 7, complain) == wanted
    assert bool(made) == is_odd


def test_what_cannot_be_read_is_the_default(place, complaints):
    made, complain = complaints
    (place / "n").mkdir()
    os.mkfifo(place / "fifo")
    assert number("n", 7, complain) == 7 and made == []
    assert number("fifo", 7, complain) == 7  # and does not hold us


def test_is_program(place):
    (place / "run").write_text("#!/bin/sh\n")
    (place / "folder").mkdir()
    (place / "link").symlink_to("run")
    assert [is_program(name) for name in ("run", "folder", "link", "missing")] == [False] * 4
    (place / "run").chmod(0o755)
    assert is_program("run") and is_program("link")


def test_a_file_without_end_is_not_read_to_it(place, complaints):
    (place / "backoff").symlink_to("/dev/zero")
    made, complain = complaints
    assert number("backoff", 7, complain) == 7
    assert [name for name, _ in made] == ["backoff"]
