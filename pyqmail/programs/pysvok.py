"""Check whether a supervisor is running in a directory.

It prints nothing; the exit code is the answer.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Rest
from pyqmail.supervise.control import NOT_RUNNING, check_supervised, supervise_path
from pyqmail.system.command_line import Program

PROGRAM = Program(
    name="pysvok",
    summary="check whether a supervisor is running",
    original="svok",
    usage="svok dir",
    arguments=[Argument("dir", "the directory of the service"), Rest("ignored")],
    environment=("SUPERVISEDIR",),
    exits={0: "it is running", 100: "it is not running, or wrong usage", 111: "unable to find out"},
    see=("pysupervise(8)", "pysvstat(8)", "pysvwait(8)"),
)


def main(argv):
    return PROGRAM.run(argv, work)


def work(call):
    try:
        os.chdir(call.dir)
    except OSError as error:
        raise Temporary(f"unable to chdir to {call.dir}", error) from None
    try:
        check_supervised()
    except OSError as error:
        if error.errno in NOT_RUNNING:
            return 100
        folder = supervise_path()
        shown = folder if folder.startswith("/") else f"{call.dir}/{folder}"
        raise Temporary(f"unable to open {shown}/ok", error) from None
    return 0
