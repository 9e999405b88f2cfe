"""Copy descriptor 0 to descriptor 1 without the carriage return before each newline.

Only the one directly before the newline is removed: CR CR LF becomes CR LF.  Any other stays.  What was read is written
before more is read, except a carriage return whose next byte is not known yet.  Arguments are ignored.
"""

from pyqmail.base.options import Rest
from pyqmail.protocol.crlf import ReturnRemoval
from pyqmail.system.command_line import Program
from pyqmail.tcp.filters.relay import filter_input

PROGRAM = Program(
    name="pydelcr",
    summary="remove the carriage return before each newline",
    original="delcr",
    usage="delcr",
    arguments=[Rest("ignored")],
    exits={0: "end of input", 111: "input or output failed; no message is written"},
    see=["pyaddcr(8)", "pyfixcrio(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, remove)


def remove(call) -> int:
    removal = ReturnRemoval()
    return filter_input(removal.receive, removal.end)
