"""The queue on disk: its file names, the states a message can be in, and who holds which lock.

mess/N/ID    the message; N is ID modulo the split, ID the inode number of this very file when it was made
intd/ID      the envelope while it is written; todo/ID the same inode once it is whole
info/N/ID    envelope sender; its mtime is the birth of the message
local/N/ID, remote/N/ID   recipients, T not done, D done;  bounce/ID   what failed so far
lock/sendmutex  held by the running queue manager;  lock/trigger  the FIFO that wakes it
lock/pyqueued   held by pyqueued for life, shared by whoever writes the queue without it
"""

import errno
import fcntl
import os

from pyqmail.base.failure import Permanent, Temporary
from pyqmail.base.numbers import is_number
from pyqmail.system.durable import sync_directory
from pyqmail.system.home import count_split

FILES = ("mess", "intd", "todo", "info", "local", "remote", "bounce")

# What exists in which state, in the order of FILES: + yes, - no, ? either.
STATES = {
    "S1": "-------",  # the number is free
    "S2": "+------",  # being received, or being removed
    "S3": "++-----",  # the envelope is being received
    "S4": "+?+???-",  # queued: responsibility accepted
    "S5": "+--+???",  # preprocessed
}

# (state, what is done) -> state.  One step is one operation on the directory; a crash leaves one of the states.
STEPS = {
    ("S1", "link mess"): "S2",
    ("S2", "create intd"): "S3",
    ("S3", "link todo"): "S4",  # the message is accepted
    ("S4", "unlink todo"): "S5",  # it is preprocessed; info, local, remote were made before
    ("S5", "unlink info"): "S2",  # it is done
    ("S3", "unlink intd"): "S2",
    ("S2", "unlink mess"): "S1",
}


def state_of(present) -> str | None:
    """Return the state in which exactly the files `present` (names of FILES) exist, None if there is no such state."""
    for state, pattern in STATES.items():
        if all(mark == "?" or (mark == "+") == (name in present) for name, mark in zip(FILES, pattern, strict=True)):
            return state
    return None


class QueueNames:
    """The path of each file of a message, given the queue's path and into how many directories it is split."""

    __slots__ = ("queue", "split")

    def __init__(self, queue_path: str, split: int) -> None:
        self.queue, self.split = queue_path, split

    def below(self, number: int) -> str:
        """Return `N/ID`: the path below mess, info, local or remote; what a spawner is told."""
        return f"{number % self.split}/{number}"

    def split_file(self, folder: str, number: int) -> str:
        """Return the path below mess, info, local or remote, whose name folder is."""
        return f"{self.queue}/{folder}/{number % self.split}/{number}"

    def mess(self, number: int) -> str:
        return f"{self.queue}/mess/{number % self.split}/{number}"

    def info(self, number: int) -> str:
        return f"{self.queue}/info/{number % self.split}/{number}"

    def local(self, number: int) -> str:
        return f"{self.queue}/local/{number % self.split}/{number}"

    def remote(self, number: int) -> str:
        return f"{self.queue}/remote/{number % self.split}/{number}"

    def intd(self, number: int) -> str:
        return f"{self.queue}/intd/{number}"

    def todo(self, number: int) -> str:
        return f"{self.queue}/todo/{number}"

    def bounce(self, number: int) -> str:
        return f"{self.queue}/bounce/{number}"

    def pid(self, name: str) -> str:
        return f"{self.queue}/pid/{name}"

    @property
    def trigger(self) -> str:
        return f"{self.queue}/lock/trigger"

    @property
    def sendmutex(self) -> str:
        return f"{self.queue}/lock/sendmutex"

    @property
    def writer_lock(self) -> str:
        return f"{self.queue}/lock/pyqueued"

    def state(self, number: int) -> str | None:
        """Return the state a message is in on disk, None if it is in none of them."""
        return state_of({name for name in FILES if os.path.lexists(getattr(self, name)(number))})


def is_message_name(name: str | bytes) -> bool:
    """Return whether a directory entry is a message: ASCII digits only.  Everything else is left alone."""
    return is_number(name)


def find_queue(queue_path: str) -> QueueNames:
    """Return the names of the queue at queue_path, its split counted on disk.

    Raises Temporary if it cannot be read, Permanent if it is not laid out as we know it.
    """
    try:
        split = count_split(queue_path)
    except OSError as error:
        raise Temporary(f"unable to read {queue_path}/mess", error) from None
    if split == 0:
        raise Temporary(f"unable to use {queue_path}/mess: it has no numbered directories")
    if os.path.isdir(f"{queue_path}/todo/0"):
        raise Permanent(f"unable to use {queue_path}: its todo is split (big-todo patch)")
    return QueueNames(queue_path, split)


def pull_trigger(names: QueueNames) -> None:
    """Wake the queue manager.  Whatever goes wrong is nothing: it looks by itself now and then."""
    try:
        fd = os.open(names.trigger, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, b"\0")
    except OSError:
        pass
    finally:
        os.close(fd)


def hold_writer_lock(names: QueueNames, alone: bool) -> int | None:
    """Take lock/pyqueued, alone (pyqueued) or shared (who writes without it); returns the descriptor that holds it.

    A new file's name is on disk before it is used: the next qp stands in it.  Returns None if another holds it.  Raises
    OSError if the file cannot be opened or made.
    """
    fd = os.open(names.writer_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not os.fstat(fd).st_size:
            sync_directory(os.path.dirname(names.writer_lock))
        fcntl.flock(fd, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return fd


def is_surely_gone(path: str) -> bool:
    """Return whether a file is not there though its directory is; False if that cannot be known.

    Without the directory it is rather the file system that is not mounted, or the split that is counted wrong.
    """
    try:
        os.stat(path)
    except FileNotFoundError:
        return os.path.isdir(os.path.dirname(path))
    except OSError:
        pass
    return False
