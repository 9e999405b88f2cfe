"""Files where somebody else may have been before: what is not followed, and who else could change them."""

import os
import stat

_MAX_LINKS = 40  # as the kernel
_OVERFLOW_UID = 65534  # shown for whoever has no number in our user namespace


def open_new(path: str | bytes, mode: int, dir_fd: int | None = None) -> int:
    """Return a descriptor, to be written, of a new file in the place of what had that name.  Raises OSError.

    No link is followed, and no other name of an older file is written to.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags, mode, dir_fd=dir_fd)
    except FileExistsError:
        os.unlink(path, dir_fd=dir_fd)
    return os.open(path, flags, mode, dir_fd=dir_fd)


class Changeable:
    """Finds what others than root can change.  It remembers what it has seen: for one look at many files."""

    def __init__(self) -> None:
        self._seen = {}
        # where root itself has no number in our user namespace, nobody can be told from it
        self._trusted = {0, _OVERFLOW_UID} if os.stat("/").st_uid == _OVERFLOW_UID else {0}

    def reason(self, path: bytes) -> str | None:
        """Return why somebody else than root can change what an absolute path leads to: `/a/b belongs to uid 7`.

        None: nobody can, or nothing is there.  Each directory on the way counts, and each that a link leads through.
        """
        for place in _way(path):
            if place not in self._seen:
                self._seen[place] = self._judge(place)
            if self._seen[place]:
                return self._seen[place]
        return None

    def _judge(self, place):
        try:
            found = os.lstat(place)
            if stat.S_ISLNK(found.st_mode) and not _is_sticky(os.lstat(os.path.dirname(place))):
                return None  # who may replace it is said by its directory; the link itself cannot be written to
        except OSError:
            return None  # it is not there, or not for us
        shown = os.fsdecode(place)
        if found.st_uid not in self._trusted:
            return f"{shown} belongs to uid {found.st_uid}"
        if stat.S_ISLNK(found.st_mode) or _is_sticky(found):
            return None  # only the owners of names can replace them there
        if found.st_mode & stat.S_IWOTH:
            return f"{shown} can be changed by everybody"
        if found.st_mode & stat.S_IWGRP and found.st_gid:
            return f"{shown} can be changed by group {found.st_gid}"
        return None


def _is_sticky(found):
    return stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX


def _way(path):
    """Yield / and every name on the way to a file: directories, links, what they lead through, and the file."""
    here, todo, links = b"/", path.split(b"/")[::-1], 0
    yield here
    while todo:
        name = todo.pop()
        if name == b"..":
            here = os.path.dirname(here)
        if name in (b"", b".", b".."):
            continue
        place = os.path.join(here, name)
        yield place
        try:
            target = os.readlink(place)
        except OSError:
            here = place
            continue
        links += 1
        if links > _MAX_LINKS:
            return
        here = b"/" if target.startswith(b"/") else here
        todo += target.split(b"/")[::-1]
