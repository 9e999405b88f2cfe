"""A logger's copy of its lines on descriptor 1, beside the logs."""

import os

PIECE_BYTES = 4096  # PIPE_BUF: a pipe that is ready takes it whole, so that we do not wait where no signal is noticed


class Copy:
    """Descriptor 1, as long as it takes anything.

    may_write: waits until a descriptor can be written to, False to give up.  The logs have the lines, so a failure here
    is one warning, and no more is copied.
    """

    def __init__(self, may_write, retry) -> None:
        self._may_write, self._report = may_write, retry.report
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
        self._report("warning: unable to write to standard output, copying no more", why)
        self._is_open = False
