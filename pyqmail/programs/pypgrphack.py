"""Run a program as the leader of a process group of its own.

It gets a new session, which has no terminal: what is sent to the group of whoever started it, Ctrl-C for one, does not
reach it.  If it leads a process group already, nothing changes.
"""

import os

from pyqmail.base.options import Rest
from pyqmail.programs.registry import load
from pyqmail.system.command_line import Program
from pyqmail.system.processes import go_on

PROGRAM = Program(
    name="pypgrphack",
    summary="run a program in a process group of its own",
    original="pgrphack",
    usage="pgrphack child",
    arguments=[Rest("program", "the program to run, with its arguments", required=True, metavar="child")],
    exits={100: "wrong usage", 111: "the program could not be run", "others": "the program's own"},
    see=["pyfghack(8)", "pysupervise(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, lead)


def lead(call) -> int:
    try:
        os.setsid()
    except OSError:
        pass  # a leader already
    return go_on(call.program, call.environ, load)
