"""The other end of the FIFOs: commanding a supervisor and asking whether there is one.

They are in supervise/ below the service's directory.  SUPERVISEDIR names another place: as in daemontools-encore, a
relative one takes the place of `supervise`; below an absolute one, each service has a folder named after its directory,
`/` turned to `:`.  Supervisors and their clients must be given the same one.

A FIFO without a reader cannot be opened for writing without waiting (ENXIO): that is how a dead supervisor is
recognized.  The folder may belong to another user than the client: what is no FIFO is not written to, and no link to
another place is followed.
"""

import errno
import os
import stat

from pyqmail.base.failure import Temporary

NOT_RUNNING = (errno.ENOENT, errno.ENXIO)


def supervise_path(directory: str = ".", environ=None) -> str:
    """Return where the supervisor of a directory has its files; relative if it is below the working directory.

    environ: bytes to bytes; None is our own.
    """
    place = (os.environb if environ is None else environ).get(b"SUPERVISEDIR")
    place = os.fsdecode(place) if place else "supervise"
    if place.startswith("/"):
        return f"{place}/{os.path.realpath(directory)[1:].replace('/', ':')}"
    return place if directory == "." else f"{directory}/{place}"


def open_lock() -> int:
    """Return a descriptor of the file that the scanner of the working directory locks.  Raises OSError.

    No other user can open it, and no link is followed: EPERM if the file there is another user's.
    """
    path = scanner_lock_path()
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        os.close(fd)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    if found.st_mode & 0o077:
        os.fchmod(fd, 0o600)
    return fd


def scanner_lock_path() -> str:
    """Return where that file is: `.svscan-lock` in the directory; a name with a dot is never a service.

    If SUPERVISEDIR is absolute, it is beside the folders of its services, since nothing may be written elsewhere.  It
    stays, as those folders do: below /run or /tmp such files would outlive their directories.
    """
    folder = supervise_path()
    if folder.startswith("/"):
        return f"{os.path.dirname(folder)}/.{os.path.basename(folder)}:svscan-lock"
    return ".svscan-lock"


def open_control() -> int:
    """Return a blocking descriptor to the control FIFO of the working directory.

    Raises OSError: ENXIO if no supervisor reads it.
    """
    fd = _open_fifo(f"{supervise_path()}/control")
    os.set_blocking(fd, True)
    return fd


def command(directory: str, commands: bytes) -> bool:
    """Send commands to the supervisor of a directory; return whether one was there and accepted all of them.

    Never waits.
    """
    return _write(f"{supervise_path(directory)}/control", commands)


def command_process(pid: int, commands: bytes) -> bool:
    """Send commands to the supervisor with that pid, even if its files have lost their names.

    Returns whether it was there and accepted all of them.  Never waits.
    """
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False  # it has ended, or there is no /proc
    return any(_is_control(f"{folder}/{name}") and _write(f"{folder}/{name}", commands, 0) for name in names)


def _is_control(link):
    try:
        target = os.readlink(link)
    except OSError:
        return False  # closed meanwhile
    return os.path.basename(target.removesuffix(" (deleted)")) == "control"


def _open_fifo(path, flags=os.O_NOFOLLOW):
    """Return a descriptor to write to a FIFO.  Raises OSError: ENXIO if nothing reads there, or it is no FIFO."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))


def _write(path, commands, flags=os.O_NOFOLLOW):
    try:
        fd = _open_fifo(path, flags)
    except OSError:
        return False
    try:
        return os.write(fd, commands) == len(commands)
    except OSError:
        return False
    finally:
        os.close(fd)


def check_supervised(directory: str = ".") -> None:
    """Return if a supervisor of that directory is alive.  Raises OSError: see NOT_RUNNING."""
    os.close(open_ok(directory))


def open_ok(directory: str) -> int:
    """Return a descriptor on which poll(2) reports an error once the supervisor of that directory is gone.

    Raises OSError: see NOT_RUNNING.
    """
    return _open_fifo(f"{supervise_path(directory)}/ok")


def is_supervised(directory: str) -> bool:
    """Return whether a supervisor of that directory is alive."""
    try:
        check_supervised(directory)
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
