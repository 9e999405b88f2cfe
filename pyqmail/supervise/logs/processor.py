"""A log's processor: a shell command that turns a finished file into what is kept of it."""

import os

from pyqmail.supervise.logs.logdir import replace_file
from pyqmail.system.processes import spawn


def run_processor(command: str, log: str, retry, is_shared: bool = False) -> bool:
    """Run `sh -c command` once, in the working directory, a log's; return whether it succeeded.

    Its descriptors: 0 reads previous, 1 writes processed, 4 reads state, 5 writes newstate; what an earlier run wrote
    is lost.  Failures are reported, log is the name for that.  is_shared: others can make names there, so that no link
    is followed.
    """
    try:
        opened = _open_files(is_shared)
    except OSError as error:
        retry.report(f"fatal: unable to run {command}", error)
        return False
    words = [b"sh", b"-c", os.fsencode(command)]
    pid = retry.until_done(f"unable to fork for processor in {log}", spawn, words, os.environb, b"/bin", opened)
    _close(opened)
    status = retry.until_done(f"wait failed for processor in {log}", os.waitpid, pid, 0)[1]
    if os.WIFSIGNALED(status):
        retry.pause(f"processor crashed in {log}", f"signal {os.WTERMSIG(status)}")
    return status == 0


def _open_files(is_shared):
    """Return number there -> descriptor here.  Raises OSError, with all of them closed."""
    opened, reading = {}, os.O_RDONLY | (os.O_NOFOLLOW if is_shared else 0)
    try:
        opened[0] = os.open("previous", reading)
        opened[1] = replace_file("processed", is_shared)
        opened[4] = os.open("state", reading)
        opened[5] = replace_file("newstate", is_shared)
    except OSError:
        _close(opened)
        raise
    return opened


def _close(opened):
    for descriptor in opened.values():
        os.close(descriptor)
