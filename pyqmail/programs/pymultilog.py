"""Read lines from descriptor 0 and keep them in logs that rotate by themselves.

The actions are carried out from left to right for each line, which is selected at the start.  A log is a directory; the
file `current` in it is being written.  Files named `@LABEL.s` are finished, and LABEL is the time at which they were
finished.  If the owner may execute a file, it is complete and safely on disk.  After a crash `current` becomes
`@LABEL.u`, and nothing is lost that had been written.

TERM ends it at the end of a line and leaves the rest of the input unread, for its successor; ALRM starts new files.
What comes from a pipe stays in it until it is in files, so that KILL loses no line.  A full file is synced and
processed when all that was read is in the next one.

Once it has read a line it does not give up: a full disk is a warning, and writing is tried again every 5 seconds, while
the input waits.  A processor that fails is run again until it succeeds.  A log that was removed is made again.
"""

import os

from pyqmail.base.options import Flag, Rest, Value
from pyqmail.supervise.logs.input import Input
from pyqmail.supervise.logs.logger import Logger
from pyqmail.supervise.logs.retry import Retry
from pyqmail.supervise.logs.stamps import CLOCKS, clock_of
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import open_standard_descriptors
from pyqmail.system.privileges import forbid_new_privileges

PROGRAM = Program(
    name="pymultilog",
    summary="keep lines in logs that rotate",
    original="multilog",
    usage="multilog [ --copy ] [ --time tai|iso ] action ...",
    options=[
        Flag(
            None,
            "copies",
            "copy every line to descriptor 1, too, selected or not, with its time if t is given",
            long="copy",
        ),
        Value(
            None,
            "clock",
            "FORMAT",
            "how t writes the time: tai, the usual label, or iso, `YYYY-MM-DDThh:mm:ss.uuuuuuZ` in UTC",
            clock_of,
            long="time",
        ),
    ],
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
                ("any other action", "is ignored"),
            ],
        ),
        (
            "The copy",
            "With --copy the logs get the lines first, then descriptor 1.  A reader that is slow delays the reading "
            "of more input, as with any pipe.  When descriptor 1 accepts no more, because it is closed, or "
            "full, or not read for 5 seconds after TERM, one warning reports it, and only the logs go on.",
        ),
        (
            "Kills",
            "TERM ends it with the line that is being read.  `kill -9` loses no line of a pipe either, even on a full "
            "disk: what is not in the files is still in the pipe, for the next logger.  After `kill -9` up to 64 KB of "
            "lines may be in the log twice, the last line of the first copy cut.",
        ),
        (
            "Patterns",
            "A star stands for everything up to the first byte that equals what follows it in PATTERN, or, at its "
            "end, for the rest of the line.  Any other byte stands for itself.  The time that t adds is part of "
            "the line: `-* deliver*` deselects lines whose first blank, the one after the time, is followed by "
            "`deliver`.",
        ),
        (
            "An example",
            "Every line of a server into ./main, the clients it denied into ./denied as well, and all to descriptor 1 "
            "for a program that collects them:\n\n"
            "    #!/bin/sh\n"
            "    exec pymultilog --copy --time iso t s1000000 n20 ./main '-*' '+* tcpserver: deny *' ./denied",
        ),
    ],
    exits={
        0: "end of input, or TERM",
        100: "unknown option",
        111: "a log could not be opened; nothing was read",
    },
    offers=["preload"],
    see=["pytai64n(8)", "pytai64nlocal(8)", "pysvscan(8)"],
)


def preload(words=()) -> None:
    """Import what these words need, and others do without: a pattern with a star inside, a processor, a copy."""
    if any("*" in word[:-1] for word in words):
        import re  # noqa: F401
    if any(word.startswith("!") for word in words):
        from pyqmail.supervise.logs import processor  # noqa: F401
    if "--copy" in words:
        from pyqmail.supervise.logs import copying  # noqa: F401


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, keep)


def keep(call) -> int:
    open_standard_descriptors()  # else one of ours would be taken for the input
    if not any(word.startswith("!") for word in call.actions):
        forbid_new_privileges()  # a processor may be set-id, to tell somebody by mail
    os.umask(0o022)
    retry, input_ = Retry(PROGRAM.label), Input()
    try:
        copy = _copy(input_, retry) if call.copies else None
        logger = Logger(call.actions, retry, call.clock or CLOCKS["tai"], copy=copy)
        if call.clock and not logger.is_stamping:
            raise PROGRAM.wrong(PROGRAM.line("--time is for scripts that begin with t"))
        logger.open()
        while (block := input_.read(logger.block_bytes)) != b"":
            if block is None:
                input_.wants_rotation = False
                logger.rotate()
            else:
                logger.add_block(block)
                if others := input_.mark_done():
                    logger.add_block(others)
                logger.settle()
        logger.finish()
    finally:
        input_.close()
    return 0


def _copy(input_, retry):
    from pyqmail.supervise.logs.copying import Copy

    return Copy(input_.may_write, retry)
