"""Run a program with variables from a directory.

Each file in the directory is a variable.  Its first line is the value, without spaces and tabs at its end; NUL stands
for a newline.  An empty file removes the variable, a file with only a newline makes it empty.  Files whose names start
with a dot are ignored.

A PATH that is set here reaches the program, but the program is searched in the earlier PATH.
"""

import os

from pyqmail.base.failure import Temporary, Usage
from pyqmail.base.options import Argument, Rest
from pyqmail.programs.registry import load
from pyqmail.supervise.variables import merge, read_directory, read_directory_from
from pyqmail.system.command_line import Program
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
        111: "wrong usage, the directory could not be read, or the program could not be run",
        "others": "the program's own",
    },
    offers=["stage"],
    see=["pysetuidgid(8)", "pysoftlimit(8)"],
)


# what a worker looks at when it begins, for all of its sessions: with one of these each connection has a process
AT_START = frozenset((b"PYQMAIL_HOME", b"TMPDIR", b"PYQMAIL_DNS", b"DNSCACHEIP"))


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, run_with)


def stage(argv: list[str]):
    """Return (what we do in a worker of pytcpserver, the words behind us); see tcp/serving/stages.py.

    The directory is found from where we are now, as it is by a process for each connection, and read for each of them.
    """
    from pyqmail.tcp.serving.stages import EnvironmentStage

    try:
        call = PROGRAM.parse(argv, {})
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (Usage, OSError):
        return None, []

    def read(environ):
        return merge(dict(environ), _changes(here, call.directory))

    try:
        read({})
    except Temporary as failure:
        if failure.error is None:
            os.close(here)
            return None, []
    return EnvironmentStage(PROGRAM.label, read), call.program


def _changes(here, directory):
    """Return the changes that a directory makes to a session's environment.  Raises Temporary."""
    changes = read_directory_from(here, directory)
    late = AT_START.intersection(name for name, _ in changes)
    if late:
        raise Temporary(f"{os.fsdecode(min(late))} in {directory} counts at the start of the server only")
    return changes


def run_with(call) -> int:
    return go_on(call.program, merge(call.environ, read_directory(call.directory)), load)
