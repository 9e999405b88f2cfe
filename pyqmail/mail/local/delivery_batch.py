"""Deliveries to one user that a worker makes together.

    add():  prepare --+-- Maildirs alone --> write under tmp/ --> waits for the others
                      +-- anything else ---> store what waits, then deliver, as if it were alone
    close():             store what waits: one flush for all files, links in their order, one fsync of each new/

What is kept true:

- They are begun in their order, and what was added before a program runs, or a mbox file is locked, is done by then.
- Each has an end of its own.  One that fails before its file is linked leaves nothing; what cannot be written beside
  the others is tried again alone, so that nobody fails for want of what the others hold (descriptors, room on disk).
- A delivery is a success only once its files and their names in new/ are on disk.  So a worker that is killed on the
  way has made none that was not reported, and what was linked by then comes twice: at most the files of one close().
- What waits is bounded in files and in bytes: a large message waits for nobody, and nobody for it.
"""

import os

from pyqmail.base.failure import traceback_text
from pyqmail.mail.local import maildir
from pyqmail.mail.local.delivery import Ended, deferred
from pyqmail.system.fsync_batch import FsyncBatch
from pyqmail.system.processes import time_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqmail.mail.local.delivery import Delivery

MAX_FILES, MAX_BYTES = 32, 4 << 20  # that wait


class FlushTogether:
    """flush of maildir.store(); what the kernel needs for it is had when there is something to do together."""

    def __init__(self) -> None:
        self._batch: FsyncBatch | None = None

    def __call__(self, fds: "Sequence[int]") -> set[int]:
        if len(fds) == 1:
            return maildir.flush_each(fds)
        if self._batch is None:
            self._batch = FsyncBatch(MAX_FILES)
        return self._batch.flush(fds)


class DeliveryBatch:
    """add() deliveries, then close().

    Each is told of once: by done(number, exit code), or, as soon as all its files are stored and there was nothing else
    to do, among the numbers of stored(numbers).
    """

    def __init__(
        self,
        flush: "Callable[[Sequence[int]], set[int]]",
        done: "Callable[[int, int], object]",
        stored: "Callable[[list[int]], object]",
    ) -> None:
        self._flush, self._done, self._stored = flush, done, stored
        self._waiting: list[tuple[int, Delivery, list[maildir.MaildirFile]]] = []
        self._files = self._bytes = 0

    def add(self, number: int, delivery: "Delivery", output) -> None:
        """Make a delivery, or as much of it as is not made with others."""
        try:
            if delivery.prepare() and self._write(number, delivery):
                return
            self.close()
            delivery.finish()
            code = 0
        except Ended as ended:
            code = delivery.end(ended)
        except Exception as error:
            output.complain(os.fsencode(traceback_text(error)))
            code = 111
        self._done(number, code)

    def close(self) -> None:
        """Store what waits."""
        waiting, self._waiting, self._files, self._bytes = self._waiting, [], 0, 0
        if not waiting:
            return
        all_files = [file for *_, files in waiting for file in files]
        lost, text = set(all_files), maildir.TROUBLE
        try:
            with _limit():
                lost = maildir.store(all_files, self._flush)
        except maildir.NotDelivered as trouble:
            text = trouble.text
        except Exception as error:
            text = os.fsencode(traceback_text(error).rstrip("\n"))
        self._report(waiting, lost, text)

    def _write(self, number, delivery):
        """Write its files; return whether it waits for the others now."""
        try:
            with _limit():
                files = delivery.write_files()
        except Ended:
            return False
        except maildir.NotDelivered as trouble:
            raise deferred(trouble.text) from None
        self._waiting.append((number, delivery, files))
        self._files += len(files)
        self._bytes += sum(file.size for file in files)
        if self._files >= MAX_FILES or self._bytes >= MAX_BYTES:
            self.close()
        return True

    def _report(self, waiting, lost, text):
        stored = []
        for number, delivery, files in waiting:
            if lost.isdisjoint(files):
                delivery.complete()
                stored.append(number)
            else:
                self._done(number, delivery.end(deferred(text)))
        if stored:
            self._stored(stored)


def _limit():
    return time_limit(maildir.LIMIT_SECONDS, maildir.NotDelivered(maildir.TIMED_OUT))
