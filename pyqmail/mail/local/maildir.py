"""Delivery into a Maildir: whole and on disk under tmp/, then visible under new/, its name on disk too.

    tmp/NAME written    a crash leaves a file that no reader looks at, and that readers remove after 36 hours
    fsync               the content is on disk
    linked into new/    the reader sees a whole message, or none
    tmp/NAME unlinked
    fsync of new/       the name is on disk.  Only then is the delivery a success

Several deliveries take the same steps together, each step for all of them before the next: one flush of the disk
serves all files, and one all names.  A file that a step fails for is left out of the steps that follow, and of the
success; the others go on.

Success makes the queue manager forget the message, so nothing that a power failure could still undo may count as one.
The last step is ours alone: without it a file system may lose the name, though not the content, of a message that the
sender believes delivered.

Names are SECONDS.M<microseconds>P<pid>Q<count>.HOST, unique even for many deliveries of one process in one
second; readers interpret nothing of a name but what follows a colon.  Source: maildir_child() of qmail-local
"""

import itertools
import os
import time

from pyqmail.base.failure import is_temporary
from pyqmail.system.descriptors import write_all
from pyqmail.system.durable import sync_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMIT_SECONDS = 86400
TRIES = 3

NO_DIRECTORY = b"Unable to chdir to maildir. (#4.2.1)"
TIMED_OUT = b"Timeout on maildir delivery. (#4.3.0)"
UNREADABLE = b"Unable to read message. (#4.3.0)"
TROUBLE = b"Temporary error on maildir delivery. (#4.3.0)"


class NotDelivered(Exception):
    """The message is not in the Maildir; `text` says why.  Trying again may help."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class MaildirNames:
    """Makes file names; one for each process."""

    def __init__(self) -> None:
        self._host = os.fsencode(os.uname().nodename)[:64]
        self._count = itertools.count(1)

    def next(self) -> bytes:
        nanoseconds = time.time_ns()
        seconds, microseconds = nanoseconds // 1_000_000_000, nanoseconds // 1000 % 1_000_000
        return b"%d.M%dP%dQ%d.%s" % (seconds, microseconds, os.getpid(), next(self._count), self._host)


class MaildirFile:
    """A message under tmp/ of a Maildir, written and not yet on disk.  size: its bytes, heading included.

    discard() leaves nothing in tmp/, whatever has been done; it may be called again.
    """

    __slots__ = ("directory", "size", "_name", "_fd")

    def __init__(self, directory: bytes, name: bytes, fd: int) -> None:
        self.directory, self.size, self._name, self._fd = directory, 0, name, fd

    def fileno(self) -> int:
        return self._fd

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        write_all(self._fd, data)
        self.size += len(data)

    def close(self) -> None:
        """Raises OSError; the file is closed all the same."""
        fd, self._fd = self._fd, -1
        os.close(fd)

    def link(self) -> None:
        """Make it visible.  Raises OSError."""
        os.link(self._path(b"tmp/"), self._path(b"new/"))

    def discard(self) -> None:
        if self._fd >= 0:
            try:
                self.close()
            except OSError:
                pass
        if self._name:
            name, path = self._name, self._path(b"tmp/")
            self._name = b""
            try:
                os.unlink(path)
            except OSError:
                self._name = name

    def _path(self, part):
        return self.directory + part + self._name


def deliver(directory: bytes, heading: bytes, message, names: MaildirNames) -> None:
    """Put a message into the Maildir directory, which ends with a slash, as it stands behind heading.

    message yields its content in blocks, which may raise OSError.  Raises NotDelivered.  Another exception, for example
    that of a time limit, leaves nothing in tmp/ either.
    """
    if store([write(directory, heading, message, names)]):
        raise NotDelivered(TROUBLE)


def write(directory: bytes, heading: bytes, message, names: MaildirNames) -> MaildirFile:
    """Write a message under tmp/; arguments and exceptions as of deliver().  It is to be stored or discarded."""
    try:
        file = _create(directory, names)
    except OSError:
        raise NotDelivered(_why(directory)) from None
    is_written = False
    try:
        for block in _read(message):
            file.write(heading + block)
            heading = b""
        if heading:
            file.write(heading)
        is_written = True
    except OSError:
        raise NotDelivered(TROUBLE) from None
    finally:
        if not is_written:
            file.discard()
    return file


def flush_each(fds: "Sequence[int]") -> set[int]:
    """fsync each; return those that are not safely on disk."""
    unsynced = set()
    for fd in fds:
        try:
            os.fsync(fd)
        except OSError:
            unsynced.add(fd)
    return unsynced


def store(
    files: "Sequence[MaildirFile]", flush: "Callable[[Sequence[int]], set[int]]" = flush_each
) -> "set[MaildirFile]":
    """Put files on disk, make them visible in their order, and then put their names on disk.

    flush does what flush_each() does, in less time for many.  Returns those that may not be there, for whatever reason;
    what came of one says nothing of the others.  Nothing stays in tmp/, whatever is raised.
    """
    try:
        unsynced = flush([file.fileno() for file in files])
        lost = {file for file in files if file.fileno() in unsynced}
        lost |= {file for file in files if not (_is_closed(file) and file not in lost and _is_linked(file))}
    finally:
        for file in files:
            file.discard()
    for directory in dict.fromkeys(file.directory for file in files if file not in lost):
        try:
            # new/ may be entered but not read: then as the original, which never does this
            sync_directory(directory + b"new", is_strict=False)
        except OSError:
            lost.update(file for file in files if file.directory == directory)
    return lost


def _is_closed(file):
    try:
        file.close()
    except OSError:
        return False
    return True


def _is_linked(file):
    try:
        file.link()
    except OSError:
        return False
    return True


def _create(directory, names):
    """Return a new MaildirFile.  Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    for attempt in range(TRIES):
        name = names.next()
        try:
            return MaildirFile(directory, name, os.open(directory + b"tmp/" + name, flags, 0o644))
        except FileExistsError:
            if attempt == TRIES - 1:
                raise
    raise AssertionError


def _read(message):
    try:
        yield from message
    except OSError:
        raise NotDelivered(UNREADABLE) from None


def _why(directory):
    """Return the text for a Maildir in which no file can be made."""
    try:
        os.stat(directory + b".")
    except OSError as error:
        return TROUBLE if is_temporary(error) else NO_DIRECTORY
    return TROUBLE
