"""Queue a message from one of our programs: the client side of pyqueued, and of a foreign QMAILQUEUE.

    message = MessageBuffer()
    message.write(...)                                  # any number of times; never raises
    outcome = await client.queue(message, format_envelope(sender, recipients), environ)
    message.close()
    text = outcome_text(outcome)                        # b"" success, b"D..." permanent, b"Z..." temporary

What is uncertain counts as a temporary failure: if the connection breaks after the message was sent, it may be queued,
and the sender tries again.
"""

import errno
import os
import time

from pyqmail.base.failure import Failure, is_lack, reason
from pyqmail.protocol.wires import queue_wire
from pyqmail.protocol.wires.frames import MalformedFrame
from pyqmail.protocol.wires.queue_wire import DESCRIPTORS, INLINE, INLINE_LIMIT
from pyqmail.system.channel import Gone, Unavailable
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.descriptors import write_all
from pyqmail.system.driver import CannotFork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.system.feeding import Feed

IN_MEMORY_BYTES = 1 << 20
MEMORY_BYTES = 64 << 20
_ROOM_BYTES = 1 << 20
_SMALL_BYTES = 64 << 10
TEXT_DESCRIPTOR = 6
TEXT_BYTES = 255
INLINE_SECONDS = 600
DESCRIPTORS_SECONDS = 3600
CRASHED = -1
STOCK_QUEUE = b"bin/qmail-queue"
TEMPORARY_FOLDER = b"/tmp"  # where TMPDIR is not set
_NOBODY = (errno.ENOENT, errno.ECONNREFUSED)

# exit code of qmail-queue -> text; D permanent, Z temporary
TEXTS = {
    0: b"",
    11: b"Denvelope address too long for qq (#5.1.3)",
    31: b"Dmail server permanently rejected message (#5.3.0)",
    51: b"Zqq out of memory (#4.3.0)",
    52: b"Zqq timeout (#4.3.0)",
    53: b"Zqq write error or disk full (#4.3.0)",
    54: b"Zqq read error (#4.3.0)",
    55: b"Zqq unable to read configuration (#4.3.0)",
    56: b"Zqq trouble making network connection (#4.3.0)",
    61: b"Zqq trouble in home directory (#4.3.0)",
    **dict.fromkeys((62, 63, 64, 65, 66), b"Zqq trouble creating files in queue (#4.3.0)"),
    71: b"Zmail server temporarily rejected message (#4.3.0)",
    72: b"Zconnection to mail server timed out (#4.4.1)",
    73: b"Zconnection to mail server rejected (#4.4.1)",
    74: b"Zcommunication with mail server failed (#4.4.2)",
    81: b"Zqq internal bug (#4.3.0)",
    91: b"Zqq internal bug (#4.3.0)",
    115: b"Denvelope address too long for qq (#5.1.3)",
    120: b"Zunable to exec qq (#4.3.0)",
}


_ONE_LINE = bytes(32 if c in b"\r\n" else c for c in range(256))  # the text goes into one line of SMTP


class QueueOutcome:
    """The result of queueing a message: qmail-queue's exit code, the qp, its own text for 82.

    exit_code is CRASHED if a signal killed it.  qp is 0 if pyqueued did not queue it.  why is for logs and delivery
    reports: what an exit code does not say, `no pyqueued at run/pyqueued`; empty if there is nothing to add.
    """

    __slots__ = ("exit_code", "qp", "text", "why")

    def __init__(self, exit_code: int, qp: int = 0, text: bytes = b"", why: bytes = b"") -> None:
        self.exit_code, self.qp, self.text, self.why = exit_code, qp, text, why


def outcome_text(outcome: QueueOutcome) -> bytes:
    """Return what to report to callers: empty for success, otherwise D or Z and a text.  Source: qmail_close()"""
    code, own = outcome.exit_code, outcome.text.rstrip(b"\r\n").translate(_ONE_LINE)
    if code == CRASHED:
        return b"Zqq crashed (#4.3.0)"
    if code == 82 and len(own) > 2:
        return own
    text = TEXTS.get(code)
    if text is None:
        text = b"Dqq permanent problem (#5.3.0)" if 11 <= code <= 40 else b"Zqq temporary problem (#4.3.0)"
    return text


class MessageMemory:
    """The bound on the memory of all messages that arrive at one process: many slow clients are many messages."""

    __slots__ = ("_free", "buffers")

    def __init__(self, limit_bytes: int = MEMORY_BYTES) -> None:
        self._free = limit_bytes
        self.buffers: set[MessageBuffer] = set()  # the messages that are in memory

    def reserve(self, size: int) -> bool:
        """Reserve size bytes until they are released; returns False if there is no room."""
        if size > self._free:
            return False
        self._free -= size
        return True

    def reserve_before_messages(self, size: int) -> bool:
        """reserve(); without room, messages move to their files first, the largest before others."""
        if self.reserve(size):
            return True
        for buffer in sorted(self.buffers, key=lambda buffer: buffer.size, reverse=True):
            if self._free >= size + _ROOM_BYTES or not buffer.move_to_file():
                break  # the next requests find room, too; or the file system has none
        return self.reserve(size)

    def release(self, size: int) -> None:
        self._free += size


class MessageBuffer:
    """A message while it arrives: in memory as long as it is small, then in an unlinked file below $TMPDIR.

    memory is shared with other messages; without room there, a message is a file at once.  space (mail/queue/space.py)
    is shared by those that are files.  Without room there either, _SMALL_BYTES are kept in memory all the same.

    Never raises: once a write has failed, `failed` is True, the rest is dropped and queueing it gives 53.  is_refused
    is True if the reason was a lack of space.
    """

    __slots__ = ("size", "failed", "is_refused", "_text", "_fd", "_limit", "_memory", "_held", "_space", "_written")

    def __init__(self, in_memory_bytes: int = IN_MEMORY_BYTES, memory: MessageMemory | None = None, space=None) -> None:
        self.size, self.failed, self.is_refused = 0, False, False
        self._text, self._fd, self._limit = bytearray(), -1, in_memory_bytes
        self._memory, self._held = memory or MessageMemory(in_memory_bytes), 0
        self._space, self._written = space, 0

    def write(self, data: bytes) -> None:
        if self.failed:
            return
        self.size += len(data)
        if self._fd < 0 and self.size <= self._limit and self._memory.reserve(len(data)):
            self._memory.buffers.add(self)
            self._held += len(data)
        elif self._fd >= 0:
            if not self._write_file(data):
                self._fail()
            return
        elif self.move_to_file(data):
            return
        elif self.size > _SMALL_BYTES or not self.is_refused:
            self._fail()
            return
        self._text += data  # not a list of pieces: a client may send two bytes at a time

    def move_to_file(self, more: bytes = b"") -> bool:
        """Become a file, with more at its end; returns False if that failed."""
        try:
            self._fd = _unlinked_file()
        except OSError:
            return False
        if not self._write_file(self._text + more):
            self._close_file()
            return False
        self._release_memory()
        return True

    def _write_file(self, data):
        """Return whether it was written whole."""
        if self._space is not None and not self._space.reserve(len(data), self._fd):
            self.is_refused = True
            return False
        self._written += len(data)
        try:
            write_all(self._fd, data)
        except OSError:
            return False
        return True

    def _fail(self):
        self.failed = True
        self._close_file()
        self._release_memory()

    @property
    def in_memory(self) -> bool:
        return self._fd < 0

    def content(self) -> bytes:
        """Return the whole message; only while it is in memory."""
        return bytes(self._text)

    def descriptor(self) -> int:
        """Return a descriptor of the whole message, at its start.  It still belongs to the buffer.  Raises OSError."""
        if self._fd < 0:
            fd = os.memfd_create("message", os.MFD_CLOEXEC)
            self._fd = fd
            write_all(fd, self._text)
            self._text = bytearray()  # the memory stays reserved: it is a file in memory now
            self._memory.buffers.discard(self)
        os.lseek(self._fd, 0, os.SEEK_SET)
        return self._fd

    def feed(self) -> "Feed":
        """Return the whole message as a program reads it; the buffer stays open."""
        from pyqmail.system.feeding import feed_bytes, feed_file

        return feed_bytes(self.content()) if self.in_memory else feed_file(self._fd, os.fstat(self._fd).st_size)

    def close(self) -> None:
        self._close_file()
        self._release_memory()

    def _close_file(self):
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._space is not None:
            self._space.release(self._written)
        self._written = 0

    def _release_memory(self):
        self._memory.buffers.discard(self)
        self._memory.release(self._held)
        self._text, self._held = bytearray(), 0


class QueueClient:
    """Queues messages for one process; keeps the connection to pyqueued open between them.

    The process's working directory must be the qmail home: QMAILQUEUE is relative to it.  If nobody listens, we have
    the right, and the driver can fork (a resident's cannot), a child of ours writes the message into the queue.
    """

    def __init__(self, driver, home, load=None) -> None:
        self._driver, self._home = driver, home
        self._channel, self._owner = None, None
        self._judged = (None, False)
        self._news = (b"", 0.0)  # the last reason, and until when it is not logged again

    def is_news(self, why: bytes) -> bool:
        """Return whether to log a reason: the same one once a second."""
        now = time.monotonic()
        if why == self._news[0] and now < self._news[1]:
            return False
        self._news = why, now + 1
        return True

    async def queue(self, message: MessageBuffer, envelope: bytes, environ) -> QueueOutcome:
        """Queue a message; envelope is a whole stream (protocol/envelope.py), environ the session's."""
        if message.failed:
            return QueueOutcome(53)
        program = environ.get(b"QMAILQUEUE")
        if program is not None and not self._is_ours(program):
            return await self._run(program, message, envelope, environ)
        try:
            return await self.send(message, envelope)
        except Unavailable as nobody:
            why = self._why_not(nobody.error)
            if is_lack(nobody.error) or nobody.error.errno == errno.EAGAIN:
                return QueueOutcome(51, why=why)  # pyqueued may well be there
            return await self._write_ourselves(message, envelope, why)

    async def queue_even_so(self, message: MessageBuffer, envelope: bytes, environ) -> QueueOutcome:
        """queue(); among the original's programs, without pyqueued and the right to write the queue, by STOCK_QUEUE.

        That is setuid, which no program of ours is.
        """
        outcome = await self.queue(message, envelope, environ)
        if outcome.exit_code != 62 or not outcome.why or not os.access(STOCK_QUEUE, os.X_OK):
            return outcome
        return await self._run(STOCK_QUEUE, message, envelope, {**environ, b"QMAILQUEUE": STOCK_QUEUE})

    def _why_not(self, error):
        place = os.path.relpath(self._home.queue_socket, self._home.path).encode()
        if error.errno in _NOBODY:
            return b"no pyqueued at " + place
        return b"unable to reach pyqueued at " + place + b": " + reason(error).encode()

    async def send(self, message: MessageBuffer, envelope: bytes) -> QueueOutcome:
        """Send a message to pyqueued.  Raises Unavailable if nobody listens: then nothing was done."""
        if message.in_memory and message.size + len(envelope) <= INLINE_LIMIT:
            body = queue_wire.inline_body(envelope, message.content())
            return await self._ask(INLINE, body, (), INLINE_SECONDS)
        try:
            message_fd = message.descriptor()
        except OSError:
            return QueueOutcome(51)
        return await self.pass_file(message_fd, envelope)

    async def pass_file(self, message_fd: int, envelope: bytes) -> QueueOutcome:
        """Have pyqueued read a message from a descriptor, to its end.  Raises Unavailable."""
        try:
            with _Memory(envelope) as envelope_fd:
                return await self._ask(DESCRIPTORS, b"", (message_fd, envelope_fd), DESCRIPTORS_SECONDS)
        except OSError:
            return QueueOutcome(51)

    async def _ask(self, kind, body, descriptors, seconds):
        try:
            _, answer = await self._connection().ask(kind, body, descriptors, seconds)
            return QueueOutcome(*queue_wire.split_answer(answer))
        except TimedOut:
            return QueueOutcome(52)
        except (Gone, MalformedFrame):
            return QueueOutcome(81)
        except OSError as error:  # before anything was sent: no descriptor for the connection
            return QueueOutcome(51, why=self._why_not(error))

    def _connection(self):
        # pyqueued notes the uid of the process that connected: a connection must not outlive a change of it, or a fork
        owner = os.getpid(), os.geteuid()
        if self._owner != owner:
            self._channel, self._owner = self._driver.channel(self._home.queue_socket, queue_wire), owner
        return self._channel

    def _is_ours(self, program):
        if self._judged[0] != program:
            from pyqmail.system.processes import find_ours

            self._judged = program, find_ours(program, b".") == "pyqueue"
        return self._judged[1]

    async def _run(self, program, message, envelope, environ):
        from pyqmail.system.feeding import feed_bytes
        from pyqmail.system.processes import exit_code

        pids = []
        if not program:
            return QueueOutcome(120)
        try:
            feeds = {0: message.feed(), 1: feed_bytes(envelope)}
            status, text = await self._driver.run([program], environ, {}, TEXT_DESCRIPTOR, b".", pids.append, feeds)
        except OSError:
            return QueueOutcome(120)
        code = exit_code(status)
        if code == 0 and not feeds[0].was_read:
            # a program that takes a message reads it: this one may never have started the program it wraps
            return QueueOutcome(54, why=b"the program of QMAILQUEUE did not read the message to its end")
        return QueueOutcome(CRASHED if code is None else code, pids[0], text[:TEXT_BYTES])

    async def _write_ourselves(self, message, envelope, why):
        """Write each message in a process of its own: its pid is the qp."""
        from pyqmail.system.processes import exit_code

        try:
            pid, status = await self._driver.run_forked(lambda: self._queue_alone(message, envelope))
        except CannotFork:
            return QueueOutcome(62, why=why)
        code = exit_code(status)
        return QueueOutcome(0, pid) if code == 0 else QueueOutcome(CRASHED if code is None else code, why=why)

    def _queue_alone(self, message, envelope):
        from pyqmail.mail.queue.alone import queue_alone
        from pyqmail.mail.queue.origin import Origin

        try:
            fd = message.descriptor()
        except OSError:
            return 51
        try:
            return queue_alone(self._home, Origin(os.getuid(), os.getpid(), int(time.time())), fd, envelope)
        except Failure:
            return 111


class _Memory:
    """A descriptor at the start of these bytes, open within the block.  Raises OSError."""

    def __init__(self, data):
        self._data = data

    def __enter__(self):
        self._fd = os.memfd_create("envelope", os.MFD_CLOEXEC)
        write_all(self._fd, self._data)
        os.lseek(self._fd, 0, os.SEEK_SET)
        return self._fd

    def __exit__(self, *_):
        os.close(self._fd)


def _unlinked_file():
    """Return a new file without a name, close-on-exec.  Raises OSError."""
    place = os.environb.get(b"TMPDIR") or TEMPORARY_FOLDER
    try:
        return os.open(place, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError:
        name = place + b"/pyqmail.%d.%s" % (os.getpid(), os.urandom(8).hex().encode())
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(name)
        return fd
