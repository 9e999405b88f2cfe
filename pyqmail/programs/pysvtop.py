"""Show services, their states and what they use.

DIR is a directory of services, as pysvscan's, or a service itself; the default is the current directory.  On a terminal
the table is shown again every second, as much of it as fits, until q or Ctrl-C.  Otherwise, with TERM unset or dumb, or
with --once, all of it is shown once, as plain text.

A line is a service or its log.  The state is that of the supervisor: up, ready (up, and it has reported that), down,
paused, or one of pysupervise's other states; and what is wanted, if that differs.  `unsupervised`: no supervisor of it
is alive.  The columns after the state: for how long the process has existed, or has been gone; its number; how often
this supervisor started it again; how its last run ended; and the time between starts while they are slowed down.

Memory, processor and descriptors are those of the process and all its descendants, without the supervisor's own.
Memory is PSS: a page that N processes share counts 1/N for each, so that the column can be added up.  The processor's
share is that of the last second; when the table is shown for the first time, of the process's whole life; 100 is one
processor.

Every supervisor of this family is understood, daemontools and those that keep its files (daemontools-encore, runit).  A
dash stands for a value that they do not report, or that we may not read.  s6 keeps files of its own: its services are
unsupervised here.  In names, `?` stands for bytes that are not printable.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Flag, Rest
from pyqmail.base.printable import printable
from pyqmail.supervise.overview import find, look, table
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all
from pyqmail.system.usage import Meter

SCREEN = """\
Three services with their logs while mail comes in, one that fails repeatedly (its file backoff has 8), and one whose
supervisor has gone:

    6 of 8 up, memory 72M, processor 22.3%, descriptors 207

    SERVICE       STATE           FOR    PID  RESTARTS  ENDED    PAUSE  MEMORY  CPU%  FDS
    example       waiting          1s      -         2  exit 1      4s       -     -    -
    old           unsupervised      -      -         -  -            -       -     -    -
    pyqueued      up            4m12s  21077         1  SIGKILL      -    4.5M   4.7   46
    pyqueued/log  up            2d01h  20979         0  -            -    3.3M   0.0   11
    pysend        up            2d01h  20986         0  -            -     46M  10.0   89
    pysend/log    paused        2d01h  20988         0  -            -    3.8M   0.5   11
    pysmtpd       ready         2d01h  20980         0  -            -     11M   6.6   39
    pysmtpd/log   up            2d01h  20989         0  -            -    3.8M   0.5   11
"""

PROGRAM = Program(
    name="pysvtop",
    summary="show services, their states and what they use",
    options=[Flag(None, "is_once", "show the table once", long="once")],
    arguments=[Rest("dir", "directories of services, or services; default: the current directory")],
    exits={0: "shown", 111: "a DIR cannot be read, or the table cannot be written"},
    section=1,
    environment=("SUPERVISEDIR",),
    notes=[("What it looks like", SCREEN)],
    see=("pysvscan(8)", "pysupervise(8)", "pysvstat(8)", "pysvc(8)"),
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    directories, meter = [os.fsencode(one) for one in call.dir] or [b"."], Meter()
    if call.is_once or not os.isatty(1) or call.environ.get(b"TERM", b"") in (b"", b"dumb"):
        try:
            write_all(1, "".join(f"{line}\n" for line in draw(directories, meter)).encode("ascii"))
        except BrokenPipeError:
            pass  # who read it has seen enough
        except OSError as error:
            raise Temporary("unable to write", error) from None
        return 0
    from pyqmail.system.screen import watch

    watch(lambda most_lines: draw(directories, meter, most_lines))
    return 0


def draw(directories: list[bytes], meter, most_lines: int | None = None) -> list[str]:
    """Return the lines of the table as things are now.  Raises Temporary."""
    try:
        entries = [look(name, place) for name, place in find(directories)]
    except OSError as error:
        raise Temporary(f"unable to read {printable(os.fsencode(error.filename))}", error) from None
    used = meter.look([entry.pid for entry in entries if entry.pid])
    for entry in entries:
        entry.usage = used.get(entry.pid)
    return table(entries, most_lines=most_lines)
