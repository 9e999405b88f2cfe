"""Keep a program in the foreground that would put itself into the background.

The program gets 31 more descriptors, all of them ends of one pipe.  pyfghack waits until no process holds any of them,
neither the program nor a process it left behind, and then exits as the program did.  A daemon that closes all
descriptors cannot be held this way.
"""

import fcntl
import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Rest
from pyqmail.programs.registry import load
from pyqmail.system.command_line import Program
from pyqmail.system.processes import exit_code, fork, go_on

COPIES = 30  # of the pipe's end: a daemon that closes the first few descriptors keeps some

PROGRAM = Program(
    name="pyfghack",
    summary="keep a program in the foreground",
    original="fghack",
    usage="fghack child",
    arguments=[Rest("program", "the program to run, with its arguments", required=True, metavar="child")],
    exits={
        100: "wrong usage",
        111: "the program was killed, or could not be run",
        "others": "the program's own",
    },
    see=["pypgrphack(8)", "pysupervise(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, hold)


def hold(call) -> int:
    try:
        read_end, write_end = os.pipe()
    except OSError as error:
        raise Temporary("unable to create pipe", error) from None
    try:
        pid = fork(lambda: PROGRAM.run([call.argv0, *call.program], lambda child: _run(child, read_end, write_end)))
    except OSError as error:
        raise Temporary("unable to fork", error) from None
    os.close(write_end)
    try:
        while os.read(read_end, 4096):
            pass
        code = exit_code(os.waitpid(pid, 0)[1])
    except OSError as error:
        raise Temporary("wait failed", error) from None
    if code is None:
        raise Temporary("child crashed")
    return code


def _run(call, read_end, write_end):
    os.close(read_end)
    os.set_inheritable(write_end, True)
    try:
        for _ in range(COPIES):
            fcntl.fcntl(write_end, fcntl.F_DUPFD, 0)
    except OSError:
        pass  # as many as the limit allows
    return go_on(call.program, call.environ, load)
