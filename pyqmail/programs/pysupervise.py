"""Start a service and keep it running.

Changes to DIR, starts ./run there unless a file named down exists, and starts it again whenever it ends, at most once a
second.  Takes commands from pysvc through the FIFO DIR/supervise/control, and keeps the state in DIR/supervise/status.
A second supervisor of the same directory does not start.

SIGTERM ends the supervisor only; to end the service and then the supervisor, use `pysvc -dx DIR`.  The next supervisor
takes over a service that was left running in this way, with a warning, if DIR/supervise/details proves that the process
with the pid of the status is that very one.  Its exit code will not be known.  A start, finish or stop that still runs
is taken over likewise: nothing is started before it has ended; a start is then run once more, after stop.  To have a
second copy started beside it, as the original does, remove that file first.  In a copy of the directory, nothing is
taken over.

Started by root it warns if others can change a program that it runs there, or a directory above it: they could become
root with the next start of run.  Give no directory with a run in it to an account; of a log, only `log/main`.
"""

import _signal as signal
import os

from pyqmail.base.failure import Failure
from pyqmail.base.options import Argument
from pyqmail.supervise.settings import FINISH_MILLISECONDS
from pyqmail.supervise.supervise_dir import LABEL, warn
from pyqmail.supervise.supervisor import Supervisor
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import log

_FILES = [
    ("down", "the service is not started until `pysvc -u`; read once"),
    (
        "finish",
        "a program that is run as `./finish CODE SIGNAL` after each end of run: its exit code and 0, or 256 and the "
        "signal that killed it, as in s6 (runit has -1 for 256); 111 if run could not be executed.  The next start "
        "waits for it.  Exit code 125: the service has failed permanently and is wanted down",
    ),
    (
        "timeout-finish",
        f"milliseconds that finish may take before it is killed; default {FINISH_MILLISECONDS}; 0: no limit",
    ),
    (
        "start",
        "a program that is run before run when the service was down, not at each restart.  Any exit code but 0: the "
        "service has failed permanently and is wanted down; unless `pysvc -d` ended it, which makes it `abandoning`",
    ),
    (
        "stop",
        "a program that is run once the service is down and not to be started again; not after a permanent failure",
    ),
    (
        "notify",
        "a program that is run as `./notify SCRIPT EVENT PID CODE` at each start and end of start, run, finish and "
        "stop; EVENT is start, exit or killed, CODE the exit code or the signal.  Nothing waits for it",
    ),
    ("down-signal", "the signal for `pysvc -d` by name or number, instead of TERM; CONT follows as usual"),
    ("timeout-kill", "milliseconds from `pysvc -d` until a run that has not ended is killed; default 0: never"),
    (
        "backoff",
        "maximum time in seconds from one start to the next: a service that ends earlier is started again after 1, 2, "
        "4 seconds and so on up to that; once it has run that long, after 1 again; default: always 1",
    ),
    (
        "notification-fd",
        "the number, 3 or more, of a descriptor to which run writes a line end when it is ready; for pysvwait -U.  "
        "Once its supervisor was killed, nothing reads it",
    ),
]
_CONVENTIONS = """
The original knows only down.  A program is a regular file that may be executed; any other file is ignored.  Numbers and
signals are read each time they are needed, so a change counts at once.

If start, stop or notify exists, the conventions are those of daemontools-encore, and a run that exits with 100 has
failed permanently.  Otherwise it is restarted, as by the original.  Encore's setsid, its log file that is a program,
and its service without run are missing.  `L`, `l` and `+` of its svc are ignored, so that a command after them goes to
run alone.

`pysvstat --long` shows a service that has failed permanently as failed; `pysvc -u DIR` starts it again.

The programs have the environment and the descriptors of run.  While start, finish or stop runs, the signals of
pysvc go to it.

If SUPERVISEDIR is set, the supervisor's files are not in DIR/supervise.  A relative one replaces that name.  Below an
absolute one, which may be on another file system, each service has a folder named after its directory, without the
first slash and with `:` for the others: `/run/sv/service:pysmtpd` for /service/pysmtpd.  It must be the same for pysvc,
pysvstat and the others.  Until its supervisor leaves, that folder has the name that the directory had at first: do not
rename it before.
"""
_STATES = """
What may happen in each state, the state that follows, and what is done then, in this order.  Letters are commands of
pysvc(8).  `leaving`: if x was commanded; `again`: otherwise, if the service is wanted up, or another start was
requested; without either: in all other cases.  A program that is missing is done at once.

In the second after each start, `fresh`, events are kept until it is over (`rested`).  `due`: it is time for the next
start; `overdue`: a program that should have ended has not; `broken`: it reports that the service has failed
permanently.  `status`: the status file is written.
"""


class _Notes:
    """The manual's further sections; made when asked for, which no supervisor does."""

    def __iter__(self):
        from pyqmail.supervise.diagram import diagram

        yield "Files", _FILES
        yield "More about files", _CONVENTIONS
        yield "States", f"{_STATES}\n{diagram()}"


PROGRAM = Program(
    name="pysupervise",
    summary="start a service and keep it running",
    original=LABEL,
    usage="supervise dir",
    arguments=[Argument("dir", "the directory of the service, with its program run")],
    notes=_Notes(),
    environment=("SUPERVISEDIR",),
    exits={
        0: "ended by `pysvc -x`, and the service is down",
        100: "wrong usage",
        111: "the directory cannot be used, or memory or descriptors have run out",
    },
    see=("pysvc(8)", "pysvstat(8)", "pysvok(8)", "pysvwait(8)", "pysvscan(8)"),
)


def main(argv):
    if len(argv) > 2:
        argv = argv[:1]  # the original takes exactly one argument
    return PROGRAM.run(argv, work)


def work(call):
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.geteuid() == 0:
        report_risks(call.dir)
    Supervisor(call.dir, dict(call.environ)).run()
    return 0


def report_risks(directory):
    """Report who else could change what we are about to run as root."""
    from pyqmail.supervise.safety import risks

    for risk in risks(os.fsencode(directory)):
        warn(f"{directory} {risk}")


def supervise(directory, environ):
    """Do in a scanner's forked copy what main does: no command line, and in as little memory of its own as that takes.

    environ: bytes to bytes, a plain dict that was made before the fork.  Returns the exit code.
    """
    try:
        Supervisor(directory, environ).run()
    except Failure as failure:
        log(PROGRAM.line(f"fatal: {failure}"))
        return failure.code
    return 0
