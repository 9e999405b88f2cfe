"""Show what a machine reports about a user, or about all of them, on TCP port 79.

USER is sent as it is, with a line end; without USER the line is empty, and the server chooses what to report.

The answer is shown as it comes: CR LF as a new line; control bytes and bytes above 127 are made visible, as `cat -v`
does.  The exit code does not tell whether the server could be reached; tcpclient's message on descriptor 2 does.
"""

import os

from pyqmail.base.options import Argument
from pyqmail.protocol.visible import visible
from pyqmail.system.command_line import Program
from pyqmail.tcp.client.one_shot import ENVIRONMENT, EXITS, HOST, answer, show

PROGRAM = Program(
    name="pyfinger@",
    summary="show what a machine reports about a user",
    original="finger@",
    usage="finger@ [ host [ user ] ]",
    arguments=[
        HOST,
        Argument("user", "the user to ask about; without it, the line is empty", optional=True, default=""),
    ],
    exits=EXITS,
    environment=ENVIRONMENT,
    section=1,
    see=["pywho@(1)", "pydate@(1)", "pytcpclient(1)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, ask)


def ask(call) -> int:
    return show(map(visible, answer(call.host, "79", os.fsencode(call.user) + b"\n")))
