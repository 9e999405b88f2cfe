"""Send commands to the supervisors of services.

The letters are sent to each DIR in the order given.  If the supervisor of a directory cannot be reached, a warning on
descriptor 2 reports it, and the exit code stays 0: scripts rely on that.  With --strict the exit code reports it, too.

The commands q, 1, 2 and w are daemontools-encore's: the original's supervise ignores them without a message.
"""

import errno
import os

from pyqmail.base.failure import Permanent, Temporary, Usage
from pyqmail.base.options import Act, Flag, Rest
from pyqmail.supervise.control import NOT_RUNNING, StartingDirectory, open_control
from pyqmail.system.command_line import Program
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
    ("q", "quit", "send SIGQUIT"),  # from here on as daemontools-encore
    ("1", "usr1", "send SIGUSR1"),
    ("2", "usr2", "send SIGUSR2"),
    ("w", "winch", "send SIGWINCH"),
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
    summary="send commands to the supervisors of services",
    original="svc",
    usage="svc [ -udopchaitkxq12w ] [ --strict ] dir ...",
    options=[
        *(Act(letter, _collect(letter), f"{word}: {does}") for letter, word, does in LETTERS),
        Flag(None, "is_strict", "exit with 100 or 111 if a directory could not be reached", long="strict"),
    ],
    fields={"commands": ""},
    arguments=[Rest("dir", "the directories of services")],
    environment=("SUPERVISEDIR",),
    exits={
        0: "without --strict, always; with it, every supervisor was reached",
        100: "wrong usage; with --strict, a supervisor is not running",
        111: "the current directory is lost; with --strict, another error with a directory",
    },
    see=("pysupervise(8)", "pysvstat(8)", "pysvwait(8)"),
)


def main(argv):
    return PROGRAM.run(argv, work)


def work(call):
    start = StartingDirectory()
    code = 0
    for directory in call.dir:
        try:
            send(directory, call.commands.encode())
        except (Permanent, Temporary) as problem:
            log(PROGRAM.line(f"warning: {problem}"))
            code = max(code, problem.code)
        start.go_back()
    start.close()
    return code if call.is_strict else 0


def send(directory, commands):
    """Send commands to one directory, which becomes the working directory.

    Raises Permanent if no supervisor is running there, Temporary for other trouble.
    """
    try:
        os.chdir(directory)
    except OSError as error:
        raise Temporary(f"unable to chdir to {directory}", error) from None
    fd = _open_control(directory)
    try:
        write_all(fd, commands)
    except OSError as error:
        raise Temporary(f"error writing commands to {directory}", error) from None
    finally:
        os.close(fd)


def _open_control(directory):
    try:
        return open_control()
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise Permanent(f"unable to control {directory}: supervise not running") from None
        failure = Permanent if error.errno in NOT_RUNNING else Temporary
        raise failure(f"unable to control {directory}", error) from None
