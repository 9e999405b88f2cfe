"""A pass: one walk through the recipients of a message on one channel; and the files that it reads and writes.

A pass knows what is left of it:

    recipients in memory (running)  ->  delivered, or failed for good: a mark to be written, one less is undone
                                    ->  deferred: stays undone
    recipients not yet read         ->  at_end says that there are none

It has ended when all is read and nothing runs.  If nothing is undone then, the channel file goes; otherwise the message
is due again at `retry`.  The channel file is read in slices, so that a message of any size holds few recipients in
memory; what is done is marked in place: D over the letter T of its record.  A record that means nothing ends the pass
early with one undone recipient too many, so that the file never counts as done.

A pass of an *unsettled* message (materialize.py) has no files yet: todo/ID still vouches for the message, and what is
done is marked in its records in memory.
"""

import os
import time

from pyqmail.mail.destinations.old.lanes import Recipient
from pyqmail.mail.destinations.retry import LOCAL_CONSTANT, REMOTE_CONSTANT, retry_time
from pyqmail.mail.routing.rewrite import REMOTE
from pyqmail.protocol.verp import has_verp

SLICE_BYTES = 32768
READ_AHEAD = 200  # recipients of one message that are in memory before the next slice is read
_DONE = b"D"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.manager.materialize import UnsettledMessage
    from pyqmail.system.loop import Loop


class Broken(Exception):
    """A file of the queue that cannot be used; `warning` is the line to log, error what the system said, if it did."""

    def __init__(self, warning: bytes, error: OSError | None = None) -> None:
        super().__init__(warning)
        self.warning, self.error = warning, error


class Removed(Broken):
    """The channel file is not there any more: somebody else removed it."""


class Pass:
    """number and channel say which file; sender is the stored one; birth in Unix seconds.

    retry: when the next pass is due, never before this one has ended.  is_dying: every deferral of this pass is a
    failure.  running: recipients in memory.  undone: those that are neither delivered nor failed.  unsettled: the
    message while it has no files, otherwise None.  marks and paragraphs: what is still to be written, offsets in the
    channel file and bounce text.  is_odd: it met a record that means nothing.  is_concluded: nothing is done for it any
    more (channel.py).
    """

    __slots__ = (
        *("number", "channel", "sender", "birth", "is_alone", "retry", "is_dying", "running", "undone", "position"),
        *("at_end", "unsettled", "marks", "paragraphs", "is_odd", "is_over", "is_concluded", "_began", "_clock"),
    )

    def __init__(self, number: int, channel: str, sender: bytes, birth: int, now: int, lifetime: int) -> None:
        self.number, self.channel, self.sender, self.birth = number, channel, sender, birth
        self.is_alone = has_verp(sender)
        self._began, self._clock, self.is_over = now, time.monotonic(), False
        self.retry = self._retry_time(now)
        self.is_dying = now > birth + lifetime
        self.running = self.undone = self.position = 0
        self.at_end, self.is_odd, self.is_concluded = False, False, False
        self.unsettled: UnsettledMessage | None = None
        self.marks: list[int] = []
        self.paragraphs: list[bytes] = []

    @property
    def has_ended(self) -> bool:
        return self.at_end and not self.running

    def record_end(self, clock: float) -> None:
        """It ends at this time.monotonic(): a retry time that has passed meanwhile is counted again from here."""
        if self.is_over:
            return  # an ALRM may have made it due since
        self.is_over, now = True, self._began + int(clock - self._clock)
        if self.retry <= now:
            self.retry = self._retry_time(now)

    def make_due(self, now: int) -> None:
        """ALRM: the next pass is due now, in Unix seconds, if this one has ended."""
        if self.has_ended:
            self.record_end(time.monotonic())
            self.retry = min(self.retry, now)

    def _retry_time(self, now):
        return retry_time(self.birth, now, REMOTE_CONSTANT if self.channel == REMOTE else LOCAL_CONSTANT)

    def give_up(self) -> None:
        """Read no further; what was not read stays undone."""
        self.at_end = True
        self.undone += 1

    def parse_slice(self, data: bytes) -> list[Recipient]:
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


class DirtyPasses:
    """The passes of one channel that something happened to: it is written at the end of the turn, in this order.

    finish_turn_soon() makes sure that this turn has such an end.
    """

    def __init__(self, loop: "Loop", finish_turn_soon: "Callable[[], None]") -> None:
        self._loop, self._finish_turn_soon = loop, finish_turn_soon
        self._passes: dict[Pass, None] = {}

    def __bool__(self) -> bool:
        return bool(self._passes)

    def add(self, pass_: Pass) -> None:
        self._passes[pass_] = None

    def add_after(self, seconds: float, *passes: Pass) -> None:
        """Have passes looked at once more after a while."""

        def add() -> None:
            for pass_ in passes:
                self.add(pass_)
            self._finish_turn_soon()

        self._loop.after(seconds, add)

    def remove_all(self) -> "dict[Pass, None]":
        """Return all of them in order; nothing is left here."""
        passes, self._passes = self._passes, {}
        return passes


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

        Removed if the channel file is surely gpass_.
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
            pass_ = Pass(number, channel, sender, birth, now, lifetime)
            return pass_, self._read(pass_, fd)
        except Broken:
            raise self._not_opened(path) from None
        except OSError as error:
            raise self._not_opened(path, error) from None
        finally:
            os.close(fd)

    def _not_opened(self, path, error=None):
        return Broken(b"warning: trouble opening %b; will try again later" % self.shown(path), error)

    def read_next_slice(self, pass_: Pass) -> list[Recipient]:
        """Return the recipients of a pass's next slice.  Raises OSError."""
        fd = os.open(self.path(pass_.channel, pass_.number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return self._read(pass_, fd)
        finally:
            os.close(fd)

    def _read(self, pass_, fd):
        before = pass_.position
        data = os.pread(fd, SLICE_BYTES, before)
        found = pass_.parse_slice(data)
        if pass_.at_end:
            return found
        if len(data) < SLICE_BYTES and pass_.position == before + len(data):
            pass_.at_end = True
        elif len(data) < SLICE_BYTES or pass_.position == before:
            pass_.give_up()  # a record without its end
            pass_.is_odd = True
        return found

    def write_marks(self, pass_: Pass) -> None:
        """Write D over the letter of every record in pass_.marks.  Raises OSError."""
        fd = os.open(self.path(pass_.channel, pass_.number), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for offset in pass_.marks:
                os.pwrite(fd, _DONE, offset)
        finally:
            os.close(fd)

    def sync_marks(self, pass_: Pass) -> None:
        """Put the marks of a pass on disk; what cannot be is delivered twice after a crash, no more."""
        try:
            fd = os.open(self.path(pass_.channel, pass_.number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
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
