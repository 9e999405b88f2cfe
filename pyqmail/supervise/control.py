"""The other side of the FIFOs: commanding a supervisor and asking whether there is one.

A FIFO without a reader refuses to be opened for writing without waiting (ENXIO): that is how a dead supervisor is
known.
"""

import errno
import os

from pyqmail.base.failure import Temporary

NOT_RUNNING = (errno.ENOENT, errno.ENXIO)


def open_control(path: str = "supervise/control") -> int:
    """Return a blocking descriptor to the control FIFO.  Raises OSError: ENXIO if no supervisor reads it."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(fd, True)
    return fd


def command(directory: str, commands: bytes) -> bool:
    """Send commands to the supervisor of a directory; return whether one was there to take them all.

    Never waits.
    """
    try:
        fd = os.open(f"{directory}/supervise/control", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.write(fd, commands) == len(commands)
    except OSError:
        return False
    finally:
        os.close(fd)


def knock(path: str = "supervise/ok") -> None:
    """Return if a supervisor holds the FIFO open.  Raises OSError: see NOT_RUNNING."""
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def is_supervised(directory: str) -> bool:
    """Return whether a supervisor of that directory is alive."""
    try:
        knock(f"{directory}/supervise/ok")
    except OSError:
        return False
    return True


class StartingDirectory:
    """The working directory, to come back to after each directory that was visited.  Raises Temporary."""

    def __init__(self) -> None:
        try:
            self._fd = os.open(".", os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise Temporary("unable to open current directory", error) from None

    def go_back(self) -> None:
        """Make it the working directory again."""
        try:
            os.fchdir(self._fd)
        except OSError as error:
            raise Temporary("unable to set directory", error) from None

    def close(self) -> None:
        os.close(self._fd)
