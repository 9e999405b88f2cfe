"""Command the supervisors of services.

The letters are sent to each DIR in the order given.  A directory whose supervisor cannot be reached is a warning on
descriptor 2, and the exit code stays 0.
"""

import errno
import os

from pyqmail.base.failure import Usage, reason
from pyqmail.base.options import Act, Program, Rest
from pyqmail.supervise.control import StartingDirectory, open_control
from pyqmail.system.descriptors import log, write_all

# letter, its word in the original's help line, what the supervisor does
LETTERS = (
    ("u", "up", "start the service, and again whenever it ends"),
    ("d", "down", "send it SIGTERM and SIGCONT, and do not start it again"),
    ("o", "once", "start it, and not again when it ends"),
    ("x", "exit", "the supervisor leaves once the service is down"),
    ("p", "pause", "send SIGSTOP"),
    ("c", "continue", "send SIGCONT"),
    ("h", "hup", "send SIGHUP"),
    ("a", "alarm", "send SIGALRM"),
    ("i", "interrupt", "send SIGINT"),
    ("t", "term", "send SIGTERM"),
    ("k", "kill", "send SIGKILL"),
)
_OPTIONS = "svc options: " + ", ".join(f"{letter} {word}" for letter, word, _ in LETTERS)


class _Commands(Program):
    def wrong(self, complaint=None):
        """Instead of a usage line the original lists its options."""
        return Usage(f"{complaint}\n{_OPTIONS}" if complaint else _OPTIONS)


def _collect(letter):
    def act(call):
        if letter not in call.commands:
            call.commands += letter

    return act


PROGRAM = _Commands(
    name="pysvc",
    summary="command the supervisors of services",
    original="svc",
    usage="svc [ -udopchaitkx ] dir ...",
    options=[Act(letter, _collect(letter), f"{word}: {does}") for letter, word, does in LETTERS],
    defaults={"commands": ""},
    arguments=[Rest("dir", "the directories of services")],
    exits={0: "whoever was reached", 100: "wrong usage", 111: "the current directory is lost"},
    see=("pysupervise(8)", "pysvstat(8)"),
)


def main(argv):
    return PROGRAM.run(argv, work)


def work(call):
    start = StartingDirectory()
    for directory in call.dir:
        problem = send(directory, call.commands.encode())
        if problem:
            log(f"svc: warning: {problem}")
        start.go_back()
    start.close()
    return 0


def send(directory, commands):
    """Send commands to one directory, which becomes the working directory.  Returns what went wrong, else None."""
    try:
        os.chdir(directory)
    except OSError as error:
        return f"unable to chdir to {directory}: {reason(error)}"
    try:
        fd = open_control()
    except OSError as error:
        why = "supervise not running" if error.errno == errno.ENXIO else reason(error)
        return f"unable to control {directory}: {why}"
    try:
        write_all(fd, commands)
    except OSError as error:
        return f"error writing commands to {directory}: {reason(error)}"
    finally:
        os.close(fd)
    return None
