"""The refreshing view on a real pseudo-terminal.

Not here: a shell that takes the terminal over while we are stopped.
"""

import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

from tests.waiting import read_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = """
from pyqmail.system.screen import watch
turns = []
def draw(most_lines):
    turns.append(1)
    if len(turns) == %d:
        raise SystemExit(7)
    return [f"turn {len(turns)} of {most_lines}", "x" * 200]
watch(draw)
"""
SECONDS = 30


class View:
    def __init__(self, last_turn=0, keyboard=True, size=(80, 24)):
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, size[::-1])
        self.before = termios.tcgetattr(theirs)
        self._theirs, self.text = theirs, b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM % last_turn],
            stdin=theirs if keyboard else subprocess.DEVNULL,
            stdout=theirs,
            env={"PYTHONPATH": ROOT},
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(1), os.O_RDWR)),  # it becomes the session's terminal
        )

    def find(self, mark):
        self.text = read_until(self.ours, lambda text: mark in text, self.text)

    def press(self, keys):
        os.write(self.ours, keys)

    def ended(self):
        """Return the exit code, once the terminal was seen to be as before."""
        code = self.process.wait(SECONDS)
        self.find(b"\x1b[?25h")
        assert termios.tcgetattr(self._theirs) == self.before
        return code

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self._theirs)


@pytest.fixture
def show():
    views = []

    def start(**how):
        views.append(View(**how))
        return views[-1]

    yield start
    for view in views:
        view.close()


def test_it_is_drawn_again_until_q(show):
    view = show()
    view.find(b"turn 2 of 23")
    assert b"\x1b[H\x1b[Kturn 1 of 23\r\n\x1b[K" + b"x" * 80 + b"\r\n\x1b[J" in view.text
    assert termios.tcgetattr(view.ours) != view.before
    view.press(b"zQ")
    assert view.ended() == 0


SIZES = [
    # columns, lines    what is drawn: nothing is cleared behind a full line, and no last line scrolls the first away
    (1,        1,       b"\x1b[H\x1b[Kt\r\n\x1b[Kx\x1b[H\x1b[Kt"),
    (9,        2,       b"\x1b[H\x1b[Kturn 2 of\r\n\x1b[Kxxxxxxxxx\x1b[H"),
    (9,        3,       b"\x1b[H\x1b[Kturn 2 of\r\n\x1b[Kxxxxxxxxx\r\n\x1b[J"),
]  # fmt: skip


@pytest.mark.parametrize("columns, lines, drawn", SIZES)
def test_small_terminals(show, columns, lines, drawn):
    """PROGRAM draws two lines whatever it is told."""
    view = show(size=(columns, lines))
    view.find(drawn)
    view.press(b"q")
    assert view.ended() == 0


def test_ctrl_c(show):
    view = show()
    view.find(b"turn 1 ")
    view.press(b"\x03")
    assert view.ended() == 0


def test_ctrl_z_gives_the_terminal_back_meanwhile(show):
    view = show()
    view.find(b"turn 1 ")
    view.press(b"\x1a")
    view.find(b"\x1b[?25h\x1b[?25l")
    view.press(b"q")
    assert view.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals(show, number):
    view = show()
    view.find(b"turn 1 ")
    view.process.send_signal(number)
    assert view.ended() == 0


def test_without_a_keyboard(show):
    view = show(keyboard=False)
    view.find(b"turn 2 ")
    view.process.terminate()
    assert view.ended() == 0


def test_what_drawing_raises_goes_through(show):
    view = show(last_turn=2)
    assert view.ended() == 7
