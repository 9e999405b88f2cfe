"""Show the input of descriptor 0 in the process table.

The last ARG is overwritten with dots; the input moves through it from right to left and can be seen with ps.  Its first
three bytes stay dots; NUL is left out.  pysvscanboot shows the last error messages of pysvscan this way.
"""

import errno
import os
import sys

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Rest
from pyqmail.system.command_line import Program
from pyqmail.system.initial import initial_strings
from pyqmail.system.processes import execute, starter, stop_ignoring
from pyqmail.system.title import words_place

FIXED = 3  # first bytes that are dots for ever
SHORTEST = 5

PROGRAM = Program(
    name="pyreadproctitle",
    summary="show errors in the process table",
    original="readproctitle",
    usage="readproctitle arg ... last",
    arguments=[
        Rest("words", "what ps shows; the last one, of 5 bytes or more, is where the text moves", metavar="arg")
    ],
    exits={
        0: "end of input",
        100: "no last argument of 5 bytes or more; no message is written",
        111: "descriptor 0 could not be read, without a message; or the memory of the arguments could not be written",
    },
    see=["pysvscanboot(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, show)


def show(call) -> int:
    last = os.fsencode(call.words[-1]) if call.words else b""
    if len(last) < SHORTEST:
        return 100
    title = open_title(call.words, last)
    text = b"." * (len(last) - FIXED)
    title(b"." * FIXED + text)
    try:
        while block := os.read(0, 65536):
            text = (text + block.replace(b"\0", b""))[-len(text) :]
            title(b"." * FIXED + text)
    except OSError:
        return 111
    return 0


def open_title(words, last):
    """Return a function that overwrites the last argument where ps finds it.

    If this process was started as something else (by pysetuidgid, which goes on as us without exec) and ps does not
    show our words, this execs a fresh one.  Raises Temporary if that did not help either.
    """
    command = [os.fsencode(sys.executable), b"-I", starter(PROGRAM.name), *map(os.fsencode, words)]
    name, arguments = command[2].rpartition(b"/")[2] + b"\0", b"".join(word + b"\0" for word in command[3:])
    started_as, begin = _arguments()
    try:
        if not started_as.startswith(name + arguments) and not started_as.endswith(b"\0" + arguments):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        write = _open_memory()
        # the last one at the end of all: what was longer is a gap behind the name
        write(name.ljust(len(started_as) - len(arguments), b"\0") + arguments, begin)
    except OSError as error:
        if started_as == b"\0".join(command) + b"\0":
            raise Temporary("unable to open /proc/self/mem", error) from None
        stop_ignoring()
        raise Temporary("unable to run pyreadproctitle", execute(command, os.environb)) from None
    place = begin + len(started_as) - 1 - len(last)
    return lambda text: write(text, place)


def _arguments():
    """Return what ps shows as the words of this process, and where they begin in memory.  Raises Temporary."""
    place = words_place()
    if place is not None:
        with open("/proc/self/cmdline", "rb") as file:
            return file.read(), place[0]
    try:
        begin, arguments, _ = initial_strings()  # no /proc
    except OSError as error:
        raise Temporary("unable to find my arguments", error) from None
    return arguments, begin


def _open_memory():
    """Return a function that writes bytes to an address.  Raises OSError."""
    try:
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        import ctypes  # it is there: initial_strings() had it

        return lambda text, place: ctypes.memmove(place, text, len(text))
    return lambda text, place: os.pwrite(memory, text, place)
