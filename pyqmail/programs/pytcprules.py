"""Compile rules for pytcpserver.

Reads rules from descriptor 0, one a line, and puts them into RULES.CDB, by way of RULES.TMP in the same
file system: whoever reads the rules sees the old ones or the new ones, never a part.

    1.2.3.4:deny
    10.:allow,RELAYCLIENT=""
    192.168.1-3.:allow,RELAYCLIENT="",DATABYTES="0"
    =.example.org:allow
    :allow

An address is a client's address, a part of it that ends in a dot, a range of numbers in it, or `=` and its
name or the end of it that starts with a dot, each with `info@` before it or not; the empty address is for everybody
else.  Any byte may be the quote.  A line without a colon is skipped.
"""

import os

from pyqmail.base.failure import Permanent, Temporary
from pyqmail.base.options import Argument, Program, Rest
from pyqmail.system.cdb import NotWritten, write_cdb
from pyqmail.system.descriptors import read_all
from pyqmail.tcp.rules import BadLine, compile_lines

PROGRAM = Program(
    name="pytcprules",
    summary="compile rules for pytcpserver",
    original="tcprules",
    usage="tcprules rules.cdb rules.tmp",
    arguments=[
        Argument("cdb", "what to make", metavar="rules.cdb"),
        Argument("tmp", "a name for it while it is made", metavar="rules.tmp"),
        Rest("ignored"),
    ],
    exits={0: "compiled", 100: "a line is no rule; RULES.CDB is as it was", 111: "try again later"},
    see=["pytcprulescheck(8)", "pytcpserver(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, compile_rules)


def compile_rules(call) -> int:
    tmp = os.fsencode(call.tmp)
    try:
        # made before the source is read: a line that is no rule leaves it behind, as the original does
        os.close(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o644))
    except OSError as error:
        raise Temporary(f"unable to create {call.tmp}", error) from None
    try:
        source = read_all(0)
    except OSError as error:
        raise Temporary("unable to read input", error) from None
    try:
        write_cdb(os.fsencode(call.cdb), tmp, compile_lines(source))
    except BadLine as bad:
        line = os.fsdecode(bad.line.partition(b"\0")[0])
        raise Permanent(f"unable to parse this line: {line}") from None
    except NotWritten as failed:
        what = {
            "create": f"unable to create {call.tmp}",
            "write": f"unable to write to {call.tmp}",
            "move": f"unable to move {call.tmp} to {call.cdb}",
        }[failed.step]
        raise Temporary(what, failed.error) from None
    return 0
