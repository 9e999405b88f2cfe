"""A logger's copy of its lines on descriptor 1, beside the logs."""

import os

PIECE_BYTES = 4096  # what a pipe that is ready takes without making us wait where no signal is heard


class Copy:
    """Descriptor 1, as long as it takes anything.

    may_write: waits until a descriptor takes something, False to give up.  The logs have the lines: what goes wrong
    here is one warning, and no more is copied.
    """

    def __init__(self, may_write, patience) -> None:
        self._may_write, self._tell = may_write, patience.tell
        self._is_open = True

    def write(self, text: bytes) -> None:
        view = memoryview(text)
        while view and self._is_open:
            try:
                if self._may_write(1):
                    view = view[os.write(1, view[:PIECE_BYTES]) :]
                else:
                    self._stop("its reader has gone")
            except BlockingIOError:
                continue
            except OSError as error:
                self._stop(error)

    def _stop(self, why):
        self._tell("warning: unable to write to standard output, copying no more", why)
        self._is_open = False
