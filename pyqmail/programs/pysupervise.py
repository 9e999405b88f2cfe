"""Start a service and keep it running.

Goes into DIR, starts ./run there unless a file named down exists, and starts it again whenever it ends, at most once
a second.  Takes commands from pysvc through the FIFO DIR/supervise/control, and keeps the state in
DIR/supervise/status.  A second supervisor of the same directory does not start.

SIGTERM ends the supervisor only; to end the service and then the supervisor, `pysvc -dx DIR`.
"""

import signal

from pyqmail.base.options import Argument, Program
from pyqmail.supervise.supervisor import Supervisor

PROGRAM = Program(
    name="pysupervise",
    summary="start a service and keep it running",
    original="supervise",
    usage="supervise dir",
    arguments=[Argument("dir", "the directory of the service, with its program run")],
    exits={0: "told to exit, and the service is down", 100: "wrong usage", 111: "the directory is not fit for it"},
    see=("pysvc(8)", "pysvstat(8)", "pysvok(8)", "pysvscan(8)"),
)


def main(argv):
    if len(argv) > 2:
        argv = argv[:1]  # the original takes exactly one argument
    return PROGRAM.run(argv, work)


def work(call):
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    Supervisor(call.dir).run()
    return 0
