"""Show who is logged in on a machine, as its service on TCP port 11 lists them.

The answer is shown as it comes: CR LF as a new line; control bytes and bytes above 127 are made visible, as `cat -v`
does.  The exit code does not tell whether the server could be reached; tcpclient's message on descriptor 2 does.
"""

from pyqmail.protocol.visible import visible
from pyqmail.system.command_line import Program
from pyqmail.tcp.client.one_shot import ENVIRONMENT, EXITS, HOST, answer, show

PROGRAM = Program(
    name="pywho@",
    summary="show who uses a machine",
    original="who@",
    usage="who@ [ host ]",
    arguments=[HOST],
    exits=EXITS,
    environment=ENVIRONMENT,
    section=1,
    see=["pydate@(1)", "pyfinger@(1)", "pytcpclient(1)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, ask)


def ask(call) -> int:
    return show(map(visible, answer(call.host, "11")))
