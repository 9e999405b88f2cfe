"""Delivery into an mbox file: locked with flock, appended in the mboxrd form, on disk before success.

    lock         flock, for 30 seconds at most; a file that was replaced while we waited is opened again
    append       heading, content with `>` before each `From `, a blank line
    fsync        of the file; of its directory too if the file was empty, as its name may be new
    on failure   the file gets the length back that it had under the lock, so that readers find no half message

Success makes the queue manager forget the message: so nothing that a power failure could still undo may count as one.
A crash in the middle leaves the start of a message at the end of the file, and the delivery is made again behind it.

Source: mailfile() of qmail-local
"""

import errno
import fcntl
import os
import stat

from pyqmail.base.failure import reason
from pyqmail.system.descriptors import write_all
from pyqmail.system.durable import sync_directory

LOCK_SECONDS = 30

LOCKED = b"File has been locked for 30 seconds straight. (#4.3.0)"
_FROM = b"From "


class NotAppended(Exception):
    """The message is not in the file; `text` says why.  Trying again may help."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class LockTimeout(Exception):
    """What the caller's limit(seconds) raises when the time has passed."""


def deliver(path: bytes, heading: bytes, message, limit) -> None:
    """Append one message to the file, made with mode 0600 if it is not there: heading, content quoted, blank line.

    message yields the content in blocks, which may raise OSError.  limit(seconds) is a context that raises
    LockTimeout after so many seconds.  Raises NotAppended, and the file is as long as before.
    """
    fd, locked = _open_locked(path, limit)
    try:
        before = os.lseek(fd, 0, os.SEEK_END) if locked and _is_regular(fd) else None
        try:
            _append(fd, heading, _read(message))
            _sync(fd)
            if before == 0:
                sync_directory(os.path.dirname(path) or b".", is_strict=False)  # the file may be new
        except (OSError, NotAppended) as trouble:
            if before is not None:
                _truncate(fd, before)
            if isinstance(trouble, NotAppended):
                raise
            raise NotAppended(b"Unable to write %s: %s. (#4.3.0)" % (path, reason(trouble).encode())) from None
    finally:
        os.close(fd)


class Quoting:
    """Puts one more `>` before each line that is any number of `>` and `From `.

    receive() takes content in blocks and returns it quoted; finish() returns what is left, a newline included if
    the last line had none.  Between blocks it holds at most four bytes.
    """

    def __init__(self) -> None:
        self._held = b""
        self._quotable = True  # nothing but `>` since the last newline
        self._ended = True  # with a newline, or nothing yet

    def receive(self, block: bytes) -> bytes:
        data = self._held + block
        quoted: list[bytes] = []
        done, at = 0, data.find(_FROM)
        while at >= 0:
            start = at
            while start and data[start - 1] == 62:
                start -= 1
            if data[start - 1] == 10 if start else self._quotable:
                quoted += (data[done:at], b">")
                done = at
            at = data.find(_FROM, at + 5)
        self._held = self._start_of_from(data)
        whole = data[: len(data) - len(self._held)]
        self._quotable = self._is_quotable(whole)
        if whole:
            self._ended = whole.endswith(b"\n")
        quoted.append(whole[done:])
        return b"".join(quoted)

    def finish(self) -> bytes:
        if self._held:
            return self._held + b"\n"
        return b"" if self._ended else b"\n"

    def _start_of_from(self, data):
        """Return the last bytes of data if they may become a `From ` that needs quoting."""
        tail = data[-4:]
        for size in range(len(tail), 0, -1):
            if _FROM.startswith(tail[-size:]):
                return tail[-size:] if self._is_quotable(data[:-size]) else b""
        return b""

    def _is_quotable(self, data):
        rest = data.rstrip(b">")
        return rest.endswith(b"\n") if rest else self._quotable


def _open_locked(path, limit):
    """Return (descriptor, whether it is locked) of the file that has this name once the lock is ours."""
    while True:
        try:
            # non-blocking: a FIFO without a reader fails at once instead of stopping the delivery
            flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise NotAppended(b"Unable to open %s: %s. (#4.2.1)" % (path, reason(error).encode())) from None
        try:
            locked = _lock(fd, limit)
            if not locked or _is_still(fd, path):
                return fd, locked
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # a reader has replaced the file while we waited


def _lock(fd, limit):
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        pass
    except OSError:
        return False
    try:
        with limit(LOCK_SECONDS):
            fcntl.flock(fd, fcntl.LOCK_EX)
    except LockTimeout:
        raise NotAppended(LOCKED) from None
    except OSError:
        return False
    return True


def _is_still(fd, path):
    ours = os.fstat(fd)
    try:
        now = os.stat(path)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (now.st_dev, now.st_ino)


def _append(fd, heading, blocks):
    quoting, piece = Quoting(), heading
    for block in blocks:
        write_all(fd, piece + quoting.receive(block))
        piece = b""
    write_all(fd, piece + quoting.finish() + b"\n")


def _read(message):
    try:
        yield from message
    except OSError as error:
        raise NotAppended(b"Unable to read message: %s. (#4.3.0)" % reason(error).encode()) from None


def _sync(fd):
    try:
        os.fsync(fd)
    except OSError as error:
        # /dev/null and pipes have no disk; a file does
        if error.errno not in (errno.EINVAL, errno.EROFS) or _is_regular(fd):
            raise


def _is_regular(fd):
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _truncate(fd, size):
    try:
        os.ftruncate(fd, size)
    except OSError:
        pass  # the delivery is deferred anyway
