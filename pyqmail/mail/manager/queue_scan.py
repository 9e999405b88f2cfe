"""Channel files on their way into the engines: those that the queue holds at the start, and those of large messages.

    read_soon(channel, number)    a message of which files were made before it was delivered to: large, or no room
    read_now(channel, number...)  the scan at the start has found a message
            |
            v
        a slice is read  -- the end -->  all recipients stand in the engine
            |     ^
            |     +-- not the end: in line again, behind the others
            +-- it could not be read: again after a pause, which grows if what was lacking may be there soon
            +-- a record means nothing: read again from there at the time of the next retry, as long as the message
                stands; until then the engine knows that more is to come, so the message never counts as done

Nothing is read while an engine has no room: what stands in line waits on disk.  A number that is forgotten was another
message's: what waits for it here goes.

QueueScan finds every message with info at the start, a slice at a time.  New mail is served meanwhile; what is new
since the start is told by note_new() and left alone here.

A message that has info but no mess had been finished: info is unlinked before mess, but a file system that keeps no
order (btrfs) may after a crash show the second without the first.  What is left of it is removed, at the end of the
scan.  Only ENOENT in a directory that is there says so; and if more messages lack mess than have it, and many do, it is
rather mess that is missing: then nothing is removed.
"""

import collections
import os
import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_temporary
from pyqmail.mail.destinations.retry import LOCAL_CONSTANT, REMOTE_CONSTANT, TROUBLE_SECONDS, retry_time
from pyqmail.mail.manager.channel_files import Broken, Removed
from pyqmail.mail.queue.files import is_message_name, is_surely_gone
from pyqmail.mail.routing.rewrite import LOCAL, REMOTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyqmail.mail.manager.channel import Channel
    from pyqmail.mail.manager.channel_files import QueueFiles
    from pyqmail.mail.manager.parts import Log, MessageEnds, ScannedEnds
    from pyqmail.mail.queue.files import QueueNames
    from pyqmail.system.loop import Loop

MAX_WITHOUT_MESS = 100  # more are believed only if most messages have one
_READ_SECONDS, _SCAN_SECONDS = 0.003, 0.005  # in one turn
_ROOM_SECONDS = 0.5  # until there is another look whether there is room


class Reading:
    """One channel file of which something is still to be read.

    sender None: info has not been read.  due: None if the file's mtime, before anything of it is tried, is to say.
    found: recipients that were handed on so far.
    """

    __slots__ = (
        *("channel", "number", "sender", "birth", "size", "is_bulk", "due", "position", "found", "backoff", "is_dead"),
    )

    def __init__(self, channel: str, number: int, due: int | None = None) -> None:
        self.channel, self.number, self.due = channel, number, due
        self.sender: bytes | None = None
        self.birth = self.size = self.position = self.found = 0
        self.backoff: Backoff | None = None
        self.is_bulk = self.is_dead = False


class ChannelReader:
    """See the module.  ends hears of messages that are finished, or of which somebody else removed a file."""

    def __init__(
        self,
        loop: "Loop",
        log: "Log",
        files: "QueueFiles",
        channels: "Mapping[str, Channel]",
        ends: "MessageEnds",
        finish_turn_soon: "Callable[[], None]",
    ) -> None:
        self._loop, self._log, self._files, self._channels = loop, log, files, channels
        self._ends, self._finish_turn_soon = ends, finish_turn_soon
        self._line: collections.deque[Reading] = collections.deque()
        self._open: dict[int, list[Reading]] = {}  # number -> what is in line or waits for a pause to be over
        self._is_due = self._is_all_due = self._stopped = False

    @property
    def has_room(self) -> bool:
        """True while more recipients may come into memory."""
        return all(channel.has_room for channel in self._channels.values())

    def stop(self) -> None:
        """Read nothing more."""
        self._stopped = True

    def make_due(self) -> None:
        """ALRM: what is still to be read is due at once, and what waits for a pause to be over is read now."""
        self._is_all_due = True
        self._line.extend(reading for readings in self._open.values() for reading in readings if reading.backoff)
        self._read_later(0)

    def forget_message(self, number: int) -> None:
        """The number is another message's now."""
        for reading in self._open.pop(number, ()):
            reading.is_dead = True

    def read_soon(self, channel: str, number: int) -> None:
        """Read a channel file of a message that is new; all of it is due."""
        self._line_up(Reading(channel, number, 0))

    def read_later(self, channel: str, number: int, error: "OSError | None") -> None:
        """Read a channel file of a message whose info could not be read; error is what the system said, if it did."""
        reading = Reading(channel, number)
        self._read_again(reading, self._pause_after(reading, error))

    def read_now(self, channel: str, number: int, sender: bytes, birth: int, size: int) -> None:
        """Read a channel file of a message, its first slice at once; its mtime says when it is due."""
        reading = Reading(channel, number)
        reading.sender, reading.birth, reading.size = sender, birth, size
        reading.is_bulk = self._files.is_bulk(number)
        self._read(reading)

    def _line_up(self, reading):
        self._open.setdefault(reading.number, []).append(reading)
        self._line.append(reading)
        self._read_later(0)

    def _read_later(self, seconds):
        if self._line and not self._is_due and not self._stopped:
            self._is_due = True
            self._loop.after(seconds, self._read_some)

    def _read_some(self):
        self._is_due, until = False, time.monotonic() + _READ_SECONDS
        while self._line and not self._stopped and time.monotonic() < until:
            reading = self._line[0]
            if not reading.is_dead and not self._channels[reading.channel].has_room:
                self._read_later(_ROOM_SECONDS)
                return
            self._line.popleft()
            if not reading.is_dead:
                self._close(reading)
                self._read(reading)
        self._read_later(0)
        self._finish_turn_soon()

    def _close(self, reading):
        readings = self._open.get(reading.number, [])
        if reading in readings:
            readings.remove(reading)
        if not readings:
            self._open.pop(reading.number, None)

    def _read(self, reading):
        """Hand on the recipients of the next slice."""
        files, number = self._files, reading.number
        try:
            if reading.sender is None:
                reading.sender, reading.birth = files.read_sender(number)
                reading.size = self._size_of(number)
                reading.is_bulk = files.is_bulk(number)
            found, position, is_end, is_odd, due = files.read_slice(reading.channel, number, reading.position)
        except Removed as removed:
            self._log.add_line(removed.warning)
            self._channels[reading.channel].forget_message(number)
            self._ends.check_soon(number)
            return
        except Broken as broken:
            self._log.add_line(broken.warning)
            self._read_again(reading, self._pause_after(reading, broken.error))
            return
        reading.position, reading.backoff = position, None
        if reading.due is None:
            reading.due = due
        self._hand_on(reading, found, is_end)
        if is_odd:
            self._log.add_line(b"warning: unknown record type in %b!" % files.shown_path(reading.channel, number))
            self._read_again(reading, self._seconds_to_retry(reading))
        elif not is_end:
            self._line_up(reading)

    def _size_of(self, number):
        try:
            return self._files.message_size(number)
        except OSError:
            return 0  # it is for fairness only

    def _hand_on(self, reading, found, is_end):
        channel, number = self._channels[reading.channel], reading.number
        if is_end and not found and not reading.found:
            channel.note_done(number)  # nothing in it is undone, and no engine knows of it
            return
        reading.found += len(found)
        due = 0 if self._is_all_due or reading.due <= int(time.time()) else reading.due
        facts = number, reading.sender, reading.size, reading.birth
        channel.add_recipients(*facts, found, due, is_bulk=reading.is_bulk, is_more_to_come=not is_end)

    def _pause_after(self, reading, error):
        """Return after how many seconds a file that could not be read is read again: what may pass, soon."""
        if reading.backoff is None:
            reading.backoff = Backoff(1.0, TROUBLE_SECONDS)
        pause = reading.backoff.next_seconds()
        return TROUBLE_SECONDS if error is None or not is_temporary(error) else pause

    def _seconds_to_retry(self, reading):
        reading.backoff = Backoff(1.0, TROUBLE_SECONDS)
        now = int(time.time())
        return retry_time(reading.birth, now, REMOTE_CONSTANT if reading.channel == REMOTE else LOCAL_CONSTANT) - now

    def _read_again(self, reading, pause):
        self._open.setdefault(reading.number, []).append(reading)

        def again() -> None:
            if not reading.is_dead and reading.backoff is not None and reading not in self._line:
                self._line.append(reading)
                self._read_later(0)

        self._loop.after(pause, again)


class QueueScan:
    """reader reads what is found.  ends hears of messages that are finished or without mess."""

    def __init__(
        self,
        loop: "Loop",
        log: "Log",
        names: "QueueNames",
        files: "QueueFiles",
        reader: ChannelReader,
        ends: "ScannedEnds",
        finish_turn_soon: "Callable[[], None]",
    ) -> None:
        self._loop, self._log, self._names, self._files = loop, log, names, files
        self._reader, self._ends, self._finish_turn_soon = reader, ends, finish_turn_soon
        self._entries, self._part = iter(()), 0
        self.ended, self._waiting = False, False
        self._new: set[int] = set()  # messages that came since the start
        self._whole = 0  # how many have mess
        self._without_mess: list[int] = []  # those that have not
        self._troubled: set[int] = set()  # those that are looked at again after a pause

    def start(self) -> None:
        self._loop.after(0, self._slice)

    def stop(self) -> None:
        self.ended = True

    def note_new(self, number: int) -> None:
        """A message is new since the start: it is not to be found again."""
        self._reader.forget_message(number)
        self._troubled.discard(number)
        if not self.ended:
            self._new.add(number)

    def _slice(self):
        if not self._reader.has_room and not self.ended:
            self._loop.after(_ROOM_SECONDS, self._slice)
            return
        until = time.monotonic() + _SCAN_SECONDS
        while time.monotonic() < until and not self.ended and not self._waiting and self._reader.has_room:
            name = next(self._entries, None)
            if name is not None:
                if is_message_name(name):
                    self._find(int(name))
            elif self._part < self._names.split:
                self._open_part()
            else:
                self._judge_without_mess()
                self.ended, self._new = True, set()
        self._finish_turn_soon()
        if not self.ended and not self._waiting:
            self._loop.after(0, self._slice)

    def _open_part(self):
        shown = f"info/{self._part}"
        try:
            self._entries = iter(os.listdir(f"{self._names.queue}/{shown}"))
        except OSError:
            self._log.add_line(b"alert: unable to opendir %b, sleeping..." % shown.encode())
            self._loop.after(10, self._again)
            self._waiting = True
            return
        self._part += 1

    def _again(self):
        self._waiting = False
        self._slice()

    def _find(self, number, is_judged=False):
        """Have a message read.  is_judged: it is known whether messages without mess are to be believed."""
        if number in self._new:
            return
        names = self._names
        try:
            if _is_there(names.todo(number)):
                return  # todo is the authority: it will be preprocessed again
            size = self._size_of(number)
            if size is None and not is_judged:
                self._without_mess.append(number)
                return
            channels = [
                name for name, path in ((LOCAL, names.local), (REMOTE, names.remote)) if _is_there(path(number))
            ]
            self._whole += size is not None
            self._read(number, channels, size or 0)
        except OSError as error:
            shown = self._files.shown(error.filename)
            self._log.add_line(b"warning: unable to stat %b; will try again later" % shown)
            self._troubled.add(number)
            self._loop.after(TROUBLE_SECONDS, lambda: self._find_again(number))

    def _find_again(self, number):
        """Look at a message again, unless its number is another one's by now."""
        if number in self._troubled:
            self._troubled.discard(number)
            self._find(number, True)

    def _size_of(self, number):
        """Return the size of mess; None if it is certain that a message has none."""
        try:
            return self._files.message_size(number)
        except OSError:
            return None if self._is_without_mess(number) else 0

    def _read(self, number, channels, size):
        """Have the recipients of a message delivered to; one without any is finished."""
        if not channels:
            self._ends.check_soon(number)
            return
        try:
            sender, birth = self._files.read_sender(number)
        except Broken as broken:
            self._log.add_line(broken.warning)
            for channel in channels:
                self._reader.read_later(channel, number, broken.error)
            return
        for channel in channels:
            self._reader.read_now(channel, number, sender, birth, size)

    def _is_without_mess(self, number):
        """Return whether it is certain that a message has no mess."""
        names = self._names
        return is_surely_gone(names.mess(number)) and os.path.exists(names.info(number))

    def _judge_without_mess(self):
        """Finish the messages without mess, unless it is mess that is missing."""
        missing, self._without_mess = self._without_mess, []
        log = self._log
        if len(missing) > max(MAX_WITHOUT_MESS, self._whole):
            log.add_line(
                b"alert: %d messages are not in mess, only %d are: is it mounted?" % (len(missing), self._whole)
            )
            for number in missing:
                self._find(number, True)
            return
        for number in missing:
            if number not in self._new and self._is_without_mess(number):
                shown = self._files.shown(self._names.mess(number))
                log.add_line(
                    b"warning: no file %b: finished before a crash, or lost; removing what is left of it" % shown
                )
                self._ends.remove_leftovers(number)


def _is_there(path: str) -> bool:
    """Return whether a file is there.  Raises OSError if that cannot be known."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True
