"""Print the state of services.

One line on descriptor 1 for each DIR: whether its service is up, under which pid, for how many seconds, and what is
wanted where that differs.  What cannot be found out is said on the same line.
"""

import errno
import os

from pyqmail.base.failure import reason
from pyqmail.base.options import Program, Rest
from pyqmail.supervise.control import StartingDirectory, knock
from pyqmail.supervise.status import STATUS_BYTES, Status, describe
from pyqmail.system.descriptors import write_all

PROGRAM = Program(
    name="pysvstat",
    summary="print the state of services",
    original="svstat",
    usage="svstat dir ...",
    arguments=[Rest("dir", "the directories of services")],
    exits={0: "whatever the states are", 111: "the current directory is lost"},
    see=("pysupervise(8)", "pysvok(8)", "pysvc(8)"),
)


class Unknown(Exception):
    """The state cannot be found out; str() is the line's text."""


def main(argv):
    return PROGRAM.run(argv, work)


def work(call):
    start = StartingDirectory()
    lines = []
    for directory in call.dir:
        try:
            lines.append(f"{directory}: {state(directory)}\n")
        except Unknown as unknown:
            lines.append(f"{directory}: {unknown}\n")
        start.go_back()
    start.close()
    try:
        write_all(1, os.fsencode("".join(lines)))
    except OSError:
        return 111
    return 0


def state(directory):
    """Return the words for one directory, which becomes the working directory.  Raises Unknown."""
    _try("unable to chdir", os.chdir, directory)
    try:
        has_down_file = bool(os.stat("down"))
    except FileNotFoundError:
        has_down_file = False
    except OSError as error:
        raise Unknown(f"unable to stat down: {reason(error)}") from None
    try:
        knock()
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise Unknown("supervise not running") from None
        raise Unknown(f"unable to open supervise/ok: {reason(error)}") from None
    fd = _try("unable to open supervise/status", os.open, "supervise/status", os.O_RDONLY | os.O_NONBLOCK)
    try:
        return describe(Status(_try("unable to read supervise/status", os.read, fd, STATUS_BYTES)), has_down_file)
    except ValueError as problem:
        raise Unknown(f"unable to read supervise/status: {problem}") from None
    finally:
        os.close(fd)


def _try(text, call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        raise Unknown(f"{text}: {reason(error)}") from None
