"""What deliveries leave on disk: bounce texts, and marks in the channel file.

What is kept true:

- A recipient is marked as done only once that is so: delivered, or the text about it safely in bounce/ID.  So texts are
  written first, and put on disk.  While that fails, neither the marks of the pass nor its end follow.  A crash in
  between delivers again, or bounces twice; it never loses a recipient without a word.
- Marks are not put on disk at once.  A mark that a crash takes back means one delivery more, and nothing is lost: they
  are synced SYNC_SECONDS later, for passes that still run.  A pass that ends needs no sync: its file goes, or waits for
  the next pass, and what it leaves unmarked is delivered again.
- A mark that could not be written for a reason that may pass is tried again after a pause, and the pass does not end
  before.  After MAX_RETRIES the recipient will be delivered to twice, which the log says.
- Where nothing is undone, nobody calls for marks: the whole file goes.  A crash before that delivers again.
"""

import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pyqmail.mail.manager.parts import Log
    from pyqmail.mail.manager.passes import DirtyPasses, Files, Pass
    from pyqmail.system.loop import Loop

BOUNCE_SECONDS = 10  # until a bounce text that could not be written is tried again
SYNC_SECONDS = 5  # between the syncs of marks
MAX_RETRIES = 7  # of a read or a mark that failed for a reason that may pass: two minutes
_SLICE_SECONDS = 0.01  # of syncs in one turn


class PassRetries:
    """The passes something failed for that may pass."""

    def __init__(self) -> None:
        self._backoffs: dict[Pass, Backoff] = {}

    def next_pause(self, pass_: "Pass", error: OSError) -> float | None:
        """Return after how many seconds to try again; None if that cannot help, or has not helped often enough."""
        backoff = self._backoffs.setdefault(pass_, Backoff(1.0, 60.0))
        if is_temporary(error) and backoff.tries < MAX_RETRIES:
            return backoff.next_seconds()
        self.forget(pass_)
        return None

    def forget(self, pass_: "Pass") -> None:
        """It worked, or is given up."""
        self._backoffs.pop(pass_, None)


class Marks:
    """Bounce texts and marks of one channel's passes; what is to be tried again comes back through dirty."""

    def __init__(self, files: "Files", log: "Log", loop: "Loop", dirty: "DirtyPasses") -> None:
        self._files, self._log, self._loop, self._dirty = files, log, loop, dirty
        self._retries = PassRetries()
        self._unsynced: dict[Pass, None] = {}
        self._sync_timer = None

    def write_bounce_texts(self, passes: "Iterable[Pass]") -> "Collection[int]":
        """Put the bounce texts of these passes on disk; returns the message numbers for which that failed.

        Those of unsettled messages are left: they are written once there are files.
        """
        writable = [
            pass_ for pass_ in passes if pass_.paragraphs and pass_.unsettled is None and not pass_.is_concluded
        ]
        if not writable:
            return ()
        failed = self._files.append_bounces({pass_.number: b"".join(pass_.paragraphs) for pass_ in writable})
        for pass_ in writable:
            if pass_.number not in failed:
                pass_.paragraphs = []
        if failed:
            self._log.add_line(b"alert: unable to append to bounce message; HELP! sleeping...")
            self._dirty.add_after(BOUNCE_SECONDS, *(pass_ for pass_ in writable if pass_.paragraphs))
        return failed

    def write(self, pass_: "Pass") -> bool:
        """Write the marks of a pass; returns False if that is to be tried again, and nothing may follow it yet."""
        if not pass_.marks:
            return True
        try:
            self._files.write_marks(pass_)
        except OSError as error:
            pause = self._retries.next_pause(pass_, error)
            path = self._files.shown(self._files.path(pass_.channel, pass_.number))
            if pause is not None:
                self._log.add_line(b"warning: trouble marking %b; will try again later" % path)
                self._dirty.add_after(pause, pass_)
                return False
            self._log.add_line(b"warning: trouble marking %b; message will be delivered twice!" % path)
        self._retries.forget(pass_)
        pass_.marks = []
        self._unsynced[pass_] = None
        if self._sync_timer is None:
            self._sync_timer = self._loop.after(SYNC_SECONDS, self._sync_some)
        return True

    def forget(self, pass_: "Pass") -> None:
        """Write nothing more for a pass: it has ended, or its files are another message's."""
        self._unsynced.pop(pass_, None)
        self._retries.forget(pass_)

    def _sync_some(self) -> None:
        """Put marks of passes that still run on disk, a few in each turn."""
        until = time.monotonic() + _SLICE_SECONDS
        while self._unsynced and time.monotonic() < until:
            pass_ = next(iter(self._unsynced))
            del self._unsynced[pass_]
            self._files.sync_marks(pass_)
        self._sync_timer = self._loop.after(0, self._sync_some) if self._unsynced else None
