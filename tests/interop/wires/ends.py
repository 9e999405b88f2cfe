"""Not a test: ends of wires that only a forked part of a program has, for tests/interop/wires.

worker        a worker of pytcpserver that serves pysmtpd; descriptor 0 is the stream to the listener
helper WORDS  a worker of pytcpserver that starts a program for each connection; descriptor 0 likewise
local DEFAULT a worker of pylspawn that delivers; descriptor 3 is the socket to pylspawn
lookup NAME   a worker of pylspawn that looks users up with the program NAME; descriptor 3 likewise
starter       the process that starts the parts of pysend again, here only a resolver; descriptor 0 is the socket to it
"""

import os
import socket
import sys

from pyqmail.mail.local import worker_main
from pyqmail.mail.spawners.starter import StartedPart, Starter
from pyqmail.programs import pyresolve, pysmtpd
from pyqmail.system.descriptors import arrange
from pyqmail.system.home import find_home
from pyqmail.system.loop import Loop
from pyqmail.system.processes import exit_code, fork
from pyqmail.tcp.access.decide import ConnectionPolicy
from pyqmail.tcp.access.limits import Limits
from pyqmail.tcp.serving.modes import ServedProgram
from pyqmail.tcp.serving.spawn_helper import HelperRole
from pyqmail.tcp.serving.worker import SessionRole


def serve_connections():
    policy = ConnectionPolicy(local_host=b"listener.example", limits=Limits({}))
    program = ServedProgram(policy, ["pysmtpd"], None, dict(os.environb))
    return SessionRole(program, pysmtpd, 0, max_sessions=100).serve(socket.socket(fileno=0))


def start_programs():
    policy = ConnectionPolicy(local_host=b"listener.example")
    program = ServedProgram(policy, sys.argv[2:], os.environb[b"PATH"], dict(os.environb))
    return HelperRole(program, 0).serve(socket.socket(fileno=0))


def become_resolver(read_end, write_end):
    arrange({0: read_end, 1: write_end, 2: 2})
    return pyresolve.main(["pyresolve"])


def start_resolvers():
    (orders, no_more_orders), (_, reports) = os.pipe(), os.pipe()
    os.close(no_more_orders)
    parts = [StartedPart("pyresolve", become_resolver)]
    return Starter(Loop(), socket.socket(fileno=0), parts, "pystart").run([(orders, reports)])


ENDS = {
    "worker": serve_connections,
    "helper": start_programs,
    "local": lambda: worker_main.serve_deliveries(find_home(os.environb), os.fsencode(sys.argv[2]), os.environb),
    "lookup": lambda: worker_main.serve_lookups(sys.argv[2], os.environb),
    "starter": start_resolvers,
}

if __name__ == "__main__":
    pid = fork(ENDS[sys.argv[1]])  # as the program does: what it raises is a traceback and exit code 111
    os.closerange(0, 2)
    os.closerange(3, 4)
    sys.exit(exit_code(os.waitpid(pid, 0)[1]))
