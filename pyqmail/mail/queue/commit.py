"""The commit: making a batch of new queue files durable.  One replaceable step, see Admission.

A commit object has commit(files, directories) -> the descriptors of both that are not safely on disk.
"""

import os


class ByFile:
    """fsync of each file, then of each directory.  Strict, and needs nobody's help.

    flush(files) -> those that are not safely on disk; None: one after the other.  Then write-back of all files is
    started before the first fsync waits: their blocks are allocated in one journal transaction, the first fsync commits
    it for all, and the others have little left to do.
    """

    def __init__(self, flush=None) -> None:
        self._flush = flush or _flush

    def commit(self, files, directories) -> set[int]:
        lost = self._flush(files) if files else set()
        return lost.union(fd for fd in directories if not _sync(fd))


def _flush(files):
    if len(files) > 1:
        for fd in files:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return {fd for fd in files if not _sync(fd)}


def _sync(fd):
    try:
        os.fsync(fd)
    except OSError:
        return False
    return True
