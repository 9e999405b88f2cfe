"""Keep a supervisor on every service in a directory.

Looks at DIR, or the current directory, at once and then every five seconds: each directory in it whose name does not
start with a dot is a service.  If it has a log directory when first seen, that is supervised too, and what the service
writes to descriptor 1 goes through a pipe to descriptor 0 of its log.  The pipe stays open here, so that restarting
either loses nothing.  There is no limit on their number.

The supervisors are forked from this process; with --supervise PROGRAM, that program is found in PATH and executed.

Like the original it dies of SIGTERM and leaves the supervisors to themselves.  With --stop-on-term, SIGTERM, SIGINT
and SIGHUP bring down every service and then its log, kill what is left after four seconds, and end with 0.  In this
mode each supervisor has a process group of its own; a service whose supervisor was killed is ended before another is
started; and supervisors left by an earlier pysvscan are brought down first.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Flag, Program, Rest, Value
from pyqmail.programs.registry import load
from pyqmail.supervise.scanning import keep_scanning
from pyqmail.system.processes import find_ours

PROGRAM = Program(
    name="pysvscan",
    summary="keep a supervisor on every service in a directory",
    original="svscan",
    usage="svscan [ --stop-on-term ] [ --supervise program ] [ dir ]",
    options=[
        Flag(None, "stop_on_term", "bring everything down on SIGTERM, SIGINT or SIGHUP", long="stop-on-term"),
        Value(None, "supervise", "program", "execute this instead of forking our own", long="supervise"),
    ],
    defaults={"stop_on_term": False, "supervise": None},
    arguments=[Argument("dir", "where the services are", optional=True), Rest("ignored")],
    environment=("PATH",),
    exits={0: "stopped by a signal with --stop-on-term", 111: "cannot enter the directory"},
    see=("pysupervise(8)", "pysvc(8)", "pysvstat(8)"),
)


def main(argv):
    return PROGRAM.run(argv, work)


def work(call):
    if call.dir is not None:
        try:
            os.chdir(call.dir)
        except OSError as error:
            raise Temporary(f"unable to chdir to {call.dir}", error) from None
    program, path = call.supervise, call.environ.get(b"PATH")
    is_ours = program is None or find_ours(os.fsencode(program), path) == "pysupervise"
    main = load("pysupervise").main if is_ours else None
    keep_scanning(main, program or "supervise", call.stop_on_term)
    return 0
