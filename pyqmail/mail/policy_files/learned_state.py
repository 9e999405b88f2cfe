"""What the engine has learned about destinations, kept in a file: var/destinations.state in the qmail home.

It stands outside the queue, whose files are qmail's, and is a cache: without it everything begins again with slow
starts.  So it is read once, at the start; written SAVE_SECONDS after something happened that may have taught anything,
and at the end; and what is wrong with it is one line in the log.

    news()  ->  a timer  ->  a forked child: snapshot, text, write, fsync, rename  ->  its exit code, 0 or an errno

The child has all in memory as it was at that moment, so the loop does not wait: for 100,000 destinations the text takes
seconds.  Only one child runs.  A state that is the same but for its date is not written again.
"""

import os
import signal
import time

from pyqmail.base.failure import reason
from pyqmail.mail.destinations import state_file
from pyqmail.system.descriptors import read_file, write_all
from pyqmail.system.durable import NotWritten, replace_file
from pyqmail.system.processes import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.engine import Engine
    from pyqmail.system.loop import Loop
    from pyqmail.system.timers import Timer

SAVE_SECONDS = 60.0
MAX_BYTES = 1 << 28
MAX_CHILD_SECONDS = 300  # one that hangs must not hold what it inherited for ever
_NAME = "destinations.state"


class LearnedState:
    """folder: where the file is, made if it is not there.  complain(line) takes a line for the log."""

    def __init__(self, loop: "Loop", folder: str, engine: "Engine", complain: "Callable[[bytes], None]") -> None:
        self._loop, self._path, self._engine, self._complain = loop, f"{folder}/{_NAME}", engine, complain
        self._timer: Timer | None = None
        self._is_writing, self._trouble = False, 0
        try:
            os.mkdir(folder, 0o700)
        except OSError:
            pass  # it is there, or the first write says why not

    def restore(self) -> None:
        """Give the engine what an earlier one had learned."""
        try:
            data = read_file(self._path, MAX_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            self._complain(b"warning: unable to read var/%b: %b" % (_NAME.encode(), reason(error).encode()))
            return
        state, left_out = state_file.read(data, time.time())
        if left_out:
            self._complain(b"warning: var/%b: %b; the rest is used" % (_NAME.encode(), left_out.encode()))
        self._engine.restore(state, time.monotonic())

    def news(self) -> None:
        """Something may have been learned."""
        if self._timer is None or self._timer.when is None:
            self._timer = self._loop.after(SAVE_SECONDS, self._save)

    def save_now(self) -> None:
        """At the end: write it in this process."""
        if self._timer is not None:
            self._timer.cancel()
        self._note_end(self._write())

    def _save(self):
        if self._is_writing:
            self.news()
            return
        try:
            pid = fork(self._write_in_child)
        except OSError as error:
            self._note_end(error.errno)
            return
        self._is_writing = True
        self._loop.on_exit_surely(pid, lambda status: self._ended(os.waitstatus_to_exitcode(status)))

    def _write_in_child(self):
        self._loop.abandon()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(MAX_CHILD_SECONDS)
        return self._write()

    def _ended(self, code):
        self._is_writing = False
        if code < 0:
            self._complain(b"warning: unable to write var/%b: killed by signal %d" % (_NAME.encode(), -code))
        else:
            self._note_end(code)

    def _write(self) -> int:
        """Write the file if it would be another; returns 0, or an errno."""
        data = state_file.write(self._engine.snapshot(time.monotonic()))
        try:
            if _content(read_file(self._path, MAX_BYTES)) == _content(data):
                return 0
        except OSError:
            pass  # it is made
        try:
            replace_file(self._path, self._path + ".new", 0o600, lambda fd: write_all(fd, data))
        except NotWritten as failure:
            return failure.error.errno or 1
        return 0

    def _note_end(self, code):
        """Report a failure once, until it has worked again."""
        if code and code != self._trouble:
            why = reason(OSError(code, os.strerror(code))).encode()
            self._complain(b"warning: unable to write var/%b: %b; trying again" % (_NAME.encode(), why))
        self._trouble = code


def _content(data: bytes) -> bytes:
    """Return a state without its first line, which has the date."""
    return data.partition(b"\n")[2]
