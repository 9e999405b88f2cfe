"""Run a program as another user.

The user and group ids become those of the account in the password database; its group is the only one that is kept.
The environment is not changed: HOME and USER stay as they are.  The program is searched after that, with the account's
rights; a program of ours before, so that the account need not be able to read it.
"""

import os
import pwd

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Rest
from pyqmail.programs.registry import load, load_ahead
from pyqmail.system.command_line import Program
from pyqmail.system.processes import find_ahead, go_on
from pyqmail.system.title import hold_title

PROGRAM = Program(
    name="pysetuidgid",
    summary="run a program as another user",
    original="setuidgid",
    usage="setuidgid account child",
    arguments=[
        Argument("account", "a name; a number is not accepted"),
        Rest("program", "the program to run, with its arguments", required=True, metavar="child"),
    ],
    exits={
        100: "wrong usage",
        111: "the ids could not be changed, or the program could not be run",
        "others": "the program's own",
    },
    see=["pysoftlimit(8)", "pyenvdir(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, change)


def change(call) -> int:
    try:
        account = pwd.getpwnam(call.account)
    except KeyError:
        raise Temporary(f"unknown account {call.account}") from None
    find_ahead(call.program, os.environb.get(b"PATH"), load_ahead)
    hold_title()
    try:
        os.setgroups([account.pw_gid])
        os.setgid(account.pw_gid)
    except OSError as error:
        raise Temporary("unable to setgid", error) from None
    try:
        os.setuid(account.pw_uid)
    except OSError as error:
        raise Temporary("unable to setuid", error) from None
    return go_on(call.program, call.environ, load)
