"""What deliveries leave on disk: bounce texts, and marks in the channel file; and the messages that they are of.

All recipients that are not done stand in the engine, as numbers; a message that only waits there needs nothing here.
An OpenMessage is made when the first of its deliveries starts, and goes once nothing runs, and all that its deliveries
brought is written.  That of an unsettled message (materialize.py) stays as long as the message has no files.

    a delivery starts    its result is noted       DirtyMessages: looked at when the turn ends
    running + 1     ->   running - 1          ->   bounce text, then mark; the channel file goes if is_over (channel.py)
                         marks, paragraphs

What is kept true:

- A recipient is marked as done only once that is so: delivered, or the text about it safely in bounce/ID.  So texts are
  written first, and put on disk off the loop (system/background_sync.py).  Until that is done, what came with them is
  not marked.  While it fails, neither these marks nor the end of the message follow.  A crash in between delivers
  again, or bounces twice; it never loses a recipient without a word.
- What was only delivered is marked in the turn that its report came in.  It waits for a text of the same message, but
  not for those that come later.
- Marks are not put on disk at once.  A mark that a crash takes back means one delivery more, and nothing is lost: they
  are synced SYNC_SECONDS later, for messages that are not over.
- A mark that could not be written for a reason that may pass is tried again after a pause.  After MAX_RETRIES the
  recipient will be delivered to twice, which the log says.
- Where nothing is undone, nobody calls for marks: the whole file goes.  A crash before that delivers again.

    marks, paragraphs  ->  in_bounce, while bounce/ID is put on disk  ->  safe: may be marked  ->  marked, synced later
          |                                                                 ^
          +--------------------- no text, and none on its way --------------+
"""

import os

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_temporary
from pyqmail.protocol.verp import has_verp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyqmail.mail.manager.channel_files import QueueFiles
    from pyqmail.mail.manager.materialize import UnsettledMessage
    from pyqmail.mail.manager.parts import Log
    from pyqmail.system.background_sync import BackgroundSync
    from pyqmail.system.loop import Loop

BOUNCE_SECONDS = 10  # until a bounce text that could not be written is tried again
SYNC_SECONDS = 5  # between the syncs of marks
MAX_RETRIES = 7  # of a mark that failed for a reason that may pass: two minutes
SYNCED_TOGETHER = 64  # files with marks


class OpenMessage:
    """number and channel say which file; sender is the stored one, once it is_known.

    running: deliveries under way.  returned: offset -> number in the log of a delivery that a session gave back, until
    it starts again.  unreported: recipients whose end the log still has to tell.
    marks and paragraphs: what results brought and is not looked at yet, offsets and bounce texts.  in_bounce: the
    offsets and texts that are on their way into bounce/ID.  safe: offsets that may be marked, since their texts are on
    disk.
    has_result: a delivery has ended.  is_done: nothing is left of it in this channel.  due: when it is to be tried
    next, in Unix seconds, None if nobody has said so.
    unsettled: the message while it has no files, otherwise None.  is_gone: somebody else removed the message, and its
    number may be another's: nothing is done for it any more.
    """

    __slots__ = (
        *(
            "number",
            "channel",
            "sender",
            "is_known",
            "is_alone",
            "running",
            "returned",
            "unreported",
            "marks",
            "paragraphs",
        ),
        *("in_bounce", "safe", "has_result", "is_done", "due", "unsettled", "is_gone"),
    )

    def __init__(self, number: int, channel: str) -> None:
        self.number, self.channel, self.sender = number, channel, b""
        self.is_known = self.is_alone = False
        self.running = self.unreported = 0
        self.returned: dict[int, int] = {}
        self.marks: list[int] = []
        self.paragraphs: list[bytes] = []
        self.in_bounce: tuple[list[int], list[bytes]] | None = None
        self.safe: list[int] = []
        self.has_result = self.is_done = self.is_gone = False
        self.due: int | None = None
        self.unsettled: UnsettledMessage | None = None

    def set_sender(self, sender: bytes) -> None:
        self.sender, self.is_known, self.is_alone = sender, True, has_verp(sender)

    @property
    def has_texts(self) -> bool:
        """True while a bounce text is not on disk: nothing that it is about may be marked."""
        return bool(self.paragraphs) or self.in_bounce is not None

    @property
    def is_over(self) -> bool:
        """True if it can end: nothing is left, and nothing of it is under way."""
        return self.is_done and not (self.running or self.unreported or self.has_texts)

    @property
    def is_idle(self) -> bool:
        """True if nothing has to be remembered of it: what is left of the message stands in the engine and on disk."""
        is_waited_for = self.running or self.returned or self.unreported
        is_written = not (self.marks or self.safe or self.has_texts)
        return is_written and not is_waited_for and not self.is_done and self.unsettled is None


class DirtyMessages:
    """The messages of one channel that something happened to: looked at when the turn ends, in this order.

    finish_turn_soon() makes sure that this turn has such an end.
    """

    def __init__(self, loop: "Loop", finish_turn_soon: "Callable[[], None]") -> None:
        self._loop, self._finish_turn_soon = loop, finish_turn_soon
        self._messages: dict[OpenMessage, None] = {}

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, message: OpenMessage) -> None:
        self._messages[message] = None

    def add_soon(self, *messages: OpenMessage) -> None:
        """Have messages looked at, and this turn finished."""
        for message in messages:
            self.add(message)
        self._finish_turn_soon()

    def call_after(self, seconds: float, work: "Callable[[], object]") -> None:
        """Call work() after a while, and have that turn finished."""

        def call() -> None:
            work()
            self._finish_turn_soon()

        self._loop.after(seconds, call)

    def add_after(self, seconds: float, *messages: OpenMessage) -> None:
        """Have messages looked at once more after a while."""
        self._loop.after(seconds, lambda: self.add_soon(*messages))

    def remove_some(self, count: int) -> list[OpenMessage]:
        """Return the first ones, at most so many; they are here no more."""
        messages = list(self._messages)
        if len(messages) <= count:
            self._messages = {}
            return messages
        self._messages = dict.fromkeys(messages[count:])
        return messages[:count]


class Marks:
    """Bounce texts and marks of one channel; what is to be tried again comes back through dirty."""

    def __init__(
        self, files: "QueueFiles", log: "Log", loop: "Loop", dirty: DirtyMessages, disk: "BackgroundSync"
    ) -> None:
        self._files, self._log, self._loop, self._dirty, self._disk = files, log, loop, dirty, disk
        self._backoffs: dict[OpenMessage, Backoff] = {}  # messages whose marks could not be written
        self._unsynced: dict[OpenMessage, None] = {}
        self._sync_timer = None

    # bounce texts

    def write_bounce_texts(self, messages: "Iterable[OpenMessage]") -> None:
        """Write the bounce texts of these messages, and have them put on disk.

        Those of messages without files are left: they are written once there are some.
        """
        opened: dict[int, OpenMessage] = {}
        failed = []
        for message in messages:
            if not message.paragraphs or message.unsettled is not None or message.is_gone or message.in_bounce:
                continue
            try:
                opened[self._files.append_bounce(message.number, b"".join(message.paragraphs))] = message
            except OSError:
                failed.append(message)
            else:
                message.in_bounce = message.marks, message.paragraphs
                message.marks, message.paragraphs = [], []
        if failed:
            self._retry_texts(failed)
        if opened:
            self._sync_texts(opened)

    def _sync_texts(self, opened):
        try:
            directory = self._files.open_bounces()
        except OSError:
            self._note_texts(opened, set(opened))
            return

        def synced(lost):
            self._note_texts(opened, set(opened) if directory in lost else lost)
            os.close(directory)

        self._disk.sync(opened, [directory], synced)

    def _note_texts(self, opened, lost):
        """Texts are on disk, but for those of the descriptors in lost."""
        failed = []
        for fd, message in opened.items():
            os.close(fd)
            marks, paragraphs = message.in_bounce
            message.in_bounce = None
            if fd in lost:
                message.marks, message.paragraphs = marks + message.marks, paragraphs + message.paragraphs
                failed.append(message)
            else:
                message.safe += marks
                self._dirty.add_soon(message)
        if failed:
            self._retry_texts(failed)

    def _retry_texts(self, messages):
        self._log.add_line(b"alert: unable to append to bounce message; HELP! sleeping...")
        for message in messages:
            message.in_bounce = [], []  # so that nothing of it is written before
        self._loop.after(BOUNCE_SECONDS, lambda: self._write_again(messages))

    def _write_again(self, messages):
        for message in messages:
            message.in_bounce = None
        self._dirty.add_soon(*messages)

    # marks

    def write(self, message: OpenMessage) -> bool:
        """Write the marks of a message, as far as its texts are on disk.

        Returns False if that is to be tried again, and nothing may follow it yet.
        """
        if not message.has_texts:
            message.safe += message.marks
            message.marks = []
        if not message.safe:
            return True
        try:
            self._files.write_marks(message.channel, message.number, message.safe)
        except OSError as error:
            pause = self._next_pause(message, error)
            path = self._files.shown_path(message.channel, message.number)
            if pause is not None:
                self._log.add_line(b"warning: trouble marking %b; will try again later" % path)
                self._dirty.add_after(pause, message)
                return False
            self._log.add_line(b"warning: trouble marking %b; message will be delivered twice!" % path)
        self._backoffs.pop(message, None)
        message.safe = []
        self._unsynced[message] = None
        if self._sync_timer is None:
            self._sync_timer = self._loop.after(SYNC_SECONDS, self._sync_some)
        return True

    def _next_pause(self, message, error):
        """Return after how many seconds to try again; None if that cannot help, or has not helped often enough."""
        backoff = self._backoffs.setdefault(message, Backoff(1.0, 60.0))
        if is_temporary(error) and backoff.tries < MAX_RETRIES:
            return backoff.next_seconds()
        return None

    def forget(self, message: OpenMessage) -> None:
        """Write nothing more for a message: it is over, or its files are another message's."""
        self._unsynced.pop(message, None)
        self._backoffs.pop(message, None)

    def _sync_some(self) -> None:
        """Put marks on disk, those of a few messages at a time; what cannot be is delivered twice after a crash."""
        self._sync_timer = None
        opened: list[int] = []
        while self._unsynced and len(opened) < SYNCED_TOGETHER:
            message = next(iter(self._unsynced))
            del self._unsynced[message]
            try:
                opened.append(self._files.open_to_sync(message.channel, message.number))
            except OSError:
                pass
        if opened:
            self._disk.sync(opened, (), lambda _: self._synced(opened))

    def _synced(self, opened):
        for fd in opened:
            os.close(fd)
        if self._unsynced and self._sync_timer is None:
            self._sync_timer = self._loop.after(0, self._sync_some)
        self._dirty.add_soon()  # who ends waits for the disk
