"""Unsettled messages: delivered while nothing but todo stands on disk; those that last are given files of their own.

A message is *unsettled* from the moment that its todo entry was read until its info, local and remote stand on disk.
Most never get there: all recipients are done within a second, then todo and mess are removed and no file was ever made.

    todo entry read
          |
          v        all recipients done                          done
      UNSETTLED ------------------------> ENDING  --- todo --------> mess removed (Completion)
       |     ^                             removed by the cleaner
       |     | the files could not be made
       v     |                                                  done
    MATERIALIZING ---------------------------- todo --------------> settled: it goes on with files (Channel)
       info, local, remote put on disk     removed by the cleaner
       off the loop

    REMOVED, from any state: the todo entry is not the one that was read.  Nothing more is done for the message.

Why an unsettled message is safe:

- As long as todo/ID stands, it alone says what is to be delivered; a restart reads it again and removes whatever else
  it finds under that number (todo_entry.py).  So a crash means no more than delivering again.  What can be delivered
  twice is bounded by age: a message is materialized UNSETTLED_SECONDS after its first result.  While it has none, a
  crash costs nothing, but todo may have to wait for it (MAX_UNSETTLED): so it is materialized after WAITING_SECONDS.
- What is done is marked in the records in memory.  Those become the files, so a file begins with its marks.
- A recipient that failed is not marked before its bounce text is on disk, and that is written once there are files.  So
  a message with a failure never ends unsettled.

Why nothing is lost between todo and info:

- todo is removed only after info, local and remote are on disk with their names (the store's promise), and only by the
  cleaner, whose answer says so.  Until that answer the message counts as standing in todo, and nothing is written into
  its files: what its deliveries bring meanwhile is noted in memory.  If the answer is no, the removal is asked for
  again.
- A crash between the two leaves both: todo is the authority then, and the files are made anew from it.
- An ended message loses todo before mess.  A crash between the two leaves a mess that no one claims, for the sweep.
- If making the files failed, what was made is removed again, the message is unsettled as before, and tried again after
  growing pauses.

Somebody may remove a message by hand, and another may get its number, which is an inode's.  So before anything is done
to its files, the todo entry is looked at again: inode and time of change tell it from a later one of its name.  The
cleaner's answer about a message that has gone is not taken for one about the next of its number.
"""

import os
import time

from pyqmail.base.backoff import Backoff
from pyqmail.mail.destinations.retry import TROUBLE_SECONDS
from pyqmail.mail.manager.channel_files import parse_records
from pyqmail.mail.queue.store import PreprocessedMessage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pyqmail.mail.manager.marks import OpenMessage
    from pyqmail.mail.manager.parts import EnvelopeRemover, FileReader, Log, TodoChannel, TodoEnds
    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.mail.queue.store import Store
    from pyqmail.system.loop import Loop
    from pyqmail.system.timers import Timer

UNSETTLED_SECONDS = 1.0  # what a crash in that time has delivered is delivered again
WAITING_SECONDS = 5.0  # nothing was delivered: a crash costs nothing, but todo may have to wait, see MAX_UNSETTLED
MAX_UNSETTLED = 4000  # todo waits while there are as many
UNSETTLED_BYTES = 65536  # a larger envelope is materialized at once and read back in slices
MATERIALIZED_TOGETHER = 32
_FIRST_SECONDS = 1.0  # pause after files could not be made

UNSETTLED, MATERIALIZING, ENDING, REMOVED = "unsettled", "materializing", "ending", "removed"
_DONE = ord("D")


class UnsettledMessage:
    """records: what its local and remote files will hold, if they are made: channel name -> bytearray.

    birth in Unix seconds, size in bytes; is_bulk: its header says so.  identity: of the todo entry that was read.  due:
    when it is materialized (time.monotonic).  That is moved once: by the first result, or when making its files failed.
    opened: an OpenMessage for each channel; none before it is delivered to.  dues: channel -> when its file says that
    it is to be tried, if that is not at once.
    """

    __slots__ = (
        *("number", "sender", "birth", "size", "is_bulk", "due", "records", "opened", "dues", "state", "identity"),
        *("is_listed", "_is_due_final", "_backoff"),
    )

    def __init__(
        self,
        number: int,
        sender: bytes,
        birth: int,
        size: int,
        records: dict[str, bytearray],
        identity: tuple[int, int],
        is_bulk: bool = False,
    ) -> None:
        self.number, self.sender, self.birth, self.size, self.is_bulk = number, sender, birth, size, is_bulk
        self.records = records
        self.opened: list[OpenMessage] = []
        self.dues: dict[str, int] = {}
        self.state, self.identity = UNSETTLED, identity
        self.is_listed = False  # todo had an entry of this number while its removal was under way
        self.due, self._is_due_final = time.monotonic() + WAITING_SECONDS, False
        self._backoff: Backoff | None = None  # once its files could not be made

    def note_progress(self, opened: "OpenMessage") -> bool:
        """Something happened in one channel.  Returns whether nothing is left to be done for the message."""
        if not opened.paragraphs:  # otherwise nothing is marked: first comes the bounce text, which waits for files
            record = self.records[opened.channel]
            for offset in opened.marks:
                record[offset] = _DONE
            opened.marks = []
            if self._is_done:
                return True
        if opened.has_result and not self._is_due_final:
            self._is_due_final = True
            self.due = min(self.due, time.monotonic() + UNSETTLED_SECONDS)
        return False

    def materialize_later(self) -> None:
        """Its files could not be made: once more after a while."""
        if self._backoff is None:
            self._backoff = Backoff(_FIRST_SECONDS, TROUBLE_SECONDS)
        self._is_due_final, self.due = True, time.monotonic() + self._backoff.next_seconds()

    @property
    def _is_done(self):
        return all(opened.is_over for opened in self.opened)


def todo_identity(seen: os.stat_result) -> tuple[int, int]:
    """Return what tells a todo entry from a later one of its name; links and their removal do not change it."""
    return seen.st_ino, seen.st_mtime_ns


class UnsettledMessages:
    """All messages that stand in todo and were read.  store makes their files (mail/queue/store.py).

    reader reads the files of those that were too large to be delivered before they had any.

    finish_turn_soon() has this turn finished at its end (manager.py): then todo is told what changed here.
    """

    def __init__(
        self,
        loop: "Loop",
        log: "Log",
        names: "QueueNames",
        channels: "Mapping[str, TodoChannel]",
        ends: "TodoEnds",
        cleaner: "EnvelopeRemover",
        store: "Store",
        reader: "FileReader",
        finish_turn_soon: "Callable[[], None]",
    ) -> None:
        self._loop, self._log, self._names = loop, log, names
        self._channels, self._ends, self._cleaner, self._store, self._reader = channels, ends, cleaner, store, reader
        self._finish_turn_soon = finish_turn_soon
        self.messages: dict[int, UnsettledMessage] = {}  # all that stand in todo and are known, oldest first
        self._unsettled: dict[int, UnsettledMessage] = {}  # those in the state UNSETTLED among them
        self._replaced: list[int] = []
        self._committing = 0  # batches
        self._timer: Timer | None = None

    @property
    def is_full(self) -> bool:
        """True while todo has to wait."""
        return len(self._unsettled) + MATERIALIZED_TOGETHER * self._committing >= MAX_UNSETTLED

    def remove_replaced(self) -> list[int]:
        """Return the numbers that another message has by now; each is returned once."""
        replaced, self._replaced = self._replaced, []
        return replaced

    def add(self, message: UnsettledMessage) -> bool:
        """Deliver to the recipients of a message that was read.

        Returns False if it is too large, or there is no room in memory: it must be materialized before.
        """
        self.messages[message.number] = message
        size = sum(map(len, message.records.values()))
        if size > UNSETTLED_BYTES or not all(self._channels[name].has_room for name in message.records):
            return False
        self._unsettled[message.number] = message
        for name, record in message.records.items():
            recipients, _, _ = parse_records(bytes(record))
            message.opened.append(self._channels[name].open_unsettled(message, recipients))
        if message.opened:
            self._watch_age(message.due)
        else:
            self._end(message)
        return True

    @property
    def is_busy(self) -> bool:
        """True while files are on their way to disk."""
        return self._committing > 0

    def note_progress(self, messages: "Iterable[OpenMessage]") -> None:
        """Something happened to these messages, which stand in todo, in one channel."""
        for opened in messages:
            message = opened.unsettled
            if message is not None and message.state == UNSETTLED:
                due = message.due
                if message.note_progress(opened):
                    self._end(message)
                elif message.due != due:
                    self._watch_age(message.due)

    # messages that end unsettled

    def _end(self, message):
        """All recipients are done: the message leaves the queue without ever having had files."""
        if not self.is_there(message):
            return
        message.state = ENDING
        self._unsettled.pop(message.number, None)
        self._cleaner.remove_envelope(message.number, lambda is_removed: self._ended(message, is_removed))

    def _ended(self, message, is_removed):
        if self._is_anothers(message):
            return
        if not is_removed:
            self._log.add_line(b"warning: qmail-clean unable to clean up todo/%d" % message.number)
            self._loop.after(TROUBLE_SECONDS, lambda: self._end_again(message))
            return
        self.messages.pop(message.number, None)
        self._ends.remove_finished(message.number)

    def _end_again(self, message):
        self._end(message)
        self._finish_turn_soon()

    # messages that last

    def _watch_age(self, due):
        """See to it that what is too old is materialized then."""
        if self._timer is None:
            self._timer = self._loop.at(due, self._materialize_old)
        elif due < self._timer.when:
            self._timer.move(due)

    def _materialize_old(self):
        self._timer, now = None, time.monotonic()
        old = [message for message in self._unsettled.values() if message.due <= now]
        self.materialize(old[:MATERIALIZED_TOGETHER])
        if self._unsettled:
            self._watch_age(min(message.due for message in self._unsettled.values()))

    def materialize_all(self) -> None:
        """At the end: nothing stays unsettled."""
        self.materialize(list(self._unsettled.values()))

    def materialize(self, batch: list[UnsettledMessage]) -> None:
        """Make the files of these messages, put them on disk with their names, and have todo removed."""
        for start in range(0, len(batch), MATERIALIZED_TOGETHER):
            together = batch[start : start + MATERIALIZED_TOGETHER]
            self._materialize([message for message in together if self.is_there(message)])
        self._finish_turn_soon()

    def _materialize(self, batch):
        if not batch:
            return
        for message in batch:
            self._unsettled.pop(message.number, None)
            message.state = MATERIALIZING
        self._committing += 1
        self._store.materialize([_preprocessed(message) for message in batch], lambda failed: self._made(batch, failed))

    def _made(self, batch, failed):
        """The files of a batch are on disk, but for those of the numbers in failed."""
        self._committing -= 1
        for message in batch:
            if not self.is_there(message):
                if message.number not in self.messages:  # otherwise they are another's, or were removed for it
                    self._remove_files(message.number)
            elif message.number in failed:
                self._log.add_line(failed[message.number])
                self._give_up(message)
            else:
                self._remove_todo(message)
        self._finish_turn_soon()

    def _give_up(self, message):
        """The files could not be made: todo still vouches for the message, and they are made later."""
        self._remove_files(message.number)
        message.state = UNSETTLED
        message.materialize_later()
        self._unsettled[message.number] = message
        self._watch_age(message.due)
        self.note_progress(message.opened)

    def _remove_files(self, number):
        names = self._names
        for path in (names.local(number), names.remote(number), names.info(number)):
            try:
                os.unlink(path)
            except OSError:
                pass  # when the files are made again, one that is in the way is the next failure

    def _remove_todo(self, message):
        self._cleaner.remove_envelope(message.number, lambda is_removed: self._todo_removed(message, is_removed))

    def _todo_removed(self, message, is_removed):
        number = message.number
        if self._is_anothers(message):
            return
        if not is_removed:
            self._log.add_line(b"warning: qmail-clean unable to clean up todo/%d" % number)
            self._loop.after(TROUBLE_SECONDS, lambda: self.is_there(message) and self._remove_todo(message))
            return
        self.messages.pop(number, None)
        for opened in message.opened:
            self._channels[opened.channel].adopt(opened, _due(message, opened.channel))
        if not message.opened:
            for name in message.records:
                self._reader.read_soon(name, number)
            if not message.records:
                self._ends.check_soon(number)
        self._finish_turn_soon()

    # messages that somebody else removed

    def note_listed(self, number: int, inode: int | None) -> None:
        """Todo has an entry of a message that is known here.  inode: the entry's, None if it is not known."""
        message = self.messages[number]
        if inode is not None and inode != message.identity[0]:
            self.is_there(message)  # if it is not, it is forgotten here
        elif message.state != UNSETTLED:
            message.is_listed = True

    def identity_now(self, number: int) -> tuple[int, int] | None:
        """Return the identity of what stands in todo under a number; None if it cannot be known."""
        try:
            return todo_identity(os.stat(self._names.todo(number)))
        except OSError:
            return None

    def is_there(self, message: UnsettledMessage) -> bool:
        """Return whether a message still stands in todo; if it is certain that it does not, it is forgotten.

        Its number may be another's already: then remove_replaced() returns it, and nothing is done to its files.
        """
        if self.messages.get(message.number) is not message:
            return False
        path = self._names.todo(message.number)
        try:
            found: tuple[int, int] | None = todo_identity(os.stat(path))
        except FileNotFoundError:
            found = None if os.path.isdir(os.path.dirname(path)) else message.identity
        except OSError:
            found = message.identity
        if found == message.identity:
            return True
        self._log.add_line(b"warning: msg %d has been removed by somebody else" % message.number)
        self._forget(message)
        if found is not None:
            self._replaced.append(message.number)
        return False

    def _is_anothers(self, message):
        """Return whether a message was removed by somebody else while its todo entry was, and its number is another's.

        The answer is about the one that has gone; by its number alone it would be about the other.
        """
        if self.messages.get(message.number) is not message:
            return True
        is_there = message.is_listed and self.identity_now(message.number) is not None
        return is_there and not self.is_there(message)

    def _forget(self, message):
        message.state = REMOVED
        self.messages.pop(message.number, None)
        self._unsettled.pop(message.number, None)
        for opened in message.opened:
            self._channels[opened.channel].forget_message(message.number)


def _preprocessed(message):
    """Return the contents of the files of a message."""
    message.dues = {opened.channel: int(opened.due) for opened in message.opened if opened.due is not None}
    channels = [(name, bytes(record), _due(message, name)) for name, record in message.records.items()]
    return PreprocessedMessage(message.number, message.sender, message.birth, channels)


def _due(message, channel):
    """Return when its file says that a channel is to be tried, in Unix seconds: at once if nothing was deferred."""
    return message.dues.get(channel, message.birth)
