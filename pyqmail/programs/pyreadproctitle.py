"""Show what comes on descriptor 0 in the process table.

The last ARG is overwritten with dots; what is read moves through it from right to left and can be seen with ps.  Its
first three bytes stay dots; NUL is left out.  pysvscanboot shows the last complaints of pysvscan this way.
"""

import os
import sys

from pyqmail.base.failure import Temporary
from pyqmail.base.initial import initial_strings
from pyqmail.base.options import Program, Rest
from pyqmail.system.processes import execute, starter, stop_ignoring

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
        100: "no last argument of 5 bytes or more; nothing is said",
        111: "descriptor 0 could not be read; nothing is said.  Or the memory of the arguments could not be written",
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
    """Return a function that overwrites the last argument where the kernel keeps it for ps.

    If this process was started as something else (by pysetuidgid, which goes on as us without exec), it has no memory
    of that argument or may not write it: then this execs a fresh one.  Raises Temporary if that did not help either.
    """
    command = [os.fsencode(sys.executable), starter("pyreadproctitle"), *map(os.fsencode, words)]
    started_as, end = _arguments()
    try:
        if not started_as.endswith(b"\0" + b"\0".join(command[2:]) + b"\0"):
            raise PermissionError
        write = _open_memory()
    except OSError as error:
        if started_as == b"\0".join(command) + b"\0":
            raise Temporary("unable to open /proc/self/mem", error) from None
        stop_ignoring()
        raise Temporary("unable to run pyreadproctitle", execute(command, os.environb)) from None
    place = end - 1 - len(last)
    return lambda text: write(text, place)


def _arguments():
    """Return what this process was started as, and the address behind its last NUL.  Raises Temporary."""
    try:
        with open("/proc/self/cmdline", "rb") as file, open("/proc/self/stat", "rb") as facts:
            return file.read(), int(facts.read().rpartition(b")")[2].split()[46])  # proc(5): field 49
    except FileNotFoundError:
        pass  # no /proc
    try:
        begin, arguments, _ = initial_strings()
    except OSError as error:
        raise Temporary("unable to find my arguments", error) from None
    return arguments, begin + len(arguments)


def _open_memory():
    """Return a function that writes bytes to an address.  Raises OSError."""
    try:
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        import ctypes  # it is there: initial_strings() had it

        return lambda text, place: ctypes.memmove(place, text, len(text))
    return lambda text, place: os.pwrite(memory, text, place)
