"""Wait until services are up, ready or down.

Waits without polling, also for a supervisor that does not exist yet: pysupervise, or another one that has the files of
supervise.  With several directories, it waits until all of them are as wanted at the same moment.

A service without a file notification-fd cannot report that it is ready: it is ready once it is up.  Down means that
nothing runs and nothing is going to run.  A service between two starts is not down; neither is one whose finish or stop
script runs, nor one that has lost its supervisor and runs on.  A service without a supervisor and without such a
process is down.

A supervisor does not read commands for a second after each start, and pysvc does not wait for it: `pysvc -u DIR` and
then `pysvwait -d DIR` may find it still down.
"""

from pyqmail.base.numbers import is_number
from pyqmail.base.options import Flag, Rest, Value
from pyqmail.supervise.waiting import READY, REALLY_DOWN, UP, Waiter
from pyqmail.system.command_line import Program

TIMED_OUT = 99


def _seconds(text):
    if not is_number(text.replace(".", "", 1)):
        raise ValueError(f"not a number of seconds: {text}")
    return float(text)


PROGRAM = Program(
    name="pysvwait",
    summary="wait until services are up, ready or down",
    usage="pysvwait -u | -U | -d [ -t seconds ] [ -a | -o ] dir ...",
    options=[
        Flag("u", "wanted", "until they are up", value=UP),
        Flag("U", "wanted", "until they are ready", value=READY),
        Flag("d", "wanted", "until they are really down", value=REALLY_DOWN),
        Value(
            "t",
            "seconds",
            "seconds",
            "maximum time to wait, for example 0.5; 0: check once; default: no limit",
            convert=_seconds,
        ),
        Flag("a", "is_any", "until all are", value=False, is_default=True),
        Flag("o", "is_any", "until one of them is", value=True),
    ],
    arguments=[Rest("dir", "the directories of services", required=True)],
    environment=("SUPERVISEDIR",),
    exits={
        0: "they are",
        TIMED_OUT: "timeout",
        100: "wrong usage",
        111: "unable to find out, for example a DIR is missing",
    },
    see=("pysupervise(8)", "pysvc(8)", "pysvstat(8)"),
)


def main(argv):
    return PROGRAM.run(argv, work)


def work(call):
    if call.wanted is None:
        raise PROGRAM.wrong()
    return 0 if Waiter(call.dir, call.wanted).wait(call.seconds, call.is_any) else TIMED_OUT
