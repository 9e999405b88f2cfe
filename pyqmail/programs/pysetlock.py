"""Run a program while holding a lock on a file.

The file is created if it is missing, and never changed.  The program inherits the descriptor and with it the lock, as
do all its children: the lock is held until the last of them has ended.  The lock is flock's.
"""

import fcntl
import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Flag, Rest
from pyqmail.programs.registry import load
from pyqmail.system.command_line import Program
from pyqmail.system.processes import go_on

PROGRAM = Program(
    name="pysetlock",
    summary="run a program while holding a lock",
    original="setlock",
    usage="setlock [ -nNxX ] file program [ arg ... ]",
    options=[
        Flag("n", "waits", "give up if another holds the lock", value=False),
        Flag("N", "waits", "wait for the lock", is_default=True),
        Flag("x", "complains", "exit 0 without a message if the lock is not available", value=False),
        Flag("X", "complains", "report it and exit 111", is_default=True),
    ],
    arguments=[
        Argument("file", "what to lock"),
        Rest("program", "what to run, with its arguments", required=True),
    ],
    exits={
        0: "with -x, the lock is not available",
        100: "wrong usage",
        111: "no lock, or the program could not be run",
        "others": "the program's own",
    },
    see=["pysoftlimit(8)", "pysetuidgid(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, lock)


def lock(call) -> int:
    try:
        _hold(call.file, call.waits)
    except Temporary:
        if call.complains:
            raise
        return 0
    return go_on(call.program, call.environ, load)


def _hold(file, waits):
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise Temporary(f"unable to open {file}", error) from None
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError as error:
        raise Temporary(f"unable to lock {file}", error) from None
