"""Copy descriptor 0 to descriptor 1 with the labels at the start of lines turned into local time.

A line that starts with a label as pytai64n and pymultilog write it, @ and 24 hexadecimal digits, starts with
`YYYY-MM-DD hh:mm:ss.nnnnnnnnn` instead, in the time zone TZ.  Other lines are copied unchanged, also those that start
with @ and a label that is no valid time.
"""

import os

from pyqmail.base.options import Rest
from pyqmail.supervise.logs.local_time import LocalTime
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all

PROGRAM = Program(
    name="pytai64nlocal",
    summary="turn time labels into local time",
    original="tai64nlocal",
    usage="tai64nlocal",
    arguments=[Rest("ignored")],
    exits={0: "end of input", 111: "input or output failed; no message is written"},
    environment=["TZ"],
    see=["pytai64n(8)", "pymultilog(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, convert)


def convert(call) -> int:
    text = LocalTime()
    try:
        while block := os.read(0, 65536):
            write_all(1, text.receive(block))
    except OSError:
        return 111
    return 0
