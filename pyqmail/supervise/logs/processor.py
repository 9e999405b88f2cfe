"""A log's processor: a shell command that makes of a finished file what is kept of it."""

import os

from pyqmail.system.processes import spawn

_REPLACE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def run_processor(command: str, log: str, patience) -> bool:
    """Run `sh -c command` once, in the working directory, a log's; return whether it succeeded.

    Its descriptors: 0 reads previous, 1 writes processed, 4 reads state, 5 writes newstate; what an earlier run wrote
    is gone.  What went wrong is said.  log: the name for that.
    """
    opened = {}
    try:
        opened[0] = os.open("previous", os.O_RDONLY)
        opened[1] = os.open("processed", _REPLACE, 0o644)
        opened[4] = os.open("state", os.O_RDONLY)
        opened[5] = os.open("newstate", _REPLACE, 0o644)
    except OSError as error:
        _close(opened)
        patience.tell(f"fatal: unable to run {command}", error)
        return False
    words = [b"sh", b"-c", os.fsencode(command)]
    pid = patience.insist(f"unable to fork for processor in {log}", spawn, words, os.environb, b"/bin", opened)
    _close(opened)
    status = patience.insist(f"wait failed for processor in {log}", os.waitpid, pid, 0)[1]
    if os.WIFSIGNALED(status):
        patience.wait(f"processor crashed in {log}", f"signal {os.WTERMSIG(status)}")
    return status == 0


def _close(opened):
    for descriptor in opened.values():
        os.close(descriptor)
