"""Show what a server says.

Nothing is sent; what comes is written to descriptor 1, byte for byte as it comes, until the server closes the
connection.
"""

from pyqmail.base.options import Argument
from pyqmail.system.command_line import Program
from pyqmail.tcp import asking

PROGRAM = Program(
    name="pytcpcat",
    summary="show what a server says",
    original="tcpcat",
    usage="tcpcat [ host [ port ] ]",
    arguments=[
        asking.HOST,
        Argument("port", "number or name of the port", optional=True, default="17"),
    ],
    exits={
        0: "the server closed the connection",
        1: "the connection was lost, or the output could not be written",
        111: "no connection; descriptor 2 tells why, in tcpclient's words",
        asking.NOBODY_READS: "nobody reads the output any more",
    },
    environment=asking.ENVIRONMENT,
    section=1,
    see=["pymconnect(1)", "pytcpclient(1)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, show)


def show(call) -> int:
    sock = asking.call(call.host, call.port)
    if sock is None:
        return 111
    try:
        return asking.show(asking.received(sock))
    except OSError as error:
        raise asking.Incomplete("unable to read from network", error) from None
