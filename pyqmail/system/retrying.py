"""System calls made again while they fail for a reason that may pass, by programs that may wait.

EPIPE and ECONNRESET say that the other end has gone, which no further try mends.  Anything else (no memory, no
buffers, an error of a disk) is tried again after growing pauses, about ten seconds in all, and then raised: the parent
starts us again.  What runs on a loop counts its pauses there (base/backoff.py).
"""

import os
import time

from pyqmail.base.backoff import Backoff

MAX_TRIES = 10
_FIRST_SECONDS, _MAX_SECONDS = 0.02, 5.0


def retried(call, *arguments):
    """Return call(*arguments).  Raises OSError: at once if the other end has gone, else after MAX_TRIES."""
    backoff = Backoff(_FIRST_SECONDS, _MAX_SECONDS)
    while True:
        try:
            return call(*arguments)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except OSError:
            pause = backoff.next_seconds()
            if backoff.tries >= MAX_TRIES:
                raise
            time.sleep(pause)


def write_surely(fd: int, data: bytes) -> None:
    """Write all of data to a blocking descriptor, trying again as retried() does.  Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[retried(os.write, fd, view) :]
