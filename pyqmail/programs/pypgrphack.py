"""Run a program as the leader of a process group of its own.

It gets a new session, which has no terminal.  A signal to the group of its parent, for example Ctrl-C, does not reach
it.  If it already leads a process group, nothing changes.
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
