"""Files that are made whole before they are visible, and names that are on disk.

A reader sees the old file or the new one, never a part; after a loss of power it is the same, if the file was synced
before it got its name.  The order is always

    1  write a new file under another name, in the same directory
    2  fsync the file
    3  rename it, or link it, to the name that readers know
    4  fsync the directory, where the caller promises somebody that the name is on disk

A crash between 1 and 3 leaves a file under the other name, which the next attempt replaces.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class NotWritten(Exception):
    """A file was not put in place: `step` is create, write or move, `error` the OSError."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(f"{step}: {error}")
        self.step, self.error = step, error


def sync_directory(path: str | bytes, is_strict: bool = True) -> None:
    """Put the names in a directory on disk.  Raises OSError.

    Without is_strict nothing is done in a directory that we may enter but not read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        if is_strict:
            raise
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(
    path: str | bytes,
    temporary: str | bytes,
    mode: int,
    fill: "Callable[[int], object]",
    dir_fd: int | None = None,
    is_synced: bool = True,
) -> None:
    """Make a file whole under the name temporary, then visible at path.  Steps 1 to 3; the directory is not synced.

    fill(fd) writes the content, and may raise OSError.  Paths are relative to dir_fd if it is given.  Without is_synced
    a loss of power may leave an empty file.  Raises NotWritten; temporary stays if it could be made.
    """
    try:
        fd = open_new(temporary, mode, dir_fd)
    except OSError as error:
        raise NotWritten("create", error) from None
    try:
        try:
            fill(fd)
            if is_synced:
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise NotWritten("write", error) from None
    try:
        os.rename(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError as error:
        raise NotWritten("move", error) from None


def open_new(path: str | bytes, mode: int, dir_fd: int | None = None, flags: int = os.O_NONBLOCK) -> int:
    """Return a descriptor, to be written, of a new file in the place of what had that name.  Raises OSError.

    No link is followed, and no other name of an older file is written to.
    """
    flags |= os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, mode, dir_fd=dir_fd)
    except FileExistsError:
        os.unlink(path, dir_fd=dir_fd)
    return os.open(path, flags, mode, dir_fd=dir_fd)
