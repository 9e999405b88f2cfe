"""Notices of changes in directories, from the kernel: nothing is polled, nothing is missed.

inotify rather than F_NOTIFY of the standard library: that one takes a descriptor for each directory and a signal for
each change, and does not say where.  inotify(7) costs one descriptor, 2 ms and 0.4 MB.  A change made before watch()
returned gives no notice: watch first, then look.
"""

import os
import select
import sys

from pyqmail.system.libc import CLibrary

_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_CHANGES = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_CLOSE_WRITE = 0x8
_OVERFLOW, _IGNORED = 0x4000, 0x8000
_HEAD_BYTES = 16  # an event: number, mask, cookie, length of the name that follows; 4 bytes each
_BLOCK_BYTES = 16384
_SHARED_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "fuse", "virtiofs", "vboxsf")


class Inotify:
    """Watches directories for names that come, go or are replaced; for content if that is asked for.

    Many changes of one directory before they are taken are one notice.  fileno() is readable while there are some.
    Close-on-exec; a forked child that does not use it closes it.  Raises OSError where the kernel has none to give
    (ENOSYS, EMFILE: too many users of it): fall back to looking now and then.
    """

    def __init__(self) -> None:
        self._library = CLibrary()
        self._fd = self._library.call("inotify_init1", _NONBLOCK_CLOEXEC)
        self._numbers: set[int] = set()

    def fileno(self) -> int:
        return self._fd

    def watch(self, path: str | bytes, with_content: bool = False) -> int:
        """Watch a directory; return the number it has in take().  Again, or by another name: the same number.

        with_content: a file in it that is closed after it was written counts as a change, too.
        Raises OSError: ENOENT, EACCES, or ENOSPC when this user watches too many.
        """
        changes = _CHANGES | _CLOSE_WRITE if with_content else _CHANGES
        number = self._library.call("inotify_add_watch", self._fd, os.fsencode(path), changes)
        self._numbers.add(number)
        return number

    def forget(self, number: int) -> None:
        """Stop watching; one that is gone already is none the less forgotten."""
        self._numbers.discard(number)
        try:
            self._library.call("inotify_rm_watch", self._fd, number)
        except OSError:
            pass

    def take(self) -> set[int]:
        """Return the numbers of the directories that changed since the last time; never waits.

        A directory that was removed is in it for the last time, and must be watched again should it come back.  When
        the kernel lost count, all are in it.
        """
        changed: set[int] = set()
        while True:
            try:
                block = os.read(self._fd, _BLOCK_BYTES)
            except BlockingIOError:
                return changed
            for number, mask in _events(block):
                if mask & _OVERFLOW:
                    changed |= self._numbers
                elif number in self._numbers:
                    changed.add(number)
                    if mask & _IGNORED:
                        self._numbers.discard(number)

    def wait(self, seconds: float | None = None) -> set[int]:
        """Wait for a change, at most so long (None: for ever), and take(); empty when the time is over."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)
        return self.take()

    def close(self) -> None:
        os.close(self._fd)


def _events(block: bytes):
    """Yield (number, mask) of each event in what the kernel gave, always whole events."""
    at = 0
    while at < len(block):
        number = int.from_bytes(block[at : at + 4], sys.byteorder, signed=True)
        yield number, int.from_bytes(block[at + 4 : at + 8], sys.byteorder)
        at += _HEAD_BYTES + int.from_bytes(block[at + 12 : at + 16], sys.byteorder)


def is_changed_elsewhere(path: str | bytes) -> bool:
    """Return whether other machines can change what is in a directory: the kernel gives no notice of that.

    Raises OSError if it is not there.
    """
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                place, _, system = line.partition(" - ")  # see proc(5)
                if place.split()[2] == number:
                    return system.split()[0].startswith(_SHARED_FILE_SYSTEMS)
    except OSError:
        pass  # no /proc: believe in notices
    return False
