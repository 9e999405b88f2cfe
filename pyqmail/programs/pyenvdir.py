"""Run a program with variables from a directory.

Each file in the directory is a variable, its first line the value, without spaces and tabs at its end; NUL stands for a
newline.  An empty file removes the variable, a file with nothing but a newline makes it empty.  Names
that start with a dot are left alone.

A PATH set here reaches the program, but the program is searched in the PATH from before.
"""

from pyqmail.base.options import Argument, Program, Rest
from pyqmail.programs.registry import load
from pyqmail.supervise.variables import merge, read_directory
from pyqmail.system.processes import go_on

PROGRAM = Program(
    name="pyenvdir",
    summary="run a program with variables from a directory",
    original="envdir",
    usage="envdir dir child",
    arguments=[
        Argument("directory", "the directory", metavar="dir"),
        Rest("program", "the program to run, with its arguments", required=True, metavar="child"),
    ],
    usage_code=111,
    exits={
        111: "wrong usage; or the directory could not be read, or the program not be run",
        "others": "the program's own",
    },
    see=["pysetuidgid(8)", "pysoftlimit(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, run_with)


def run_with(call) -> int:
    return go_on(call.program, merge(call.environ, read_directory(call.directory)), load)
