"""One channel's passes: those that are due begin, their progress is written at the end of each turn, until they end.

    heap: message numbers by due time           _passes: number -> the pass under way

       | due, and there is room                     recipients to Dispatch, slice by slice
       v                                                 |
    open_passes() ---------------------------------->  pass  --dirty-->  write_progress()  -- not ended: the next slice
       ^                                                                     |
       |        something undone: due at its retry time, kept on disk        | ended
       +---------------------------------------------------------------------+
                                                                             | nothing undone
                                                            Completion.remove_channel_file()

What is kept true, so that no mail is lost and as little as possible goes out twice:

- A message has at most one pass under way here, and only its end says when the next one is due.
- Bounce texts come before marks, and both before the end of the pass (marks.py).
- A slice that could not be read for a reason that may pass is tried again after a pause; meanwhile the pass neither
  reads on nor ends.  After MAX_RETRIES what was not read stays undone.
- A file in which nothing is undone needs no marks: it goes.  A crash before that delivers again.
- A pass is concluded once it has ended, or was abandoned because somebody else removed its message: from then on
  nothing is delivered for it, and no file written.  Its number may be another message's.
- The due time stands in the heap, and on disk as the mtime of the channel file: a restart goes on from there.

What passes of messages without files have done is theirs to keep: write_progress() returns them (materialize.py).
"""

import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_temporary
from pyqmail.mail.destinations.retry import TROUBLE_SECONDS, DueHeap
from pyqmail.mail.manager.marks import PassRetries
from pyqmail.mail.manager.passes import READ_AHEAD, Broken, Removed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.mail.destinations.old.lanes import Recipient
    from pyqmail.mail.manager.dispatch import Dispatch
    from pyqmail.mail.manager.marks import Marks
    from pyqmail.mail.manager.parts import Log, MessageEnds
    from pyqmail.mail.manager.passes import DirtyPasses, Files, Pass

PASSES_A_TURN = 100


class Channel:
    """name: local or remote.  lifetime: seconds after which a deferral is a failure.

    dirty: what dispatch and marks share with it.  ends: is told of messages that may be finished.
    """

    def __init__(
        self,
        name: str,
        files: "Files",
        lifetime: int,
        dispatch: "Dispatch",
        marks: "Marks",
        dirty: "DirtyPasses",
        ends: "MessageEnds",
        log: "Log",
    ) -> None:
        self.name, self.dispatch, self._files, self._lifetime = name, dispatch, files, lifetime
        self._marks, self._dirty, self._ends, self._log = marks, dirty, ends, log
        self.heap = DueHeap()
        self._passes: dict[int, Pass] = {}
        self._unread: dict[Pass, float] = {}  # passes whose next slice could not be read -> when it is read (monotonic)
        self._reads = PassRetries()
        self._opens: dict[int, Backoff] = {}  # message -> pauses, while its pass cannot be opened for what may pass

    # the beginning of passes

    @property
    def has_room(self) -> bool:
        return self.dispatch.has_room

    def add_recipients(self, pass_: "Pass", recipients: "list[Recipient]") -> None:
        """Deliver to recipients of a pass that are now in memory."""
        self.dispatch.add_recipients(pass_, recipients)

    def open_passes(self, now: int) -> bool:
        """Begin passes that are due, as far as there is room; returns whether more could begin at once."""
        if not self.dispatch.limit:
            return False
        for _ in range(PASSES_A_TURN):
            if not self.has_room:
                return False
            number = self.heap.pop_due(now)
            if number is None:
                return False
            self._open_pass(number, now)
        return True

    def next_due(self) -> int | None:
        """Return when a pass becomes due that could then begin, in Unix seconds."""
        return self.heap.next_due() if self.dispatch.limit and self.has_room else None

    def make_due(self, now: int) -> None:
        """ALRM: what waits for its next pass is due now, in Unix seconds; so is what has ended in this turn."""
        self.heap.make_due(now)
        for pass_ in self._passes.values():
            pass_.make_due(now)

    def _open_pass(self, number, now):
        if number in self._passes:
            return  # its end decides when the next one is
        try:
            pass_, recipients = self._files.open_pass(self.name, number, now, self._lifetime)
        except Removed as removed:
            self._opens.pop(number, None)
            self._log.add_line(removed.warning)
            self._ends.check_soon(number)  # of a message that was removed whole, nothing remains to be done
            return
        except Broken as broken:
            self._log.add_line(broken.warning)
            self.heap.push(now + self._pause_after(number, broken.error), number)
            return
        self._opens.pop(number, None)
        self._passes[number] = pass_
        self._warn_if_odd(pass_)
        self.add_recipients(pass_, recipients)

    def _pause_after(self, number, error):
        """Return after how many seconds a pass that could not be opened is opened again: what may pass, soon."""
        if error is None or not is_temporary(error):
            return TROUBLE_SECONDS
        return int(self._opens.setdefault(number, Backoff(1.0, TROUBLE_SECONDS)).next_seconds())

    # messages that change hands

    def adopt(self, pass_: "Pass") -> None:
        """Go on with a pass that began without files, now that there are some."""
        self._passes[pass_.number] = pass_
        self._dirty.add(pass_)

    def forget_message(self, number: int) -> None:
        """Somebody else removed the message of this number, and the number is another's now."""
        self.heap.discard(number)
        self._opens.pop(number, None)
        pass_ = self._passes.pop(number, None)
        if pass_ is not None:
            self.abandon(pass_)

    def abandon(self, pass_: "Pass") -> None:
        """Do nothing more for a pass: it makes no delivery, and writes nothing into files that are another's now."""
        pass_.is_concluded = True
        self._unread.pop(pass_, None)
        self._reads.forget(pass_)
        self._marks.forget(pass_)

    # the end of a turn

    @property
    def is_dirty(self) -> bool:
        """True while there is progress to be written."""
        return bool(self._dirty)

    def write_progress(self) -> "list[Pass]":
        """Write what this turn brought: bounce texts, then marks, then what the end of a pass means.

        Returns the passes among them that have no files.
        """
        if not self._dirty:
            return []
        passes, clock = self._dirty.remove_all(), time.monotonic()
        unsettled: list[Pass] = []
        failed = self._marks.write_bounce_texts(passes)
        for pass_ in passes:
            if pass_.has_ended:
                pass_.record_end(clock)
            if pass_.is_concluded or pass_.number in failed and pass_.paragraphs:
                continue
            if pass_.unsettled is not None:
                unsettled.append(pass_)
            else:
                self._write_pass(pass_, clock)
        return unsettled

    def _write_pass(self, pass_, clock):
        if not pass_.has_ended:
            self._marks.write(pass_)
            if not pass_.at_end and pass_.running <= self._read_ahead and self._unread.get(pass_, 0) <= clock:
                self._read_on(pass_)
        else:
            self._conclude(pass_)

    @property
    def _read_ahead(self):
        """With how many recipients in memory a message is read on: all that can run, if there is room."""
        return max(READ_AHEAD, self.dispatch.limit) if self.has_room else READ_AHEAD

    def _read_on(self, pass_):
        self._unread.pop(pass_, None)
        try:
            recipients = self._files.read_next_slice(pass_)
        except OSError as error:
            path = self._files.shown(self._files.path(self.name, pass_.number))
            self._log.add_line(b"warning: trouble reading %b; will try again later" % path)
            self._read_later(pass_, error)
            return
        self._reads.forget(pass_)
        self._warn_if_odd(pass_)
        self.add_recipients(pass_, recipients)

    def _read_later(self, pass_, error):
        pause = self._reads.next_pause(pass_, error)
        if pause is None:
            pass_.give_up()
            self._dirty.add(pass_)  # it may have nothing running that would end it
        else:
            self._unread[pass_] = time.monotonic() + pause
            self._dirty.add_after(pause, pass_)

    def _warn_if_odd(self, pass_):
        if pass_.is_odd:
            path = self._files.shown(self._files.path(self.name, pass_.number))
            self._log.add_line(b"warning: unknown record type in %b!" % path)

    # the end of passes

    def _conclude(self, pass_):
        """A pass has ended: the file goes if nothing in it is undone, otherwise the message waits for its next pass.

        A file that stays has its marks first: while they are to be written again, the pass goes on.
        """
        is_removed = not pass_.undone and self._ends.remove_channel_file(self.name, pass_.number)
        if not is_removed and not self._marks.write(pass_):
            return
        self._passes.pop(pass_.number, None)
        pass_.is_concluded = True  # a try that was put off may still touch it
        self._marks.forget(pass_)
        if not is_removed:
            due = pass_.retry if pass_.undone else int(time.time()) + TROUBLE_SECONDS
            self.heap.push(due, pass_.number)
            self._write_due(due, pass_.number)

    def write_due_times(self) -> None:
        """Keep on disk what the heap says, where an ALRM made it differ."""
        for due, number in self.heap.items():
            self._write_due(due, number)

    def _write_due(self, due, number):
        try:
            self._files.set_due(self.name, number, due)
        except OSError:
            path = self._files.shown(self._files.path(self.name, number))
            self._log.add_line(b"warning: unable to utime %b; message will be retried too soon" % path)
