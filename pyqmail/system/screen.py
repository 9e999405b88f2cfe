"""A view on the terminal: drawn again every second, until q or Ctrl-C; the terminal is then as it was."""

import os
import select
import signal
import termios
import tty

from pyqmail.system.descriptors import write_all

_REFRESH_SECONDS = 1.0
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_USUAL = 80, 24  # columns and lines of a terminal that does not report them
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def watch(draw) -> None:
    """Show the lines of draw(most_lines), ASCII text, until somebody asks us to leave.

    Descriptor 1 is the terminal; keys come from descriptor 0 if that is one.  Signals that would end us end the
    view, and what draw raises goes through; in either case, and while we are stopped, the terminal is as it was.
    """
    terminal = _Terminal()
    actions = [(number, signal.signal(number, signal.default_int_handler)) for number in _ENDING]
    actions.append((signal.SIGTSTP, signal.signal(signal.SIGTSTP, terminal.pause)))
    try:
        terminal.enter()
        while True:
            columns, most_lines = (size or usual for size, usual in zip(os.get_terminal_size(1), _USUAL, strict=True))
            lines = [_CLEAR_LINE + line[:columns] for line in draw(max(most_lines - 1, 1))]
            # cleared before it is written: behind a line of full width the cursor still stands on its last character
            rest = "\n" + _CLEAR_REST if len(lines) < most_lines else ""
            _show(_HOME + "\n".join(lines) + rest)
            if terminal.is_over():
                return
    except KeyboardInterrupt:
        return
    finally:
        terminal.leave()
        for number, action in actions:
            signal.signal(number, action)


class _Terminal:
    def __init__(self):
        self._before = termios.tcgetattr(0) if os.isatty(0) else None

    def enter(self):
        if self._before is not None:
            tty.setcbreak(0)
        _show(_HIDE_CURSOR + _HOME + _CLEAR_REST)

    def leave(self):
        try:
            _show(_SHOW_CURSOR)
            if self._before is not None:
                termios.tcsetattr(0, termios.TCSANOW, self._before)
        except (OSError, termios.error):
            pass  # the terminal has gone

    def pause(self, *_):
        """Ctrl-Z: the shell has the terminal until we are continued."""
        self.leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self.pause)
        self.enter()

    def is_over(self):
        """Wait a moment.  Returns whether somebody has pressed q, or the keyboard has gone."""
        if not select.select([0] if self._before is not None else [], [], [], _REFRESH_SECONDS)[0]:
            return False
        pressed = os.read(0, 100)
        return not pressed or b"q" in pressed.lower()


def _show(text):
    write_all(1, text.encode("ascii"))
