"""Run a program and record what it reads and writes.

A child copies, and writes each line to descriptor 2: the program's process number, `<` for input or `>` for output, the
line, a blank.  A piece that does not end with a newline has `+` at its end; so has each part of a line that is longer
than 256 bytes or was read in parts.  `[EOF]` is the end of input, or of the program's output.  Bytes are written as
they are.

The program stays this process; it reads and writes pipes, not the connection.  The last lines may come after it has
ended.

    pytcpserver -vRHl0 0 smtp pyrecordio pysmtpd 2>&1
"""

import os

from pyqmail.base.options import Rest
from pyqmail.programs.registry import load
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import log
from pyqmail.system.processes import go_on
from pyqmail.tcp.filters.relay import stand_between

_MAX_BYTES = 256  # what the original reads at once; all its lines together are written whole by one write

PROGRAM = Program(
    name="pyrecordio",
    summary="run a program and record what it reads and writes",
    original="recordio",
    usage="recordio program [ arg ... ]",
    arguments=[Rest("program", "what to run, with its arguments", required=True)],
    exits={
        100: "wrong usage",
        111: "no pipe, no child, or the program could not be run",
        "others": "the program's own",
    },
    see=["pyfixcrio(8)", "pymultilog(8)", "pytcpserver(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, run_recorded)


def run_recorded(call) -> int:
    stand_between(Recorder(b"%d < " % os.getpid()), Recorder(b"%d > " % os.getpid()))
    return go_on(call.program, call.environ, load)


class Recorder:
    """Writes every piece it is called with to the log and returns it.  head stands in front of each line."""

    def __init__(self, head: bytes):
        self._head = head

    def __call__(self, piece: bytes) -> bytes:
        for at in range(0, len(piece), _MAX_BYTES):
            log(b"\n".join(record_lines(self._head, piece[at : at + _MAX_BYTES])))
        if not piece:
            log(self._head + b"[EOF]")
        return piece


def record_lines(head: bytes, piece: bytes) -> list[bytes]:
    """Return the log lines, without newline, for a piece: a blank ends a whole line, `+` one that may go on."""
    *whole, begun = piece.split(b"\n")
    return [head + line + b" " for line in whole] + ([head + begun + b"+"] if begun else [])
