"""The end of a message: channel files that are done, the bounce if anything failed, removal.

The order protects mail: the channel file, then the bounce queued, then bounce/ID, then info, then mess.
"""

import collections
import os
import time

from pyqmail.base.failure import reason
from pyqmail.base.printable import logsafe
from pyqmail.mail.destinations.retry import TROUBLE_SECONDS
from pyqmail.mail.manager.channel_files import Broken
from pyqmail.mail.queue.client import MessageBuffer, QueueOutcome, outcome_text
from pyqmail.mail.queue.files import is_surely_gone
from pyqmail.protocol.bounce_notice import CUT, NO_COPY
from pyqmail.protocol.envelope import format_envelope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.manager.channel_files import QueueFiles
    from pyqmail.mail.manager.parts import Log, MessageRemover
    from pyqmail.mail.queue.client import QueueClient
    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.protocol.bounce_notice import BounceNotices
    from pyqmail.system.driver import Driver
    from pyqmail.system.loop import Loop

INJECTIONS = 20  # bounces handed to the queue at once
_PIECE = 262144


class Completion:
    """notices: how a bounce reads.  client and environ: how, and with which environment, it is queued.

    driver is the loop's EventDriver.
    """

    def __init__(
        self,
        loop: "Loop",
        log: "Log",
        names: "QueueNames",
        files: "QueueFiles",
        cleaner: "MessageRemover",
        notices: "BounceNotices",
        client: "QueueClient",
        driver: "Driver",
        environ: dict[bytes, bytes],
        finish_turn_soon: "Callable[[], None]",
    ) -> None:
        self._loop, self._log, self._names, self._files, self._cleaner = loop, log, names, files, cleaner
        self._notices, self._client, self._driver, self._environ = notices, client, driver, environ
        self._finish_turn_soon = finish_turn_soon
        self._later: dict[int, float] = {}  # message number -> when to look at it again (time.monotonic), ascending
        self._now: collections.deque[int] = collections.deque()
        self.injecting: dict[int, object] = {}  # messages whose bounce is being queued -> a mark of this very one
        self._stopped = self._abandoned = False

    def stop(self, at_once: bool = False) -> None:
        """Only what ends now is still brought to its end; at_once: nothing is, as there is no cleaner."""
        self._stopped = True
        self._abandoned = self._abandoned or at_once

    @property
    def is_busy(self) -> bool:
        """True while messages that have ended are still here."""
        return bool(self.injecting) or bool(self._now) and not self._abandoned

    def remove_channel_file(self, channel: str, number: int) -> bool:
        """Nothing in a channel file is left undone: it goes, and the message is finished if the other's has gone.

        Returns False, with the reason logged, if the file is still there.
        """
        files, log = self._files, self._log
        path = files.path(channel, number)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError:
            log.add_line(b"warning: unable to unlink %b; will try again later" % files.shown(path))
            return False
        self._now.append(number)
        return True

    def check_soon(self, number: int) -> None:
        """See in this turn whether a message is finished."""
        self._now.append(number)
        self._finish_turn_soon()

    def forget_message(self, number: int) -> None:
        """The number is another message's now."""
        self._later.pop(number, None)
        self.injecting.pop(number, None)

    def make_due(self) -> None:
        """ALRM: what waits for another look is due now."""
        self._later = dict.fromkeys(self._later, 0)

    def next_time(self) -> float | None:
        """Return when something must be looked at again, in time.monotonic() seconds."""
        if len(self.injecting) >= INJECTIONS:
            return None  # the end of one goes on
        if self._now:
            return 0
        for when in self._later.values():
            return None if self._stopped else when
        return None

    def check_messages(self, until: float) -> None:
        """Look at what may be finished, until that time.monotonic() at most."""
        while len(self.injecting) < INJECTIONS and not self._abandoned:
            now = time.monotonic()
            number = self._now.popleft() if self._now else self._pop_due(now)
            if number is None:
                return
            self._check(number)
            if now > until:
                return

    def _pop_due(self, now):
        for number, when in self._later.items():
            if when <= now and not self._stopped:
                del self._later[number]
                return number
            return None
        return None

    def _check(self, number):
        if number in self.injecting:
            return  # both channels ended in one turn
        names = self._names
        for path in (names.local(number), names.remote(number), names.todo(number)):
            if self._exists(path, number):
                return
        if not self._exists(names.info(number), number, quiet=True):
            return
        if self._exists(names.bounce(number), number):
            mark = self.injecting[number] = object()
            task = self._loop.start(self._bounce(number, mark))
            task.promise.then(lambda promise: self._injected(number, mark, promise.error))
        else:
            self._finish(number)

    def _exists(self, path, number, quiet=False):
        """Return whether a file is there; if that cannot be known, look later, and answer so that nothing is done."""
        try:
            os.stat(path)
        except FileNotFoundError:
            if os.path.isdir(os.path.dirname(path)):
                return False
            self._try_later(number)
            return not quiet
        except OSError:
            self._log.add_line(b"warning: unable to stat %b; will try again later" % self._files.shown(path))
            self._try_later(number)
            return not quiet
        return True

    def _try_later(self, number):
        self._later.pop(number, None)  # so that the times ascend
        self._later[number] = time.monotonic() + TROUBLE_SECONDS

    def _injected(self, number, mark, error):
        self._finish_turn_soon()
        if self.injecting.get(number) is not mark:
            return
        del self.injecting[number]
        if isinstance(error, OSError):  # something is lacking here for now
            self._not_queued(number, QueueOutcome(51, why=reason(error).encode()))
        elif error is not None:
            self._try_later(number)
            raise error

    async def _bounce(self, number, mark):
        files, names, log = self._files, self._names, self._log
        try:
            sender, _ = files.read_info(number)
        except (OSError, Broken):
            path = files.shown(names.info(number))
            log.add_line(b"warning: trouble opening %b; will try again later" % path)
            self._try_later(number)
            return
        addresses = self._notices.envelope(sender)
        path = names.bounce(number)
        if addresses is None:
            log.add_line(b"triple bounce: discarding bounce/%d" % number)
        else:
            outcome = await self._queue(number, sender, addresses)
            if self.injecting.get(number) is not mark:
                return  # removed by somebody else meanwhile; what has the number now is another message
            if outcome.exit_code:
                self._not_queued(number, outcome)
                return
            log.add_line(b"bounce msg %d qp %d" % (number, outcome.qp))
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError:
            log.add_line(b"warning: unable to unlink %b" % files.shown(path))
            self._try_later(number)
            return
        self._finish(number)

    def _not_queued(self, number, outcome):
        log = self._log
        if outcome.why:
            log.add_line(b"warning: unable to start qmail-queue, will try later")
            log.add_line(b"warning: bounce/%d: %b" % (number, outcome.why))
        else:
            log.add_line(b"warning: trouble injecting bounce message, will try later")
            log.add_line(b"warning: bounce/%d: %b" % (number, logsafe(outcome_text(outcome)[1:])))
        self._try_later(number)

    async def _queue(self, number, sender, addresses) -> QueueOutcome:
        """Queue the notice."""
        names, spool = self._names, MessageBuffer()
        try:
            spool.write(self._notices.head(sender, int(time.time())))
            if not await self._copy(names.bounce(number), spool):
                return QueueOutcome(54)
            if is_surely_gone(names.mess(number)):  # a bounce with a copy could never be made
                spool.write(NO_COPY)
            else:
                spool.write(self._notices.tail(sender))
                if not await self._copy(names.mess(number), spool, self._notices.max_bytes):
                    return QueueOutcome(54)
            if spool.failed:
                return QueueOutcome(53)
            envelope = format_envelope(addresses[0], [addresses[1]])
            return await self._client.queue_even_so(spool, envelope, self._environ)
        finally:
            spool.close()

    async def _copy(self, path, spool, max_bytes=None):
        """Write a file into the spool, what is beyond max_bytes cut off and that said; False if it cannot be read."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            left = os.fstat(fd).st_size if max_bytes is None else max_bytes
            is_cut = os.fstat(fd).st_size > left
            while left > 0 and (piece := os.read(fd, min(_PIECE, left))):
                spool.write(piece)
                left -= len(piece)
                if len(piece) == _PIECE:
                    await self._driver.sleep(0)  # a large message must not hold up the others
        except OSError:
            return False
        finally:
            os.close(fd)
        if is_cut:
            spool.write(CUT)
        return True

    def _finish(self, number):
        """All is done and said: the message leaves the queue."""
        self._log.add_line(b"end msg %d" % number)
        path = self._names.info(number)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return  # somebody else has removed it, and mess may be another's by now
        except OSError:
            shown = self._files.shown(path)
            self._log.add_line(b"warning: unable to unlink %b; will try again later" % shown)
            self._try_later(number)
            return
        self._remove(number)

    def remove_leftovers(self, number: int) -> None:
        """Remove what still stands of a message without mess; info last, by which a next start would find the rest."""
        names, files = self._names, self._files
        for path in (names.local(number), names.remote(number), names.bounce(number), names.info(number)):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError:
                self._log.add_line(b"warning: unable to unlink %b" % files.shown(path))
                return
        self.remove_finished(number)

    def remove_finished(self, number: int) -> None:
        """A message without info is done."""
        self._log.add_line(b"end msg %d" % number)
        self._remove(number)

    def _remove(self, number):
        def removed(done):
            if not done:
                self._log.add_line(b"warning: qmail-clean unable to clean up foop/%d" % number)

        self._cleaner.remove_message(number, removed)
