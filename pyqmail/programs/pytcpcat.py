"""Show what a server sends.

pytcpcat sends nothing.  What comes is written to descriptor 1, byte for byte as it comes, until the server closes the
connection.
"""

from pyqmail.base.options import Argument
from pyqmail.system.command_line import Program
from pyqmail.tcp.client import one_shot

PROGRAM = Program(
    name="pytcpcat",
    summary="show what a server sends",
    original="tcpcat",
    usage="tcpcat [ host [ port ] ]",
    arguments=[
        one_shot.HOST,
        Argument("port", "number or name of the port", optional=True, default="17"),
    ],
    exits={
        0: "the server closed the connection",
        1: "the connection was lost, or the output could not be written",
        111: "no connection; tcpclient's message on descriptor 2 has the reason",
        one_shot.NOBODY_READS: "the reader of the output has gone",
    },
    environment=one_shot.ENVIRONMENT,
    section=1,
    see=["pymconnect(1)", "pytcpclient(1)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, show)


def show(call) -> int:
    sock = one_shot.call(call.host, call.port)
    if sock is None:
        return 111
    try:
        return one_shot.show(one_shot.received(sock))
    except OSError as error:
        raise one_shot.Incomplete("unable to read from network", error) from None
