"""Run a program with lower limits on what it may use.

Only the soft limits change: the program could raise them again, up to the hard ones.  A number counts bytes, files,
processes or seconds; `=` means as high as the hard limit.

A program of ours is an interpreter, and needs more memory than a C program.  If -a, -d, -m or -s leave it less than 16
MB of address space, 6.5 MB of data or 0.1 MB of stack, pysoftlimit reports it and runs nothing.  That is the minimum to
load; the program's work needs more, so that 64 MB is a good limit.  For one of our servers less than 64 MB of address
space or 48 MB of data is reported, too, and the server is run: it may fail under load.  This counts for a program of
ours anywhere in the line, since limits hold through a chain of programs, and for a CHILD that is a Python script.
pysoftlimit cannot see what a shell script runs.
"""

import errno
import os
import resource

from pyqmail.base.failure import Temporary
from pyqmail.base.numbers import ULONG, count_digits, leading_number
from pyqmail.base.options import Act, Rest
from pyqmail.programs.registry import load
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import log
from pyqmail.system.processes import find, find_ours, go_on
from pyqmail.system.rlimits import SERVER_BYTES

# With less an interpreter with one of our programs does not even come up.  Measured: the least `softlimit -m` under
# which `pytai64n </dev/null` loads is 13.5 MB; with the imports of pysmtpd 14.9, of pysend 15.8.  For -d it is 4.8, 5.4
# and 5.9, and for -s always under 0.1.
MIN_BYTES = {
    resource.RLIMIT_AS: (16_000_000, "address space"),
    resource.RLIMIT_DATA: (6_500_000, "data"),
    resource.RLIMIT_STACK: (100_000, "stack"),
}

SERVERS = frozenset(("pyqueued", "pyresolve", "pyrspawn", "pysend", "pystart", "pytcpserver"))


def _limit(*limits):
    """Return the act of an option: note its value for these limits.  They are set just before the program runs."""

    def note(call, text):
        if text != "=" and count_digits(text) != len(text):
            raise PROGRAM.wrong()
        for limit in limits:
            call.limits = {**call.limits, limit: None if text == "=" else leading_number(text)}

    return note


PROGRAM = Program(
    name="pysoftlimit",
    summary="run a program with limits on what it may use",
    original="softlimit",
    usage="softlimit [-a allbytes] [-c corebytes] [-d databytes] [-f filebytes] [-l lockbytes] [-m membytes] "
    "[-o openfiles] [-p processes] [-r residentbytes] [-s stackbytes] [-t cpusecs] child",
    options=[
        Act("a", _limit(resource.RLIMIT_AS), "address space, in bytes", "allbytes"),
        Act("c", _limit(resource.RLIMIT_CORE), "size of a core file", "corebytes"),
        Act("d", _limit(resource.RLIMIT_DATA), "data segment: what the program allocates, in bytes", "databytes"),
        Act("f", _limit(resource.RLIMIT_FSIZE), "size of each file it writes", "filebytes"),
        Act("l", _limit(resource.RLIMIT_MEMLOCK), "locked memory, in bytes", "lockbytes"),
        Act(
            "m",
            _limit(resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_MEMLOCK, resource.RLIMIT_AS),
            "data segment, stack, locked memory and address space, each",
            "membytes",
        ),
        Act("o", _limit(resource.RLIMIT_NOFILE), "open files at once", "openfiles"),
        Act("p", _limit(resource.RLIMIT_NPROC), "processes of the user", "processes"),
        Act("r", _limit(resource.RLIMIT_RSS), "resident memory, in bytes; Linux ignores it", "residentbytes"),
        Act("s", _limit(resource.RLIMIT_STACK), "stack, in bytes", "stackbytes"),
        Act("t", _limit(resource.RLIMIT_CPU), "seconds of processor time", "cpusecs"),
    ],
    fields={"limits": {}},
    arguments=[Rest("program", "the program to run, with its arguments", required=True, metavar="child")],
    exits={
        100: "wrong usage",
        111: "a limit could not be set, or is too low for the program, or it could not be run",
        "others": "the program's own",
    },
    see=["pysetuidgid(8)", "pysetlock(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, limit)


def limit(call) -> int:
    wanted = {number: _soft_and_hard(number, value) for number, value in call.limits.items()}
    _check(call.program, call.environ.get(b"PATH"), wanted)
    for number, pair in wanted.items():
        try:
            resource.setrlimit(number, pair)
        except (OSError, ValueError) as error:
            raise Temporary("setrlimit failed", error if isinstance(error, OSError) else None) from None
    try:
        return go_on(call.program, call.environ, load)
    except MemoryError:
        raise Temporary(f"unable to run {call.program[0]}", OSError(errno.ENOMEM, "")) from None


def _soft_and_hard(number, value):
    """Return what to set: value, or the hard limit if that is lower or value is None.  -1 is no limit."""
    try:
        hard = resource.getrlimit(number)[1]
    except OSError as error:
        raise Temporary("getrlimit failed", error) from None
    if value is None or value > hard % ULONG:
        return hard, hard
    return value if value < ULONG // 2 else value - ULONG, hard


def _check(words, path, wanted):
    for number, (least, what) in MIN_BYTES.items():
        soft = wanted.get(number, (resource.RLIM_INFINITY,))[0] % ULONG
        if soft < least and (name := _first_interpreter(words, path)):
            too_few = f"{soft} bytes of {what} are too few for {name}"
            raise Temporary(f"unable to run {words[0]}: {too_few}, an interpreter needs {least} to load")
    for number, (needed, what) in SERVER_BYTES.items():
        soft = wanted.get(number, (resource.RLIM_INFINITY,))[0] % ULONG
        if soft < needed and (name := _first_server(words, path)):
            few = f"{soft} bytes of {what} are too few for {name} under load"
            log(PROGRAM.line(f"warning: {few}: {needed} are needed"))


def _first_interpreter(words, path):
    """Return words[0] if that is Python or its script, otherwise the first word that leads to ours, or None."""
    if _is_python(os.fsencode(words[0]), path):
        return words[0]
    return next((word for word in words if find_ours(os.fsencode(word), path)), None)


def _first_server(words, path):
    """Return the first word that leads to one of our servers, or None."""
    return next((word for word in words if find_ours(os.fsencode(word), path) in SERVERS), None)


def _is_python(name, path):
    found = find(name, path)
    if found is None:
        return False
    try:
        with open(found, "rb") as file:
            line = file.readline(256)
    except OSError:
        return False
    interpreter = line[2:].split() if line.startswith(b"#!") else [found]
    return any(word.rpartition(b"/")[2].startswith(b"python") for word in interpreter)
