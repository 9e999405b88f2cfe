"""Copying a message that came by descriptors: in a process of its own, since what a client passes need not end.

Reading another's descriptor can take for ever, so can closing it.  The copy holds the two descriptors, the two files
of the message, and nothing else: neither a client's connection nor the lock.
"""

import os
import signal

from pyqmail.mail.queue.bounds import MessageRefused
from pyqmail.mail.queue.pieces import read_pieces
from pyqmail.system.processes import exit_code, fork

COPY_SECONDS = 86400
_REASON_BYTES = 400


class Copier:
    """The parent's side.  done(exit code, why) is called once it has ended; why is the reason if there is one to log.

    The exit code is qmail-queue's; None if it was killed.  With 0 what is staged is on disk.  The client's descriptors
    and those of the staged message are closed here once the copy has them.  Raises OSError if it cannot be started:
    then they stay open.
    """

    __slots__ = ("_loop", "_done", "_pid", "_report", "_timer", "_is_overdue")

    def __init__(self, loop, store, staged, origin, bounds, message_fd, envelope_fd, done):
        self._loop, self._done, self._is_overdue = loop, done, False
        self._report, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        def work():
            loop.abandon()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever started it ends it
            keep_only((2, theirs, *staged.descriptors(), message_fd, envelope_fd))
            try:
                pieces = read_pieces(message_fd), read_pieces(envelope_fd)
                store.write_staged(staged, origin, *pieces, bounds)
            except MessageRefused as refused:
                if refused.exit_code != 54:  # what it could not read is the client's affair
                    os.write(theirs, os.fsencode(refused.why)[:_REASON_BYTES])
                return refused.exit_code
            return 0

        try:
            self._start(work)
        except OSError:
            os.close(self._report)
            raise
        finally:
            os.close(theirs)
        self._timer = loop.after(COPY_SECONDS, self._overdue)
        staged.close()
        os.close(message_fd)
        os.close(envelope_fd)

    def kill(self):
        os.kill(self._pid, signal.SIGKILL)

    def _start(self, work):
        self._pid = fork(work)
        try:
            self._loop.on_exit(self._pid, self._ended)
        except OSError:
            self.kill()
            os.waitpid(self._pid, 0)
            raise

    def _overdue(self):
        self._is_overdue = True
        self.kill()

    def _ended(self, status):
        self._timer.cancel()
        try:
            why = os.read(self._report, _REASON_BYTES)
        except BlockingIOError:
            why = b""
        os.close(self._report)
        self._done(52 if self._is_overdue else exit_code(status), os.fsdecode(why))


def keep_only(kept):
    """Close every other descriptor, in a process that was just forked."""
    lowest = 0
    for fd in sorted(kept):
        os.closerange(lowest, fd)
        lowest = fd + 1
    os.closerange(lowest, max(lowest, os.sysconf("SC_OPEN_MAX")))
