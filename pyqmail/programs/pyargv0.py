"""Run a program under another name.

REALNAME is searched in PATH and run; its argument 0, the name by which it believes it was called, is PROGRAM.  A script
does not see this name: the kernel gives its interpreter the name of the file.  A program of ours that is run by another
one of ours does.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Rest
from pyqmail.programs.registry import load
from pyqmail.system.command_line import Program
from pyqmail.system.processes import become

PROGRAM = Program(
    name="pyargv0",
    summary="run a program under another name",
    original="argv0",
    usage="argv0 realname program [ arg ... ]",
    arguments=[
        Argument("realname", "the program to run"),
        Rest("program", "the name to give it, then its arguments", required=True),
    ],
    exits={100: "wrong usage", 111: "the program could not be run", "others": "the program's own"},
    see=["pyenvdir(8)", "pytcpserver(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, run_as)


def run_as(call) -> int:
    try:
        return become(call.program, call.environ, load, os.environb.get(b"PATH"), call.realname)
    except OSError as error:
        raise Temporary(f"unable to run {call.realname}", error) from None
