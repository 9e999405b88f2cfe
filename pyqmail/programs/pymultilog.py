"""Read lines from descriptor 0 and keep them in logs that rotate by themselves.

The actions are carried out from left to right for each line, which starts out selected.  A log is a directory; the
file `current` in it is being written, `@LABEL.s` are finished ones, whose LABEL is the time they were finished.
The owner's execute bit says that a file is complete and safely on disk.  After a crash `current` becomes
`@LABEL.u`, and nothing is lost that had been written.

TERM ends it at the end of a line and leaves what comes after that unread, for its successor; ALRM starts new files.
Once it has read a line it does not give up: a full disk is said in a warning and tried again every 5 seconds, while the
input waits.
"""

import os

from pyqmail.base.options import Program, Rest
from pyqmail.supervise.intake import Intake
from pyqmail.supervise.logger import Logger
from pyqmail.supervise.patience import Patience
from pyqmail.system.descriptors import open_standard_descriptors

PROGRAM = Program(
    name="pymultilog",
    summary="keep lines in logs that rotate",
    original="multilog",
    usage="multilog action ...",
    arguments=[Rest("actions", "what to do with each line", metavar="action")],
    notes=[
        (
            "Actions",
            [
                ("t", "only as the first: put the time before each line, as @ and 24 hexadecimal digits and a space"),
                ("-PATTERN", "deselect a line that matches PATTERN as a whole"),
                ("+PATTERN", "select it again"),
                ("e", "write a selected line to descriptor 2, its first 200 bytes"),
                ("=FILE", "write a selected line to FILE, filled up with newlines to 1001 bytes"),
                ("sSIZE", "size of a file of the logs that follow, 4096 to 16777215 bytes; usually 99999"),
                ("nNUM", "number of files of the logs that follow, current included, at least 2; usually 10"),
                (
                    "!COMMAND",
                    "feed each finished file of the logs that follow through `sh -c COMMAND`; its descriptor 4 reads "
                    "what it wrote to descriptor 5 for the file before",
                ),
                ("/DIR, ./DIR", "append a selected line to the log in this directory"),
                ("anything else", "is ignored"),
            ],
        ),
        (
            "Patterns",
            "A star stands for everything up to the first byte that equals what follows it in PATTERN, or, at its end, "
            "for the rest of the line.  Any other byte stands for itself.  The time that t puts there is part of the line: "
            "`-* deliver*` deselects lines whose first blank, the one behind the time, is followed by `deliver`.",
        ),
    ],
    exits={0: "end of input, or TERM", 111: "a log could not be opened; nothing was read"},
    see=["pytai64n(8)", "pytai64nlocal(8)", "pysvscan(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, keep)


def keep(call) -> int:
    open_standard_descriptors()  # else one of ours would be taken for the input
    os.umask(0o022)
    intake = Intake()
    try:
        logger = Logger(call.actions, Patience(PROGRAM.label))
        logger.open()
        while (block := intake.read()) != b"":
            if block is None:
                intake.wants_rotation = False
                logger.rotate()
            else:
                logger.take(block)
        logger.finish()
    finally:
        intake.close()
    return 0
