"""Print the state of services.

One line on descriptor 1 for each DIR: whether its service is up, under which pid, for how many seconds, and what is
wanted if that differs.  If the state cannot be determined, the line has the reason.

With --long, more that pysupervise knows follows after a semicolon: the state of pysupervise(8) if it is more than up or
down, since when the service is ready, the seconds between its starts if they are more than one, how often this
supervisor started it, and how it ended last:

    pysmtpd: up (pid 7) 12 seconds; ready 11 seconds, started 3 times, last exit code 111

With --json each line is an object: directory, and error, or up, pid, seconds, paused, wish (up, down or once),
has_down_file, and, if they are known, state, ready_seconds, wait_seconds, starts, exit_code, signal.
"""

import errno
import os
import time

from pyqmail.base.failure import reason
from pyqmail.base.options import Flag, Rest
from pyqmail.supervise.control import StartingDirectory, check_supervised, supervise_path
from pyqmail.supervise.details import Details, details_of
from pyqmail.supervise.status import STATUS_BYTES, Status, describe
from pyqmail.supervise.status_json import describe_details, status_json
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all

PROGRAM = Program(
    name="pysvstat",
    summary="print the state of services",
    original="svstat",
    usage="svstat [ --long | --json ] dir ...",
    options=[
        Flag(None, "form", "show all that pysupervise knows", value="long", long="long", default="short"),
        Flag(None, "form", "the same as objects", value="json", long="json"),
    ],
    arguments=[Rest("dir", "the directories of services")],
    environment=("SUPERVISEDIR",),
    exits={0: "printed, for any states", 111: "the current directory is lost"},
    see=("pysupervise(8)", "pysvok(8)", "pysvc(8)", "pysvwait(8)", "pysvtop(1)"),
)


class Unknown(Exception):
    """The state cannot be found out; str() is the line's text."""


def main(argv):
    return PROGRAM.run(argv, work)


def work(call):
    start = StartingDirectory()
    lines = []
    for directory in call.dir:
        lines.append(_line(directory, call.form))
        start.go_back()
    start.close()
    try:
        write_all(1, os.fsencode("".join(lines)))
    except OSError:
        pass  # as the original, which does not look
    return 0


def _line(directory, form):
    try:
        status, details, has_down_file = look(directory, form != "short")
        known = {"directory": directory, **status_json(status, details, has_down_file, int(time.time()))}
        text = describe(status, has_down_file)
        if form == "long":
            text += describe_details(details, status, os.path.exists("notification-fd"))
    except Unknown as unknown:
        text = str(unknown)
        known = {"directory": directory, "error": text}
    if form != "json":
        return f"{directory}: {text}\n"
    import json

    return json.dumps(known) + "\n"


def look(directory, is_thorough):
    """Return (status, details, whether a down file exists) of one directory, which becomes the working directory.

    Details are empty if not wanted or not known.  Raises Unknown.
    """
    _try("unable to chdir", os.chdir, directory)
    has_down_file = _has_down_file()
    folder = supervise_path()
    _check_supervisor(folder)
    fd = _try(f"unable to open {folder}/status", os.open, f"{folder}/status", os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = Status(_try(f"unable to read {folder}/status", os.read, fd, STATUS_BYTES))
    except ValueError as problem:
        raise Unknown(f"unable to read {folder}/status: {problem}") from None
    finally:
        os.close(fd)
    details = details_of(status, folder) if is_thorough else None
    return status, details or Details(), has_down_file


def _has_down_file():
    try:
        return bool(os.stat("down"))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unknown(f"unable to stat down: {reason(error)}") from None


def _check_supervisor(folder):
    """Raise Unknown if nobody supervises the working directory."""
    try:
        check_supervised()
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise Unknown("supervise not running") from None
        raise Unknown(f"unable to open {folder}/ok: {reason(error)}") from None


def _try(text, call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        raise Unknown(f"{text}: {reason(error)}") from None
