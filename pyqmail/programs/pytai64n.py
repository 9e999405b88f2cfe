"""Copy descriptor 0 to descriptor 1 with the time in front of each line.

The time is a label, @ and 24 hexadecimal digits, and a space; it is the time when the line's first byte was read.
pytai64nlocal makes it readable.  A last line without a newline stays without one.  What was read is written before more
is read.  Arguments are ignored.
"""

import os

from pyqmail.base.options import Rest
from pyqmail.supervise.logs.stamps import stamp_lines
from pyqmail.system.clock import now_text_label
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all

PROGRAM = Program(
    name="pytai64n",
    summary="put the time in front of each line",
    original="tai64n",
    usage="tai64n",
    arguments=[Rest("ignored")],
    exits={0: "end of input", 111: "input or output failed; no message is written"},
    see=["pytai64nlocal(8)", "pymultilog(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, stamp)


def stamp(call) -> int:
    at_start = True
    try:
        while block := os.read(0, 65536):
            write_all(1, stamp_lines(block, now_text_label() + b" ", at_start))
            at_start = block.endswith(b"\n")
    except OSError:
        return 111
    return 0
