"""Talk to a mail server, or to any server that speaks in lines.

Input goes to the server with CR LF for each line end; its replies come back unchanged.  The end of input does not close
the connection: pymconnect ends when the server closes it.  pymconnect-io does the talking, in this process.
"""

import os

from pyqmail.base.options import Argument
from pyqmail.programs import pymconnect_io
from pyqmail.system.command_line import Program
from pyqmail.tcp.client import one_shot

PROGRAM = Program(
    name="pymconnect",
    summary="talk to a mail server by hand",
    original="mconnect",
    usage="mconnect [ host [ port ] ]",
    arguments=[
        one_shot.HOST,
        Argument("port", "number or name of the port", optional=True, default="25"),
    ],
    exits={
        0: "the server closed the connection",
        111: "no connection, and tcpclient's message on descriptor 2 has the reason; or pymconnect-io could not fork",
    },
    environment=one_shot.ENVIRONMENT,
    section=1,
    see=["pymconnect-io(8)", "pytcpcat(1)", "pytcpclient(1)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, talk)


def talk(call) -> int:
    sock = one_shot.call(call.host, call.port)
    if sock is None:
        return 111
    connection = sock.detach()
    os.dup2(connection, 6)
    os.dup2(connection, 7)
    return pymconnect_io.main(["mconnect-io"])
