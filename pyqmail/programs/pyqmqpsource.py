"""Send messages to a QMQP server, many at once, and report how long it took.

As pysmtpsource(1): each connection carries one message.
"""

from pyqmail.base.options import Argument
from pyqmail.programs.pysmtpsource import EXITS, SHARED
from pyqmail.system.command_line import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.base.options import Call

PROGRAM = Program(
    name="pyqmqpsource",
    summary="send messages to a QMQP server, many at once, and measure",
    options=SHARED,
    arguments=[Argument("server", "[inet:]HOST[:PORT] or unix:PATH; the port is 628 if none is given")],
    exits=EXITS,
    section=1,
    notes=[("EXAMPLES", [("pyqmqpsource -s 20 -m 1000 127.0.0.1:628", "a thousand messages, twenty at a time")])],
    see=["pyqmqpsink(1)", "pysmtpsource(1)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, send)


def send(call: "Call") -> int:
    from pyqmail.load_tools import qmqp_source, source_setup
    from pyqmail.load_tools.targets import PORT_OF_QMQP

    return source_setup.run(PROGRAM, call, source_setup.plan_of(call).made(), qmqp_source, PORT_OF_QMQP, False)
