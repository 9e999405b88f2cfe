"""Run a program and add the carriage returns that it or its client leaves out.

A child copies: in both directions each newline that has no carriage return directly before it gets one.  The program
stays this process; it reads and writes pipes, not the connection.

    pytcpserver -vRHl0 0 smtp pyfixcrio pysmtpd 2>&1
"""

from pyqmail.base.failure import Usage
from pyqmail.base.options import Rest
from pyqmail.programs.registry import load
from pyqmail.protocol.crlf import MissingReturns
from pyqmail.system.command_line import Program
from pyqmail.system.processes import go_on
from pyqmail.tcp.filters.relay import stand_between

PROGRAM = Program(
    name="pyfixcrio",
    summary="run a program with a carriage return before every newline",
    original="fixcrio",
    usage="fixcrio program [ arg ... ]",
    arguments=[Rest("program", "what to run, with its arguments", required=True)],
    exits={
        100: "wrong usage",
        111: "no pipe, no child, or the program could not be run",
        "others": "the program's own",
    },
    offers=["stage"],
    see=["pyrecordio(8)", "pyaddcr(8)", "pydelcr(8)", "pytcpserver(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, fix)


def stage(argv: list[str]):
    """Return (what we do in a worker of pytcpserver, the words behind us); see tcp/serving/stages.py."""
    from pyqmail.tcp.serving.stages import CarriageReturnStage

    try:
        words = PROGRAM.parse(argv, {}).program
    except Usage:
        return None, []
    return CarriageReturnStage(lambda: MissingReturns().receive), words


def fix(call) -> int:
    stand_between(MissingReturns().receive, MissingReturns().receive)
    return go_on(call.program, call.environ, load)
