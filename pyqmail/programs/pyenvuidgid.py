"""Run a program with the ids of an account in its environment.

UID and GID become the account's user and group number; nothing else changes, and no rights are needed.  A server that
needs root at its start can change to them later: `pytcpserver -U`.
"""

import pwd

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Rest
from pyqmail.programs.registry import load
from pyqmail.supervise.variables import merge
from pyqmail.system.command_line import Program
from pyqmail.system.processes import go_on

PROGRAM = Program(
    name="pyenvuidgid",
    summary="run a program with the ids of an account in its environment",
    original="envuidgid",
    usage="envuidgid account child",
    arguments=[
        Argument("account", "a name; a number is not accepted"),
        Rest("program", "the program to run, with its arguments", required=True, metavar="child"),
    ],
    environment=("GID", "UID"),
    exits={
        100: "wrong usage",
        111: "the account does not exist, or the program could not be run",
        "others": "the program's own",
    },
    see=["pysetuidgid(8)", "pyenvdir(8)", "pytcpserver(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, run_with_ids)


def run_with_ids(call) -> int:
    try:
        account = pwd.getpwnam(call.account)
    except KeyError:
        raise Temporary(f"unknown account {call.account}") from None
    ids = [(b"GID", b"%d" % account.pw_gid), (b"UID", b"%d" % account.pw_uid)]
    return go_on(call.program, merge(call.environ, ids), load)
