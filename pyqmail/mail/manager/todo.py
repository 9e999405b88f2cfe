"""From todo to deliveries: reading new envelopes, rewriting recipients, and making info, local and remote.

A message is *young* while its deliveries run and nothing but todo/ID stands on disk: todo is the authority until it
is unlinked, so a crash means no more than delivering again.  Most messages end young: then todo and mess are removed
and no file was ever made.  One that does not end within YOUNG_SECONDS of its first result, has none for
WAITING_SECONDS, or is too large, is *settled*: info, local and remote are made, put on disk with their names, and only
then todo goes.  Settling is done for many at once.

Nothing here waits long for what passes soon.  An entry that a system call failed for (no descriptor, no memory, an
error of the disk) is taken up again after 1, 2, 4 ... seconds; only one whose content means nothing waits for the next
deadline.  While the trigger cannot be watched, todo is looked at after such pauses, a minute at most.

Somebody may remove a message by hand, and another may get its number, which is an inode's.  Whatever arrives in todo
under a number is a new message: all that is remembered of that number is of one that has gone, and forgotten.  A
message that is still in todo is known by its todo file (inode, time of change): before anything is done to its files
they are looked at again.
"""

import errno
import os
import stat
import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_lack, reason
from pyqmail.base.printable import logsafe
from pyqmail.mail.destinations.retry import TROUBLE_SECONDS
from pyqmail.mail.manager.materialize import preprocessed
from pyqmail.mail.manager.passes import Pass
from pyqmail.mail.queue.files import is_message_name
from pyqmail.mail.routing.rewrite import LOCAL, REMOTE
from pyqmail.system.durable import sync_directory
from pyqmail.system.loop import READ

YOUNG_SECONDS = 1.0  # what a crash in that time has delivered is delivered again
WAITING_SECONDS = 5.0  # nothing was delivered: a crash costs nothing, but todo may have to wait, see MAX_YOUNG
MAX_YOUNG = 4000  # todo waits while there are as many
YOUNG_BYTES = 65536  # a larger envelope is settled at once and read back in slices
SETTLED_TOGETHER = 32
MAX_UNCLEANED = 2000
RESCAN_SECONDS = 1500
FIRST_SECONDS, MAX_UNWATCHED_SECONDS = 1.0, 60.0  # pauses after what failed for a reason that may pass
KNOWN_SECONDS = 5e-6  # a scan passes over what is known: for each such entry the next one waits a little
ENTRIES_A_TURN, TURN_SECONDS = 100, 0.01

YOUNG, SETTLING, ENDING, REMOVED = "young", "settling", "ending", "removed"


class UnusableEnvelope(Exception):
    """An envelope that cannot be used now; `warning` is the line to log."""

    def __init__(self, warning: bytes) -> None:
        super().__init__(warning)
        self.warning = warning


class Trouble(Exception):
    """An envelope that a system call failed for: nothing is known about it.  `warning` is the line to log."""

    def __init__(self, warning: bytes, error: OSError) -> None:
        super().__init__(warning)
        self.warning, self.is_lack = warning, is_lack(error)


class TodoMessage:
    """A message in todo.  records is what its local and remote files hold, or would hold: channel name -> bytearray.

    due: when it is too old to be young (time.monotonic).  It is moved once, by the first result or by a trouble.
    """

    __slots__ = (
        *("number", "sender", "birth", "due", "records", "passes", "state", "identity"),
        *("is_listed", "_todo", "_is_due_final", "_backoff"),
    )

    def __init__(self, todo, number: int, sender: bytes, birth: int, records: dict, identity=None) -> None:
        self._todo, self.number, self.sender, self.birth, self.records = todo, number, sender, birth, records
        self.passes, self.state, self._is_due_final = [], YOUNG, False
        self.identity = identity  # of the todo file that was read
        self.is_listed = False  # todo had an entry of this number while its removal was under way
        self._backoff = None  # once it could not be settled
        self.due = time.monotonic() + WAITING_SECONDS

    def touched(self, one) -> None:
        """Something happened to one of its passes."""
        if self.state != YOUNG:
            return
        has_result = one.marks or one.paragraphs or one.has_ended
        if not one.paragraphs:  # nothing is marked before its bounce text is on disk, and that waits for files
            record = self.records[one.channel]
            for offset in one.marks:
                record[offset] = 68  # D
            one.marks = []
            if self.is_done:
                self._todo.end(self)
                return
        if has_result and not self._is_due_final:
            self._is_due_final = True
            self.due = min(self.due, time.monotonic() + YOUNG_SECONDS)
            self._todo.watch_age(self.due)

    def try_later(self) -> None:
        """It could not be settled: once more after a while."""
        if self._backoff is None:
            self._backoff = Backoff(FIRST_SECONDS, TROUBLE_SECONDS)
        self._is_due_final, self.due = True, time.monotonic() + self._backoff.next_seconds()

    @property
    def is_done(self) -> bool:
        return all(one.has_ended and not one.undone and not one.paragraphs for one in self.passes)


class Todo:
    """The todo directory.  channels maps names to Channels; store is where new files are made (mail/queue/store.py)."""

    def __init__(
        self, loop, log, names, files, rewriting, lifetime, channels, ends, scan, cleaner, store, settle_soon
    ) -> None:
        self._loop, self._log, self._names, self._files = loop, log, names, files
        self._rewriting, self._lifetime, self._channels, self._ends = rewriting, lifetime, channels, ends
        self._scan_at_start, self._cleaner, self._settle_soon = scan, cleaner, settle_soon
        self._store = store
        self.messages = {}  # number -> Message, oldest first: all that still stand in todo and are known here
        self._young = {}  # the young ones among them
        self._poison = {}  # number -> when it is looked at again (monotonic)
        self._troubled, self._troubled_timer = {}, None  # number -> (when, Backoff)
        self._put_off = {}  # number -> identity of the todo file, for what is in _poison or _troubled
        self._unwatched = Backoff(FIRST_SECONDS, MAX_UNWATCHED_SECONDS)  # tries to open and watch the trigger
        self._reading = Backoff(FIRST_SECONDS, MAX_UNWATCHED_SECONDS)  # tries to read on in todo
        self._entries, self._stopped, self._is_held_up, self._scanned = None, False, False, 0.0
        self._is_cut = False  # the running scan could not be read to its end
        self._trigger_fd, self._rescan, self._settler, self._next_scan = None, None, None, None

    # noticing

    def start(self) -> None:
        self._rescan = self._loop.after(RESCAN_SECONDS, self._deadline)
        self._scan()

    def stop(self) -> None:
        """Read nothing more."""
        self._stopped = True
        self._forget_trigger()
        if self._rescan is not None:
            self._rescan.cancel()

    def _deadline(self):
        self._poison.clear()
        self._put_off.clear()
        if self._entries is None:
            self._scan()
        else:
            self._rescan.move(time.monotonic() + RESCAN_SECONDS)

    def _scan_soon(self):
        wait = self._scanned + KNOWN_SECONDS * len(self.messages) - time.monotonic()
        if wait <= 0:
            self._scan()
        else:
            self._loop.forget(self._trigger_fd)
            self._scan_after(wait)

    def _scan_after(self, seconds):
        if self._next_scan is not None:
            self._next_scan.cancel()
        self._next_scan = self._loop.after(seconds, self._scan)

    def _scan(self):
        if self._stopped or self._entries is not None:
            return
        self._scanned = time.monotonic()
        # the FIFO first, then the list: a pull in between is seen by the next scan
        self._open_trigger()
        self._rescan.move(time.monotonic() + RESCAN_SECONDS)
        try:
            self._entries = os.scandir(f"{self._names.queue}/todo")
        except OSError:
            self._log.put(b"alert: unable to opendir todo, sleeping...")
            self._scan_after(10)
            return
        self._take_some()

    def _open_trigger(self):
        self._forget_trigger()
        try:
            self._trigger_fd = os.open(self._names.trigger, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISFIFO(os.fstat(self._trigger_fd).st_mode):
                raise OSError(errno.ENODEV, "not a FIFO")
        except OSError as error:
            self._say_unwatched(error)

    def _say_unwatched(self, error):
        """The trigger tells nothing: say that, once, and look at todo without it."""
        self._forget_trigger()
        if not self._unwatched.tries:
            path = self._files.shown(self._names.trigger)
            self._log.put(b"warning: unable to open %b: %b; trying again" % (path, reason(error).encode()))

    def _watch_trigger(self):
        """After a scan: wait for the next pull, or for a while if the trigger cannot be watched."""
        if self._trigger_fd is not None:
            try:
                self._loop.watch(self._trigger_fd, READ, lambda _: self._scan_soon())
                self._unwatched.reset()
                return
            except OSError as error:
                self._say_unwatched(error)
        self._scan_after(self._unwatched.next_seconds())

    def _forget_trigger(self):
        if self._trigger_fd is not None:
            self._loop.forget(self._trigger_fd)
            os.close(self._trigger_fd)
            self._trigger_fd = None

    def _take_some(self):
        """Take entries of the running scan, as many as one turn may cost."""
        until, direct, pause = time.monotonic() + TURN_SECONDS, [], 0
        for _ in range(ENTRIES_A_TURN):
            if len(self._young) >= MAX_YOUNG:
                self._is_held_up = True
                break
            entry = self._next_entry()
            if entry is None or self._stopped:
                self._entries.close()
                self._entries = None
                break
            if is_message_name(entry.name) and self._take(int(entry.name), direct, entry.inode()):
                pause = self._reading.next_seconds()
                break
            if time.monotonic() > until:
                break
        self._settle(direct)
        self._settle_soon()
        if self._is_held_up:
            return  # goes on once some are no longer young
        if self._entries is not None:
            # time for whoever uses up what we lack, or for a cleaner that cannot follow
            pause = pause or (0.02 if self._cleaner.unanswered > MAX_UNCLEANED else 0)
            self._loop.after(pause, self._take_some)
        elif not self._stopped:
            self._end_scan()

    def _next_entry(self):
        """Return the next entry of the scan, None at its end; one that cannot be read on is made again."""
        try:
            return next(self._entries, None)
        except OSError:
            self._log.put(b"warning: trouble reading todo; will try again later")
            self._is_cut = True
            return None

    def _end_scan(self):
        is_cut, self._is_cut = self._is_cut, False
        if is_cut:
            self._scan_after(self._reading.next_seconds())
        else:
            self._reading.reset()
            self._watch_trigger()

    def _go_on(self):
        if self._is_held_up and len(self._young) < MAX_YOUNG:
            self._is_held_up = False
            self._loop.after(0, self._take_some)

    # one entry

    def _take(self, number, direct, inode=None) -> bool:
        """Take up a message; returns whether that failed for want of descriptors or memory: others would fare alike.

        inode is that of the entry, None if it is not known.
        """
        now = time.monotonic()
        known = self.messages.get(number)
        if known is not None and inode is not None and inode != known.identity[0]:
            self._is_there(known)  # if it is not, it is forgotten here
        elif known is not None and known.state != YOUNG:
            known.is_listed = True
        elif number in self._put_off:
            self._forget_another(number)
        if number in self.messages or now < self._poison.get(number, 0) or now < self._troubled.get(number, (0,))[0]:
            return False
        try:
            message = self._read(number)
        except UnusableEnvelope as poison:
            self._log.put(poison.warning)
            self._poison[number] = now + RESCAN_SECONDS
            self._put_off[number] = self._identity_now(number)
        except Trouble as trouble:
            self._log.put(trouble.warning)
            self._take_later(number)
            self._put_off[number] = self._identity_now(number)
            return trouble.is_lack
        else:
            self._reading.reset()
            if message is not None:
                self._poison.pop(number, None)
                self._accept(message, direct)
            self._put_off.pop(number, None)
        self._troubled.pop(number, None)
        return False

    def _identity_now(self, number):
        """Return the identity of what stands in todo under a number; None if it cannot be known."""
        try:
            return _identity(os.stat(self._names.todo(number)))
        except OSError:
            return None

    def _forget_another(self, number):
        """What was wrong with an entry says nothing about another one that has its number now."""
        if self._identity_now(number) not in (self._put_off[number], None):
            for known in (self._put_off, self._poison, self._troubled):
                known.pop(number, None)

    def _take_later(self, number):
        """Take up a message again after a pause."""
        backoff = self._troubled.get(number, (0, None))[1] or Backoff(FIRST_SECONDS, RESCAN_SECONDS)
        when = time.monotonic() + backoff.next_seconds()
        self._troubled[number] = when, backoff
        if self._troubled_timer is None or self._troubled_timer.when is None:
            self._troubled_timer = self._loop.at(when, self._take_troubled)
        elif when < self._troubled_timer.when:
            self._troubled_timer.move(when)

    def _take_troubled(self):
        """Take up those whose pause is over, some in a turn."""
        now, direct, pause = time.monotonic(), [], 0.1  # all that are due in that time together
        for number in [number for number, (when, _) in self._troubled.items() if when <= now][:ENTRIES_A_TURN]:
            if self._stopped or len(self._young) >= MAX_YOUNG or self._take(number, direct):
                pause = FIRST_SECONDS
                break
        self._settle(direct)
        self._settle_soon()
        if self._troubled and not self._stopped:
            first = min(when for when, _ in self._troubled.values())
            self._troubled_timer = self._loop.at(max(first, now + pause), self._take_troubled)

    def _accept(self, message, direct):
        """A message has been read: it is young now, or one of direct, which are to be settled at once."""
        number = message.number
        for channel in self._channels.values():
            channel.forget_message(number)
        self._ends.forget_message(number)
        self.messages[number] = message
        self._scan_at_start.note_new(number)
        size = sum(map(len, message.records.values()))
        room = all(self._channels[name].has_room for name in message.records)
        if size > YOUNG_BYTES or not room:
            direct.append(message)
            return
        self._young[number] = message
        for name, record in message.records.items():
            one = Pass(number, name, message.sender, message.birth, message.birth, self._lifetime)
            one.unsettled = message
            message.passes.append(one)
            recipients = one.parse_slice(bytes(record))
            one.at_end = True
            self._channels[name].add_recipients(one, recipients)
        if not message.passes:
            self.end(message)
        else:
            self.watch_age(message.due)

    def _read(self, number):
        """Return the message of a todo entry, logged; None if the entry has gone.  Raises Poison, Trouble."""
        names, log, shown = self._names, self._log, self._files.shown
        path = names.todo(number)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None  # removed since it was listed
        except OSError as error:
            raise Trouble(b"warning: unable to open %b" % shown(path), error) from None
        try:
            try:
                size = os.stat(names.mess(number)).st_size
            except OSError as error:
                raise Trouble(b"warning: unable to stat %b" % shown(names.mess(number)), error) from None
            for leftover in (names.local(number), names.remote(number), names.info(number), names.bounce(number)):
                try:
                    os.unlink(leftover)
                    sync_directory(os.path.dirname(leftover))  # it may be another message's, and must not come back
                except FileNotFoundError:
                    pass
                except OSError as error:
                    raise Trouble(b"warning: unable to unlink %b" % shown(leftover), error) from None
            log.put(b"new msg %d" % number)
            identity = _identity(os.fstat(fd))
            try:
                data = _read_whole(fd)
            except OSError as error:
                raise Trouble(b"warning: trouble reading %b" % shown(path), error) from None
        finally:
            os.close(fd)
        return self._parse(number, data, size, shown(path), identity)

    def _parse(self, number, data, size, shown, identity):
        rewrite = self._rewriting.rewrite
        uid = qp = b"0"
        sender, records = None, {}
        *texts, rest = data.split(b"\0")
        for text in texts:
            letter = text[:1]
            if letter == b"T":
                channel, address = rewrite(text[1:])
                record = records.get(channel)
                if record is None:
                    record = records[channel] = bytearray()
                record += b"T%b\0" % address
            elif letter == b"F" and sender is None:
                sender = text[1:]
                self._log.put(
                    b"info msg %d: bytes %d from <%b> qp %b uid %b"
                    % (number, size, logsafe(sender), logsafe(qp), logsafe(uid))
                )
            elif letter == b"u":
                uid = text[1:]
            elif letter == b"p":
                qp = text[1:]
            else:
                raise UnusableEnvelope(b"warning: unknown record type in %b" % shown)
        if rest or sender is None:
            # cut short: the original would drop the recipient, and deliver to the others only
            raise UnusableEnvelope(b"warning: trouble reading %b" % shown)
        return TodoMessage(self, number, sender, int(time.time()), records, identity)

    def make_due(self, now: int) -> None:
        """ALRM: what a message put off before it had files is due now, in Unix seconds, as soon as it has them."""
        for message in self.messages.values():
            for pass_ in message.passes:
                pass_.make_due(now)

    # the end of youth

    def note_progress(self, passes) -> None:
        """Something happened to these passes of young messages."""
        for one in passes:
            one.unsettled.touched(one)

    def end(self, message) -> None:
        """All recipients of a young message are done: it leaves the queue without ever having had files."""
        if not self._is_there(message):
            return
        message.state = ENDING
        self._young.pop(message.number, None)
        self._go_on()
        self._cleaner.remove_envelope(message.number, lambda done: self._ended(message, done))

    def _ended(self, message, done):
        number, log = message.number, self._log
        if self._is_anothers(message):
            return
        if not done:
            log.put(b"warning: qmail-clean unable to clean up todo/%d" % number)
            self._loop.after(TROUBLE_SECONDS, lambda: self.end(message))
            return
        self.messages.pop(number, None)
        self._ends.remove_finished(number)

    def settle_all(self) -> None:
        """At the end: settle everything that is young."""
        self._settle(list(self._young.values()))

    def watch_age(self, due: float) -> None:
        """See to it that what is young is looked at then."""
        if self._settler is None:
            self._settler = self._loop.at(due, self._settle_old)
        elif due < self._settler.when:
            self._settler.move(due)

    def _settle_old(self):
        """Settle what is too old."""
        self._settler, now = None, time.monotonic()
        self._settle([message for message in self._young.values() if message.due <= now][:SETTLED_TOGETHER])
        if self._young:
            self.watch_age(min(message.due for message in self._young.values()))

    def _settle(self, batch):
        """Make the files of these messages, put them on disk with their names, and have todo removed."""
        while batch:
            now_batch, batch = batch[:SETTLED_TOGETHER], batch[SETTLED_TOGETHER:]
            now_batch = [message for message in now_batch if self._is_there(message)]
            for message in now_batch:
                self._young.pop(message.number, None)
                message.state = SETTLING
            failed = self._store.materialize([preprocessed(message) for message in now_batch])
            for message in now_batch:
                if message.number in failed:
                    self._log.put(failed[message.number])
                    self._give_up(message)
                else:
                    self._remove_todo(message)
        self._go_on()

    def _give_up(self, message):
        """The files could not be made: todo still vouches for the message, and it is settled again later."""
        names = self._names
        for path in (names.local(message.number), names.remote(message.number), names.info(message.number)):
            try:
                os.unlink(path)
            except OSError:
                pass
        message.state = YOUNG
        message.try_later()
        self._young[message.number] = message
        self.watch_age(message.due)
        self.note_progress(message.passes)

    def _is_there(self, message) -> bool:
        """Return whether a message still stands in todo; if it is certain that it does not, it is forgotten.

        Its number may be another's already: that one is then taken up, and nothing is done to its files.
        """
        if self.messages.get(message.number) is not message:
            return False
        path = self._names.todo(message.number)
        try:
            found = _identity(os.stat(path))
        except FileNotFoundError:
            found = None if os.path.isdir(os.path.dirname(path)) else message.identity
        except OSError:
            found = message.identity
        if found == message.identity:
            return True
        self._log.put(b"warning: msg %d has been removed by somebody else" % message.number)
        self._forget(message)
        if found is not None and not self._stopped:
            self._take_later(message.number)
        return False

    def _forget(self, message):
        message.state = REMOVED
        self.messages.pop(message.number, None)
        self._young.pop(message.number, None)
        for one in message.passes:
            self._channels[one.channel].abandon(one)
        self._go_on()

    def _is_anothers(self, message):
        """Return whether a message was removed by somebody else while its todo file was, and its number is another's.

        The answer is about the one that has gone; by its number alone it would be about the other.
        """
        if self.messages.get(message.number) is not message:
            return True
        is_there = message.is_listed and self._identity_now(message.number) is not None
        return is_there and not self._is_there(message)

    def _remove_todo(self, message):
        self._cleaner.remove_envelope(message.number, lambda done: self._settled(message, done))

    def _settled(self, message, done):
        number = message.number
        if self._is_anothers(message):
            return
        if not done:
            self._log.put(b"warning: qmail-clean unable to clean up todo/%d" % number)
            self._loop.after(TROUBLE_SECONDS, lambda: self._is_there(message) and self._remove_todo(message))
            return
        self.messages.pop(number, None)
        for one in message.passes:
            one.unsettled = None
            self._channels[one.channel].adopt(one)
        if not message.passes:
            for channel in (LOCAL, REMOTE):
                if channel in message.records:
                    self._channels[channel].heap.push(message.birth, number)
            if not message.records:
                self._ends.check_soon(number)
        self._settle_soon()


def _identity(seen):
    """Return what tells a todo file from a later one of its name; links and their removal do not change it."""
    return seen.st_ino, seen.st_mtime_ns


def _read_whole(fd):
    """Return the whole of an envelope; one read is enough for nearly all.  Raises OSError."""
    data = os.read(fd, 65536)
    if len(data) < 65536:
        return data
    pieces = [data]
    while piece := os.read(fd, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)
