"""Delivery into a Maildir: whole and on disk under tmp/, then visible under new/, its name on disk too.

    tmp/NAME written    a crash leaves a file that no reader looks at, and that readers remove after 36 hours
    fsync               the content is on disk
    linked into new/    the reader sees a whole message, or none
    tmp/NAME unlinked
    fsync of new/       the name is on disk.  Only then is the delivery a success

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


def deliver(directory: bytes, heading: bytes, message, names: MaildirNames) -> None:
    """Put a message into the Maildir directory, which ends with a slash, as it stands behind heading.

    message yields its content in blocks, which may raise OSError.  Raises NotDelivered.  Another exception, for example
    that of a time limit, leaves nothing in tmp/ either.
    """
    try:
        fd, name = _create(directory, names)
    except OSError:
        raise NotDelivered(_why(directory)) from None
    temporary = directory + b"tmp/" + name
    try:
        _fill(fd, heading, message)
        os.link(temporary, directory + b"new/" + name)
    except OSError:
        raise NotDelivered(TROUBLE) from None
    finally:
        _unlink(temporary)
    try:
        # new/ may be entered but not read: then as the original, which never does this
        sync_directory(directory + b"new", is_strict=False)
    except OSError:
        raise NotDelivered(TROUBLE) from None


def _create(directory, names):
    """Return (descriptor, name) of a new file in tmp/."""
    for attempt in range(TRIES):
        name = names.next()
        try:
            return os.open(directory + b"tmp/" + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), name
        except FileExistsError:
            if attempt == TRIES - 1:
                raise
    raise AssertionError


def _fill(fd, heading, message):
    """Write the message, sync it and close the file."""
    try:
        for block in _read(message):
            write_all(fd, heading + block)
            heading = b""
        if heading:
            write_all(fd, heading)
        os.fsync(fd)
    finally:
        os.close(fd)


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


def _unlink(path):
    try:
        os.unlink(path)
    except OSError:
        pass
