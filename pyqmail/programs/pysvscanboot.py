"""Start pysvscan as the machine starts, with its error messages in the process table.

DIR is where the services are: /service, or /etc/service if only that exists.  Services that still run there are ended,
as by `pysvc -dx`.  Then pysvscan looks after the services.  Its output on descriptors 1 and 2, and that of services
without a log of their own, goes to pyreadproctitle; ps shows the end of it.

Both get an environment with only PATH: the directory of these programs, and then the original's list.  Descriptors 0, 1
and 2 are /dev/null from the start.

It ends when both have ended, so that init, or a unit with Restart=always, starts it again.
"""

import os
import sys

from pyqmail.base.options import Argument
from pyqmail.programs.registry import load
from pyqmail.system.command_line import Program
from pyqmail.system.processes import spawn, starter

PATH = b"/command:/usr/local/bin:/usr/local/sbin:/bin:/sbin:/usr/bin:/usr/sbin:/usr/X11R6/bin"
PLACES = ("/service", "/etc/service")
DOTS = 400

PROGRAM = Program(
    name="pysvscanboot",
    summary="start pysvscan as the machine starts",
    original="svscanboot",
    usage="svscanboot [ dir ]",
    arguments=[Argument("dir", "where the services are", optional=True)],
    exits={"any": "that of pyreadproctitle, when both programs have ended"},
    see=["pysvscan(8)", "pyreadproctitle(8)", "pysvc(8)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, boot)


def boot(call) -> int:
    os.environ.pop("SUPERVISEDIR", None)  # the services will not have it either
    place = call.dir or next(filter(os.path.isdir, PLACES), PLACES[0])
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    if null > 2:
        os.close(null)
    stop_leftovers(place)
    read_end, write_end = os.pipe()
    scanner = _start("pysvscan", [place], {1: write_end, 2: write_end})
    title = _start("pyreadproctitle", ["service", "errors:", "." * DOTS], {0: read_end})
    os.close(read_end)
    os.close(write_end)
    os.waitpid(scanner, 0)
    code = os.waitstatus_to_exitcode(os.waitpid(title, 0)[1])
    return code if code >= 0 else 128 - code


def stop_leftovers(place):
    """Tell all supervisors to bring down their services and logs and to leave; those that do not run cannot hear it."""
    try:
        names = sorted(name for name in os.listdir(place) if not name.startswith("."))
    except OSError:
        return
    services = [f"{place}/{name}" for name in names]
    logs = [log for log in (f"{service}/log" for service in services) if os.path.exists(log)]
    load("pysvc").main(["svc", "-dx", "--", *services, *logs])


def _start(name, words, descriptors):
    """Start a program of ours as a process of its own, which ps shows as what it is; returns its pid."""
    environ = {b"PATH": os.path.dirname(starter(PROGRAM.name)) + b":" + PATH}
    command = [os.fsencode(word) for word in (sys.executable, "-I", starter(name), *words)]
    return spawn(command, environ, None, descriptors)
