"""Copy descriptor 0 to descriptor 1 with a carriage return before each newline.

A carriage return that is there already stays: CR LF becomes CR CR LF (pyfixcrio does not double it).  A last line
without a newline gets none.  What was read is written before more is read.  Arguments are ignored.
"""

from pyqmail.base.options import Rest
from pyqmail.protocol.crlf import add_returns
from pyqmail.system.command_line import Program
from pyqmail.tcp.filters.relay import filter_input

PROGRAM = Program(
    name="pyaddcr",
    summary="put a carriage return before each newline",
    original="addcr",
    usage="addcr",
    arguments=[Rest("ignored")],
    exits={0: "end of input", 111: "input or output failed; no message is written"},
    see=["pydelcr(8)", "pyfixcrio(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, lambda call: filter_input(add_returns))
