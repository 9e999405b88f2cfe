"""A pass: one walk through the recipients of a message on one channel; and the marks and bounce text it leaves on disk.

The channel file is read in slices, so that a message of any size holds few recipients in memory; what was done is
marked in place.  A *young* message has no files yet: todo/ID still vouches for it (todo.py), and its
passes keep their marks in memory.
"""

import os
import time

from pyqmail.mail.destinations.lanes import Recipient
from pyqmail.mail.destinations.retry import LOCAL_CONSTANT, REMOTE_CONSTANT, retry_time
from pyqmail.mail.routing.rewrite import REMOTE
from pyqmail.protocol.verp import has_verp

SLICE_BYTES = 32768
READ_AHEAD = 200  # recipients of one message that are in memory before the next slice is read
_DONE = b"D"


class Broken(Exception):
    """A file of the queue that cannot be used; `warning` is the line to log, error what the system said, if it did."""

    def __init__(self, warning: bytes, error: OSError | None = None) -> None:
        super().__init__(warning)
        self.warning, self.error = warning, error


class Removed(Broken):
    """The channel file is not there any more: somebody else removed it."""


class Pass:
    """number and channel say which file; sender is the stored one; birth in Unix seconds.

    retry is when the next pass is due, never before this one has ended; is_dying makes every deferral of this one a
    failure.  running counts the recipients in memory; undone those that are neither delivered nor failed.  young is the
    message while it has no files.  marks and paragraphs are what is still to be written: offsets, and bounce text.
    """

    __slots__ = (
        "number channel sender birth is_alone retry is_dying running undone position at_end young marks paragraphs"
    ).split() + ["is_odd", "is_over", "is_concluded", "_began", "_clock"]

    def __init__(self, number: int, channel: str, sender: bytes, birth: int, now: int, lifetime: int) -> None:
        self.number, self.channel, self.sender, self.birth = number, channel, sender, birth
        self.is_alone = has_verp(sender)
        self._began, self._clock, self.is_over = now, time.monotonic(), False
        self.retry = self._retry_time(now)
        self.is_dying = now > birth + lifetime
        self.running = self.undone = self.position = 0
        self.at_end, self.young, self.is_odd, self.is_concluded = False, None, False, False
        self.marks, self.paragraphs = [], []

    @property
    def has_ended(self) -> bool:
        return self.at_end and not self.running

    def end(self, clock: float) -> None:
        """It has ended, by time.monotonic(): if its retry time passed meanwhile, that is counted again from here."""
        if self.is_over:
            return  # an ALRM may have made it due since
        self.is_over, now = True, self._began + int(clock - self._clock)
        if self.retry <= now:
            self.retry = self._retry_time(now)

    def _retry_time(self, now):
        return retry_time(self.birth, now, REMOTE_CONSTANT if self.channel == REMOTE else LOCAL_CONSTANT)

    def give_up(self) -> None:
        """Read no further; what was not read stays undone."""
        self.at_end = True
        self.undone += 1

    def take(self, data: bytes) -> list[Recipient]:
        """Return the recipients of the next piece of the channel file that are to be delivered to.

        data starts at `position`, which moves behind the last whole record.  At an unknown record the pass is at its
        end, and `is_odd`.
        """
        found, at = [], 0
        while (end := data.find(b"\0", at)) >= 0:
            letter = data[at : at + 1]
            if letter == b"T":
                found.append(Recipient(self, self.position + at, data[at + 1 : end]))
            elif letter != _DONE:
                self.give_up()
                self.is_odd = True
                break
            at = end + 1
        self.position += at
        self.running += len(found)
        self.undone += len(found)
        return found


class Files:
    """The info, channel and bounce files of a queue (names: QueueNames)."""

    def __init__(self, names) -> None:
        self._names = names
        self._skip = len(names.queue) + 1

    def shown(self, path: str) -> bytes:
        """Return a path as the log has it: from the queue on."""
        return path[self._skip :].encode()

    def path(self, channel: str, number: int) -> str:
        return self._names.remote(number) if channel == REMOTE else self._names.local(number)

    def read_info(self, number: int) -> tuple[bytes, int]:
        """Return (sender, birth).  Raises OSError; Broken if the file is not an info file."""
        path = self._names.info(number)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            birth, data = int(os.fstat(fd).st_mtime), os.read(fd, 8192)
        finally:
            os.close(fd)
        record, nul, _ = data.partition(b"\0")
        if not nul or record[:1] != b"F":
            raise Broken(b"warning: trouble reading %b" % self.shown(path))
        return record[1:], birth

    def open_pass(self, channel: str, number: int, now: int, lifetime: int) -> tuple[Pass, list[Recipient]]:
        """Begin a pass with its first slice.  Raises Broken if a file cannot be opened or used at all.

        Removed if the channel file is surely gone.
        """
        path = self.path(channel, number)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(path)):
                raise self._not_opened(path) from None
            raise Removed(b"warning: no file %b: removed by somebody else" % self.shown(path)) from None
        except OSError as error:
            raise self._not_opened(path, error) from None
        try:
            path = self._names.info(number)
            sender, birth = self.read_info(number)
            path = self.path(channel, number)
            new = Pass(number, channel, sender, birth, now, lifetime)
            return new, self._read(new, fd)
        except Broken:
            raise self._not_opened(path) from None
        except OSError as error:
            raise self._not_opened(path, error) from None
        finally:
            os.close(fd)

    def _not_opened(self, path, error=None):
        return Broken(b"warning: trouble opening %b; will try again later" % self.shown(path), error)

    def read_on(self, one: Pass) -> list[Recipient]:
        """Return the recipients of a pass's next slice.  Raises OSError."""
        fd = os.open(self.path(one.channel, one.number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return self._read(one, fd)
        finally:
            os.close(fd)

    def _read(self, one, fd):
        before = one.position
        data = os.pread(fd, SLICE_BYTES, before)
        found = one.take(data)
        if one.at_end:
            return found
        if len(data) < SLICE_BYTES and one.position == before + len(data):
            one.at_end = True
        elif len(data) < SLICE_BYTES or one.position == before:
            one.give_up()  # a record without its end
            one.is_odd = True
        return found

    def mark(self, one: Pass) -> None:
        """Write D over the letter of every record in one.marks.  Raises OSError."""
        fd = os.open(self.path(one.channel, one.number), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for offset in one.marks:
                os.pwrite(fd, _DONE, offset)
        finally:
            os.close(fd)

    def sync(self, one: Pass) -> None:
        """Put the marks of a pass on disk; what cannot be is delivered twice after a crash, no more."""
        try:
            fd = os.open(self.path(one.channel, one.number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.fdatasync(fd)
        except OSError:
            pass
        finally:
            os.close(fd)

    def append_bounces(self, texts: dict[int, bytes]) -> set[int]:
        """Append to bounce/ID for each number, all on disk when this returns; returns those for which it failed."""
        opened, failed = {}, set()
        for number, text in texts.items():
            fd = -1
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
                fd = os.open(self._names.bounce(number), flags, 0o600)
                before = os.fstat(fd).st_size
                opened[fd] = number
                if os.write(fd, text) != len(text):
                    os.ftruncate(fd, before)  # half a paragraph must not stay
                    failed.add(number)
            except OSError:
                failed.add(number)
        for fd, number in opened.items():
            try:
                os.fsync(fd)
            except OSError:
                failed.add(number)
            os.close(fd)
        try:
            directory = os.open(f"{self._names.queue}/bounce", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)  # the name is part of the text's safety
            finally:
                os.close(directory)
        except OSError:
            failed.update(texts)
        return failed

    def set_due(self, channel: str, number: int, due: int) -> None:
        """Keep the time of the next attempt where a later start finds it.  Raises OSError."""
        os.utime(self.path(channel, number), (due, due))
