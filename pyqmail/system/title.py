"""What ps, pidof and systemctl show of a process: its name and its command line.

A program of ours was started as an interpreter; one that goes on as the next of a chain, or is forked warm, as another
program.  The name stands in /proc/self/comm.  The words are memory of the process, where exec put them; they are
written over through /proc/self/mem.  What is longer than the words at exec is cut, and what is shorter filled with NUL.

After a change of uid the files in /proc/self are root's: what was opened before can still be written, and a process
that has loaded the C library for other reasons has that do it.  Where there is no /proc, or it may not be written, all
stays as it is.
"""

import os
import sys

_NAME_BYTES = 15
_PR_SET_NAME = 15
_STAT_BYTES = 4096


class Title:
    """The means to show what this process is: files that lead to this process, in any process that holds them."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._name = _open("/proc/self/comm", os.O_WRONLY)
        self._memory = _open("/proc/self/mem", os.O_RDWR)

    def show(self, words) -> None:
        """Show the command line words, str or bytes, from now on."""
        command = [os.fsencode(word) for word in words]
        command[0] = os.path.basename(command[0])
        self._show_name(command[0][:_NAME_BYTES])
        self._show_words(command)

    def close(self) -> None:
        for fd in (self._name, self._memory):
            if fd is not None:
                os.close(fd)

    def _show_name(self, name):
        if self._name is not None:
            _write(self._name, name)
        elif library := _library():
            library.prctl(_PR_SET_NAME, name + b"\0")

    def _show_words(self, command):
        library = None if self._memory is not None else _library()
        if self._memory is None and library is None:
            return
        place = words_place()
        if place is None:
            return
        text = fitted(command, place[1] - place[0])
        if library is None:
            _write(self._memory, text, place[0])
        else:
            library.overwrite(place[0], text)


# The Title of a process that has given up the right to make one.  A chain goes on through programs that know nothing of
# one another (pysetuidgid, then any other): only the process itself can keep it for them
_HELD: list[Title] = []


def hold_title() -> None:
    """Keep what show_command() needs, up to the end or an exec: before a change of uid, in a chain that goes on."""
    if not _HELD or _HELD[0].pid != os.getpid():
        _HELD[:] = [Title()]


def show_command(words) -> None:
    """Show that this process is the program of these words."""
    if _HELD and _HELD[0].pid == os.getpid():
        _HELD[0].show(words)
        return
    title = Title()
    title.show(words)
    title.close()


def show_in_fork(words: list[bytes], place: tuple[int, int] | None) -> None:
    """Do what show_command() does, in a forked child, and copy few of the parent's pages.

    words: a program's name without directories, and its arguments.  place: the parent's words_place(), where they are
    in a fork, too.
    """
    name, memory = _open("/proc/self/comm", os.O_WRONLY), _open("/proc/self/mem", os.O_RDWR)
    if place is None or name is None or memory is None:
        show_command(words)
    else:
        _write(name, words[0][:_NAME_BYTES])
        _write(memory, fitted(words, place[1] - place[0]), place[0])
    for fd in (name, memory):
        if fd is not None:
            os.close(fd)


def words_place() -> tuple[int, int] | None:
    """Return the addresses where the words of the command line begin and end, None if that cannot be known.

    proc(5): fields 48 and 49 of /proc/self/stat; 0 where we may not know.
    """
    try:
        fd = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)  # open() would bring io's buffers
        try:
            start, end = map(int, os.read(fd, _STAT_BYTES).rpartition(b")")[2].split()[45:47])
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None
    return (start, end) if 0 < start < end else None


def fitted(command: list[bytes], size: int) -> bytes:
    """Return the words as the kernel keeps them, in so many bytes; the last is NUL, or ps would read on."""
    return b"".join(word + b"\0" for word in command)[: size - 1].ljust(size, b"\0")


def _library():
    """Return the module that calls the C library, if that is loaded: nothing is read from disk.  Otherwise None."""
    if "_ctypes" not in sys.modules:
        return None
    from pyqmail.system import libc

    return libc


def _open(path, flags):
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return None


def _write(fd, data, place=None):
    try:
        os.write(fd, data) if place is None else os.pwrite(fd, data, place)
    except OSError:
        pass
