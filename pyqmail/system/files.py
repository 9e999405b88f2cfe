"""Names in directories that others can change: following no links of theirs, and who could change a file."""

import errno
import os
import stat

_MAX_LINKS = 40  # as the kernel
_OVERFLOW_UID = 65534  # shown for a user without a number in our user namespace


def is_shared(directory: int | str) -> bool:
    """Return whether others than we can make names in a directory: then follow no link there.  Raises OSError.

    Root's files may stand in a directory of some account: its links must not make root write elsewhere.
    """
    found = os.stat(directory)
    return found.st_uid != os.geteuid() or bool(found.st_mode & 0o022)


def open_shared(path: str, flags: int, mode: int) -> int:
    """os.open(), but in a directory that is shared no link is followed and no file with another name taken: EPERM."""
    shared = is_shared(os.path.dirname(path) or ".")
    fd = os.open(path, flags | (os.O_NOFOLLOW if shared else 0), mode)
    if shared and os.fstat(fd).st_nlink > 1:
        os.close(fd)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    return fd


class Changeable:
    """Finds what others than root can change.  It remembers what it has seen: for one look at many files."""

    def __init__(self) -> None:
        self._seen: dict = {}  # name -> why it can be changed, where it leads as a link; each or None
        # where root itself has no number in our user namespace, no user can be told from it
        self._trusted = {0, _OVERFLOW_UID} if os.stat("/").st_uid == _OVERFLOW_UID else {0}

    def reason(self, path: bytes) -> str | None:
        """Return why somebody else than root can change what an absolute path leads to: `/a/b belongs to uid 7`.

        None: no one can, or nothing is there.  Each directory on the way counts, and each that a link leads through.
        """
        here, todo, links = b"/", path.split(b"/")[::-1], 0
        why = self._look(here)[0]
        while todo and not why and links <= _MAX_LINKS:
            name = todo.pop()
            if name == b"..":
                here = os.path.dirname(here)
            if name in (b"", b".", b".."):
                continue
            place = os.path.join(here, name)
            why, target = self._look(place)
            if target is None:
                here = place
                continue
            links += 1
            here = b"/" if target.startswith(b"/") else here
            todo += target.split(b"/")[::-1]
        return why

    def _look(self, place):
        if place not in self._seen:
            try:
                found = os.lstat(place)
                target = os.readlink(place) if stat.S_ISLNK(found.st_mode) else None
                self._seen[place] = self._judge(place, found), target
            except OSError:
                self._seen[place] = None, None  # it is not there, or not for us
        return self._seen[place]

    def _judge(self, place, found):
        is_link = stat.S_ISLNK(found.st_mode)
        if is_link and not _is_sticky(os.lstat(os.path.dirname(place))):
            return None  # who may replace it is said by its directory; the link itself cannot be written to
        shown = os.fsdecode(place)
        if found.st_uid not in self._trusted:
            return f"{shown} belongs to uid {found.st_uid}"
        if is_link or _is_sticky(found):
            return None  # only the owners of names can replace them there
        if found.st_mode & stat.S_IWOTH:
            return f"{shown} can be changed by everybody"
        if found.st_mode & stat.S_IWGRP and found.st_gid:
            return f"{shown} can be changed by group {found.st_gid}"
        return None


def _is_sticky(found):
    return stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
