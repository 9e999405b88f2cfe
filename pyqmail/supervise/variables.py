"""Changes to an environment, and a directory that holds them."""

import os

from pyqmail.base.environment import merged
from pyqmail.base.failure import Temporary
from pyqmail.system.descriptors import read_all, read_file


def merge(environ, changes) -> dict[bytes, bytes]:
    """Return environ after changes, in the originals' order (base/environment.py): (name, value), None to remove it.

    A name that contains = is split there.
    """
    return merged(environ, [_split(name, value) for name, value in changes])


def _split(name, value):
    name, split, more = name.partition(b"=")
    if split:
        value = more if value is None else more + b"=" + value
    return name, value


def read_directory(path: str) -> list[tuple[bytes, bytes | None]]:
    """Return the changes that a directory holds: for each file, in the directory's order, its name and its value.

    The value is the file's first line without blanks at its end, NUL standing for LF in it; an empty file means
    None.  Names that start with a dot do not count, nor do links that lead nowhere.  Afterwards the working directory
    is the same.  Raises Temporary.
    """
    here = _open_here()
    try:
        os.chdir(path)
    except OSError as error:
        raise Temporary(f"unable to switch to directory {path}", error) from None
    changes = _read_files(b".", path, read_file)
    try:
        os.fchdir(here)
    except OSError as error:
        raise Temporary("unable to switch to starting directory", error) from None
    os.close(here)
    return changes


def _open_here():
    try:
        return os.open(".", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise Temporary("unable to switch to current directory", error) from None


def read_directory_from(here: int, path: str) -> list[tuple[bytes, bytes | None]]:
    """Return the same of a directory whose path starts at the open directory here, without changing to it."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
    except OSError as error:
        raise Temporary(f"unable to switch to directory {path}", error) from None
    try:
        return _read_files(folder, path, lambda name: _read_at(folder, name))
    finally:
        os.close(folder)


def _read_files(folder, path, read):
    """Return the changes in a folder.  read(name) returns a file's content, or raises OSError."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise Temporary(f"unable to read directory {path}", error) from None
    changes = []
    for name in map(os.fsencode, names):
        if name.startswith(b"."):
            continue
        try:
            changes.append((name, _value(read(name))))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Temporary(f"unable to read {path}/{os.fsdecode(name)}", error) from None
    return changes


def _read_at(folder, name):
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        return read_all(fd)
    finally:
        os.close(fd)


def _value(content: bytes) -> bytes | None:
    if not content:
        return None
    # blanks before NUL: a NUL protects the blanks in front of it
    return content.partition(b"\n")[0].rstrip(b" \t").replace(b"\0", b"\n")
