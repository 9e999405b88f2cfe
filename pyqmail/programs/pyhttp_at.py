"""Show a page of a web server.

The request is HTTP/1.0, without encryption.  The header of the answer and empty lines in its body are not shown.  A CR
LF is a new line, and a last line without an end gets one.  Other bytes are shown as they are.  The exit code does not
tell whether the server could be reached; tcpclient's message on descriptor 2 does.
"""

import os

from pyqmail.base.options import Argument
from pyqmail.protocol.http_body import Body
from pyqmail.system.command_line import Program
from pyqmail.tcp.client.one_shot import ENVIRONMENT, EXITS, HOST, answer, show

PROGRAM = Program(
    name="pyhttp@",
    summary="show a page of a web server",
    original="http@",
    usage="http@ [ host [ path [ port ] ] ]",
    arguments=[
        HOST,
        Argument("path", "the page, without the slash at its front", optional=True, default=""),
        Argument("port", "number or name of the port", optional=True, default="80"),
    ],
    exits=EXITS,
    environment=ENVIRONMENT,
    section=1,
    see=["pytcpcat(1)", "pytcpclient(1)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, ask)


def ask(call) -> int:
    request = os.fsencode(f"GET /{call.path} HTTP/1.0\nHost: {call.host}:{call.port}\n\n")
    return show(_body(answer(call.host, call.port, request)))


def _body(pieces):
    body = Body()
    yield from map(body.receive, pieces)
    yield body.end()
