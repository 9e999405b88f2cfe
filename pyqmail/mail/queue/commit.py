"""The commit: making a batch of new queue files durable.  One replaceable step, see Admission.

A commit object has commit(files, directories) -> the descriptors of both that are not safely on disk.
"""

from pyqmail.system.fsync_batch import flush_in_turn, is_synced


class ByFile:
    """fsync of each file, then of each directory.  Strict, and needs nobody's help.

    flush(files) -> those that are not safely on disk.
    """

    def __init__(self, flush=flush_in_turn) -> None:
        self._flush = flush

    def commit(self, files, directories) -> set[int]:
        return self._flush(files) | {fd for fd in directories if not is_synced(fd)}
