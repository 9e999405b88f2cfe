"""The files of a supervisor: supervise/ in the service's directory, or where SUPERVISEDIR says.

They are those of the original, and details.  At first the service's directory must be the working directory.  From the
lock on, the folder is held by a descriptor: even if the names that lead to it change, the status of what runs is
written to that folder, and commands are read there.

The folder may belong to the account that is to command the service.  So no link in it is followed, no file that was
there is written to, and a status that another user wrote does not count.
"""

import fcntl
import os
import stat

from pyqmail.base.failure import Temporary, is_lack, reason
from pyqmail.supervise.control import supervise_path
from pyqmail.supervise.details import MAX_DETAILS_BYTES, Details, read_details
from pyqmail.supervise.status import STATUS_BYTES, Status
from pyqmail.system.descriptors import log, read_all
from pyqmail.system.durable import NotWritten, replace_file

LABEL = "supervise"  # at the head of a supervisor's lines


class SuperviseDir:
    """directory names the service in messages as it was given.  Every method but write() raises Temporary.

    environ: bytes to bytes; a plain dict, since reading os.environ would cost each supervisor pages of memory.
    """

    __slots__ = ("_path", "_shown", "_details", "_unmade", "_fd")

    def __init__(self, directory: str, environ: dict) -> None:
        self._path = supervise_path(environ=environ)
        self._shown = self._path if self._path.startswith("/") else f"{directory}/{self._path}"
        self._details = b""
        self._unmade: OSError | None = None  # why the folder could not be made
        self._fd = -1  # the folder, from lock() on

    def make(self) -> None:
        """Make it, or what a symbolic link of that name points to (a patch of Debian's)."""
        try:
            self._make()
        except OSError as error:
            self._unmade = error  # reported by lock(), unless the folder exists

    def _make(self):
        try:
            os.mkdir(self._path, 0o700)
        except FileNotFoundError:
            os.makedirs(self._path, 0o700)
        except FileExistsError:
            if os.path.exists(self._path):
                raise
            os.mkdir(os.readlink(self._path), 0o700)

    def lock(self) -> None:
        """Take the lock for as long as this process lives."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            lock = os.open("lock", flags, 0o600, dir_fd=self._fd)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Temporary(f"unable to acquire {self._shown}/lock", _better(error, self._unmade)) from None

    def open_control(self) -> int:
        """Return a descriptor to read commands from."""
        control = self._open_fifo("control")
        # open for writing too, or the FIFO would be at its end after the first writer
        self._open("control", os.O_WRONLY | os.O_NONBLOCK, "write")
        return control

    def open_ok(self) -> None:
        """From now on, check_supervised() finds us."""
        self._open_fifo("ok")

    def read(self) -> tuple[Status, Details] | None:
        """Return what the last supervisor left; None if it was not one of ours, or the files are not of one moment."""
        try:
            status = Status(self._read("status", STATUS_BYTES))
            details = read_details(self._read("details", MAX_DETAILS_BYTES))
        except ValueError:
            return None
        except OSError as error:
            if is_lack(error):
                raise Temporary(f"unable to read {self._shown}/status", error) from None
            return None
        return (status, details) if details.label == status.label else None

    def _read(self, name, limit_bytes):
        fd = os.open(
            f"{self._path}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
        )  # it exists: it was just locked
        try:
            if os.fstat(fd).st_uid not in (0, os.geteuid()):
                raise ValueError("written by another user")
            return read_all(fd, limit_bytes)
        finally:
            os.close(fd)

    def write(self, status: bytes, details: bytes) -> None:
        """Replace the details, then the status: a reader sees the old file or the new one.  Warns of what failed."""
        of_details = self._replace("details", details)
        warning = self._replace("status", status) or of_details or self._is_elsewhere()
        if warning:
            warn(warning)
        self._details = details

    def write_details(self, details: bytes) -> None:
        """Replace the details if they have changed since."""
        if details != self._details:
            warning = self._replace("details", details)
            if warning:
                warn(warning)
            self._details = details

    def _is_elsewhere(self):
        """Return the warning if the folder has lost its name: nobody finds what is written there."""
        try:
            os.stat(self._path)
        except FileNotFoundError as error:
            if os.stat(
                "."
            ).st_nlink:  # otherwise our directory is gone too, and a client reaches the folder through a link
                return f"unable to open {self._shown}/status.new: {reason(error)}"
        except OSError:
            pass
        return None

    def _open_fifo(self, name):
        """Return a descriptor reading a FIFO, made if it is missing.

        Anything else of that name is removed: it would be of no use, and the lock proves that it is ours.
        """
        try:
            if not stat.S_ISFIFO(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=self._fd)
                warn(f"{self._shown}/{name} is not a FIFO, making it again")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Temporary(f"unable to read {self._shown}/{name}", error) from None
        unmade = None
        try:
            os.mkfifo(name, 0o600, dir_fd=self._fd)
        except OSError as error:
            unmade = error
        return self._open(name, os.O_RDONLY | os.O_NONBLOCK, "read", unmade)

    def _open(self, name, flags, purpose, unmade=None):
        try:
            return os.open(f"{self._path}/{name}", flags | os.O_NOFOLLOW)
        except OSError as error:
            raise Temporary(f"unable to {purpose} {self._shown}/{name}", _better(error, unmade)) from None

    def _replace(self, name, data):
        """Replace a file by rename; return what went wrong, if anything did."""
        shown = f"{self._shown}/{name}.new"
        try:
            replace_file(name, f"{name}.new", 0o644, lambda fd: _write_whole(fd, data), self._fd, is_synced=False)
        except _PartialWrite:
            return f"unable to write {shown}: partial write"
        except NotWritten as failed:
            what = {"create": f"open {shown}", "write": f"write {shown}", "move": f"rename {shown} to {name}"}
            return f"unable to {what[failed.step]}: {reason(failed.error)}"
        return None


class _PartialWrite(Exception):
    pass


def _write_whole(fd, data):
    if os.write(fd, data) != len(data):
        raise _PartialWrite


def warn(text: str) -> None:
    """Report what is wrong; the supervisor goes on."""
    log(f"{LABEL}: warning: {text}")


def _better(error, unmade):
    """Return the error that explains more: if a file is missing, why it could not be made, for example EROFS."""
    return unmade if isinstance(error, FileNotFoundError) and unmade is not None else error
