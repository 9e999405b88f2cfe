"""The todo directory: new entries are noticed, read in slices, and handed on as unsettled messages.

    trigger (a FIFO) pulled, a deadline, or a pause is over
          |
          v                  an entry at a time
        scan  ----------->  TodoReader  ------------>  UnsettledMessages: delivered, materialized if they last
          ^                     |
          |                     +--- a system call failed: taken up again after 1, 2, 4 ... seconds
          |                     +--- it means nothing: looked at again after RESCAN_SECONDS
          +--- MAX_UNSETTLED are unsettled: the scan goes on once there are fewer

What is kept true:

- No pull of the trigger is missed: the FIFO is opened anew before todo is listed, so a pull in between is seen by the
  next scan.  While the FIFO cannot be opened or watched, todo is scanned after pauses of a minute at most; and in any
  case once in RESCAN_SECONDS.
- Only one scan runs, a slice in each turn.  It passes over what is known, and costs time for it: so the next scan waits
  a little for each message that stands in todo.
- Whatever arrives in todo under a number is a new message: all that is remembered of that number is of one that has
  gone, and is forgotten before the first delivery.
- Nothing here waits long for what passes soon (no descriptor, no memory, an error of the disk).  If that would hit the
  next entry as well, the scan pauses, too.
- A known number whose entry is another inode is another message: it is taken up once the first is forgotten.  What was
  wrong with one entry says nothing about the next of its number.

What a message goes through from here on, and why nothing is lost, stands in materialize.py.
"""

import errno
import os
import stat
import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import reason
from pyqmail.mail.manager.todo_entry import EntryTrouble, UnusableEnvelope
from pyqmail.mail.queue.files import is_message_name
from pyqmail.system.coroutines import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyqmail.mail.manager.materialize import UnsettledMessages
    from pyqmail.mail.manager.parts import Log, StartScan, TodoChannel, TodoCleaner, TodoEnds
    from pyqmail.mail.manager.todo_entry import TodoReader
    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.system.loop import Loop
    from pyqmail.system.timers import Timer

MAX_UNCLEANED = 2000  # commands that the cleaner has not answered: beyond that, todo waits for it
RESCAN_SECONDS = 1500
FIRST_SECONDS, MAX_UNWATCHED_SECONDS = 1.0, 60.0  # pauses after what failed for a reason that may pass
KNOWN_SECONDS = 5e-6  # a scan passes over what is known: for each such entry the next one waits a little
ENTRIES_A_TURN, TURN_SECONDS = 100, 0.005
_UNCLEANED_PAUSE_SECONDS = 0.02
_TOGETHER_SECONDS = 0.1  # entries whose pause ends in that time are taken up together


class Trigger:
    """The FIFO lock/trigger.  Opened by open(), watched by watch(pulled) until forget(), both of which may fail."""

    def __init__(self, loop: "Loop", path: str) -> None:
        self._loop, self._path = loop, path
        self._fd: int | None = None

    def open(self) -> None:
        """Open it again: pulls from now on are seen.  Raises OSError."""
        self.forget()
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            self.forget()
            raise OSError(errno.ENODEV, "not a FIFO")

    @property
    def is_open(self) -> bool:
        return self._fd is not None

    def watch(self, pulled: "Callable[[], None]") -> None:
        """Call pulled() once it was pulled, again and again until it is opened the next time.  Raises OSError."""
        self._loop.watch(self._fd, READ, lambda _: pulled())

    def ignore(self) -> None:
        """Watch it no more."""
        self._loop.forget(self._fd)

    def forget(self) -> None:
        if self._fd is not None:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = None


class Todo:
    """channels and ends forget what they know of the number of each new message; scan at the start learns of it."""

    def __init__(
        self,
        loop: "Loop",
        log: "Log",
        names: "QueueNames",
        reader: "TodoReader",
        unsettled: "UnsettledMessages",
        channels: "Mapping[str, TodoChannel]",
        ends: "TodoEnds",
        scan: "StartScan",
        cleaner: "TodoCleaner",
        finish_turn_soon: "Callable[[], None]",
    ) -> None:
        self._loop, self._log, self._names, self._reader, self._unsettled = loop, log, names, reader, unsettled
        self._channels, self._ends, self._start_scan, self._cleaner = channels, ends, scan, cleaner
        self._finish_turn_soon = finish_turn_soon
        self._trigger = Trigger(loop, names.trigger)
        self._unusable: dict[int, float] = {}  # number -> when it is looked at again (monotonic)
        self._troubled: dict[int, tuple[float, Backoff]] = {}  # number -> when, and its pauses
        # number -> identity of the todo entry, for what is in one of these two
        self._put_off: dict[int, tuple[int, int] | None] = {}
        self._unwatched = Backoff(FIRST_SECONDS, MAX_UNWATCHED_SECONDS)  # tries to open and watch the trigger
        self._reading = Backoff(FIRST_SECONDS, MAX_UNWATCHED_SECONDS)  # tries to read on in todo
        self._entries = None  # of the running scan
        self._is_stopped, self._is_held_up, self._scanned = False, False, 0.0
        self._is_cut = False  # the running scan could not be read to its end
        self._deadline: Timer | None = None
        self._next_scan: Timer | None = None
        self._troubled_timer: Timer | None = None

    def start(self) -> None:
        self._deadline = self._loop.after(RESCAN_SECONDS, self._scan_at_deadline)
        self._scan()

    def stop(self) -> None:
        """Read nothing more."""
        self._is_stopped = True
        self._trigger.forget()
        if self._deadline is not None:
            self._deadline.cancel()

    def go_on(self) -> None:
        """At the end of a turn: take up what had to wait for unsettled messages to end, or to be forgotten."""
        for number in self._unsettled.remove_replaced():
            if not self._is_stopped and number not in self._unsettled.messages:
                self._take_up_later(number)
        if self._is_held_up and not self._unsettled.is_full:
            self._is_held_up = False
            self._loop.after(0, self._scan_slice)

    # when todo is scanned

    def _scan_at_deadline(self):
        self._unusable.clear()
        self._put_off.clear()
        if self._entries is None:
            self._scan()
        else:
            self._deadline.move(time.monotonic() + RESCAN_SECONDS)

    def _scan_when_pulled(self):
        wait = self._scanned + KNOWN_SECONDS * len(self._unsettled.messages) - time.monotonic()
        if wait <= 0:
            self._scan()
        else:
            self._trigger.ignore()
            self._scan_after(wait)

    def _scan_after(self, seconds):
        if self._next_scan is not None:
            self._next_scan.cancel()
        self._next_scan = self._loop.after(seconds, self._scan)

    def _scan(self):
        if self._is_stopped or self._entries is not None:
            return
        self._scanned = time.monotonic()
        # the FIFO first, then the list: a pull in between is seen by the next scan
        self._open_trigger()
        self._deadline.move(time.monotonic() + RESCAN_SECONDS)
        try:
            self._entries = os.scandir(f"{self._names.queue}/todo")
        except OSError:
            self._log.add_line(b"alert: unable to opendir todo, sleeping...")
            self._scan_after(10)
            return
        self._scan_slice()

    def _open_trigger(self):
        try:
            self._trigger.open()
        except OSError as error:
            self._warn_unwatched(error)

    def _watch_trigger(self):
        """After a scan: wait for the next pull, or for a while if the trigger cannot be watched."""
        if self._trigger.is_open:
            try:
                self._trigger.watch(self._scan_when_pulled)
                self._unwatched.reset()
                return
            except OSError as error:
                self._warn_unwatched(error)
        self._scan_after(self._unwatched.next_seconds())

    def _warn_unwatched(self, error):
        """The trigger tells nothing: log that, once, and scan todo without it."""
        self._trigger.forget()
        if not self._unwatched.tries:
            path = self._names.trigger[len(self._names.queue) + 1 :].encode()
            self._log.add_line(b"warning: unable to open %b: %b; trying again" % (path, reason(error).encode()))

    # the running scan

    def _scan_slice(self):
        """Take up entries of the running scan, as many as one turn may cost."""
        until, large, pause = time.monotonic() + TURN_SECONDS, [], 0
        for _ in range(ENTRIES_A_TURN):
            if self._unsettled.is_full:
                self._is_held_up = True
                break
            entry = self._next_entry()
            if entry is None or self._is_stopped:
                self._entries.close()
                self._entries = None
                break
            if is_message_name(entry.name) and self._take_up(int(entry.name), large, entry.inode()):
                pause = self._reading.next_seconds()
                break
            if time.monotonic() > until:
                break
        self._unsettled.materialize(large)
        self._finish_turn_soon()
        self._scan_on(pause)

    def _next_entry(self):
        """Return the next entry of the scan; None at its end, or where it cannot be read on: then it is made again."""
        try:
            return next(self._entries, None)
        except OSError:
            self._log.add_line(b"warning: trouble reading todo; will try again later")
            self._is_cut = True
            return None

    def _scan_on(self, pause):
        """Go on with the next slice after a pause, or end the scan."""
        if self._is_held_up:
            return  # go_on() does that
        if self._entries is not None:
            if not pause and self._cleaner.unanswered > MAX_UNCLEANED:
                pause = _UNCLEANED_PAUSE_SECONDS  # it cannot follow
            self._loop.after(pause, self._scan_slice)
        elif not self._is_stopped:
            self._end_scan()

    def _end_scan(self):
        is_cut, self._is_cut = self._is_cut, False
        if is_cut:
            self._scan_after(self._reading.next_seconds())
        else:
            self._reading.reset()
            self._watch_trigger()

    # one entry

    def _take_up(self, number, large, inode=None) -> bool:
        """Take up a message; returns whether that failed for want of descriptors or memory: others would fare alike.

        inode is that of the entry, None if it is not known.  A message that is to be materialized first goes to large.
        """
        if number in self._unsettled.messages:
            self._unsettled.note_listed(number, inode)
            return False
        if number in self._put_off:
            self._forget_another(number)
        now = time.monotonic()
        if now < self._unusable.get(number, 0) or now < self._troubled.get(number, (0,))[0]:
            return False
        try:
            message = self._reader.read_entry(number)
        except (UnusableEnvelope, EntryTrouble) as failure:
            self._log.add_line(failure.warning)
            return self._put_off_entry(number, failure)
        self._reading.reset()
        if message is not None:
            self._unusable.pop(number, None)
            self._add_message(message, large)
        self._put_off.pop(number, None)
        self._troubled.pop(number, None)
        return False

    def _put_off_entry(self, number, failure) -> bool:
        """Look at an entry again later; returns whether others would fare alike."""
        self._put_off[number] = self._unsettled.identity_now(number)
        if isinstance(failure, EntryTrouble):
            self._take_up_later(number)
            return failure.is_lack
        self._unusable[number] = time.monotonic() + RESCAN_SECONDS
        self._troubled.pop(number, None)
        return False

    def _add_message(self, message, large):
        number = message.number
        for channel in self._channels.values():
            channel.forget_message(number)
        self._ends.forget_message(number)
        self._start_scan.note_new(number)
        if not self._unsettled.add(message):
            large.append(message)

    # entries that are taken up again

    def _forget_another(self, number):
        """What was wrong with an entry says nothing about another one that has its number now."""
        if self._unsettled.identity_now(number) not in (self._put_off[number], None):
            for known in (self._put_off, self._unusable, self._troubled):
                known.pop(number, None)

    def _take_up_later(self, number):
        """Take up a message again after a pause."""
        _, backoff = self._troubled.get(number, (0, None))
        backoff = backoff or Backoff(FIRST_SECONDS, RESCAN_SECONDS)
        when = time.monotonic() + backoff.next_seconds()
        self._troubled[number] = when, backoff
        if self._troubled_timer is None or self._troubled_timer.when is None:
            self._troubled_timer = self._loop.at(when, self._take_up_troubled)
        elif when < self._troubled_timer.when:
            self._troubled_timer.move(when)

    def _take_up_troubled(self):
        """Take up those whose pause is over, some in a turn."""
        now, large, pause = time.monotonic(), [], _TOGETHER_SECONDS
        for number in [number for number, (when, _) in self._troubled.items() if when <= now][:ENTRIES_A_TURN]:
            if self._is_stopped or self._unsettled.is_full or self._take_up(number, large):
                pause = FIRST_SECONDS
                break
        self._unsettled.materialize(large)
        self._finish_turn_soon()
        if self._troubled and not self._is_stopped:
            first = min(when for when, _ in self._troubled.values())
            self._troubled_timer = self._loop.at(max(first, now + pause), self._take_up_troubled)
