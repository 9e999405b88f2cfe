"""Take QMQP messages and throw them away, to measure clients.

As pysmtpsink(1).
"""

from pyqmail.programs.pysmtpsink import EXITS, OPERANDS, SHARED
from pyqmail.system.command_line import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.base.options import Call

PROGRAM = Program(
    name="pyqmqpsink",
    summary="take QMQP messages and throw them away",
    options=SHARED,
    arguments=OPERANDS,
    exits=EXITS,
    section=1,
    notes=[("EXAMPLES", [("pyqmqpsink -c 127.0.0.1:628", "a sink to measure against, with a line every second")])],
    see=["pyqmqpsource(1)", "pysmtpsink(1)"],
)
_MOST_SESSIONS, _TIMEOUT_SECONDS = 1_000_000, 100.0


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, serve)


def serve(call: "Call") -> int:
    from time import monotonic

    from pyqmail.load_tools import sink_setup
    from pyqmail.load_tools.qmqp_sink import QmqpSinkSession
    from pyqmail.load_tools.server_models import Model
    from pyqmail.load_tools.smtp_sink import SinkPlan

    shape = sink_setup.SinkShape(call, _MOST_SESSIONS, _TIMEOUT_SECONDS)
    taken = lambda session, content: None  # noqa: E731
    return sink_setup.run(PROGRAM, call, SinkPlan(b""), lambda: Model(monotonic), QmqpSinkSession, taken, shape)
