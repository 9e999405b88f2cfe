"""Not a test: pytcpserver in a serving mode that its first word names, for tests/tcp/serving/test_modes.py.

worker_pool has the sessions of session_server.py.  The others run the program of the command line: fork_each,
spawn_each with one helper for bursts, and spawn_helper, where a helper starts every program.
"""

import sys

from pyqmail.programs import pytcpserver
from pyqmail.tcp.serving.choose import ServingModes
from pyqmail.tcp.serving.spawn_helper import HelperRole
from pyqmail.tcp.serving.worker_pool import WorkerPool
from tests.tcp.session_server import Session

MODES = {
    "worker_pool": lambda modes: modes.worker_pool(Session),
    "fork_each": lambda modes: modes.fork_each(),
    "spawn_each": lambda modes: modes.spawn_each(),
    "spawn_helper": lambda modes: WorkerPool(modes._server, 1, HelperRole(modes._program, modes._server.verbosity)),
}


class OneMode(ServingModes):
    def choose(self):
        return MODES[sys.argv[1]](self)


if __name__ == "__main__":
    pytcpserver.ServingModes = OneMode
    sys.exit(pytcpserver.main(["pytcpserver", *sys.argv[2:]]))
