"""The files of a supervisor: supervise/ in the service's directory, or what SUPERVISEDIR says.

They are those of the original, and details.  All paths are relative to the service's directory, which must be the
working directory.
"""

import fcntl
import os
import stat

from pyqmail.base.failure import Temporary, is_lack, reason
from pyqmail.supervise.control import state_folder
from pyqmail.supervise.details import Details, look_for_details
from pyqmail.supervise.status import STATUS_BYTES, Status
from pyqmail.system.descriptors import log, read_file


class Folder:
    """directory names the service in messages as it was given.  Every method but write() raises Temporary.

    environ: bytes to bytes; a plain dict, as a walk through os.environ is pages of memory for each supervisor.
    """

    def __init__(self, directory: str, environ: dict) -> None:
        self._path = state_folder(environ=environ)
        self._shown = self._path if self._path.startswith("/") else f"{directory}/{self._path}"
        self._details = b""
        self._unmade = None  # why there is no such folder

    def make(self) -> None:
        """Make it, or what a symbolic link of that name points to (a patch of Debian's)."""
        try:
            self._make()
        except OSError as error:
            self._unmade = error  # the lock will tell, unless there was one

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
        try:
            lock = os.open(f"{self._path}/lock", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600)
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
        """From now on, whoever knocks knows that we are here."""
        self._open_fifo("ok")

    def read(self) -> tuple[Status, Details] | None:
        """Return what the last supervisor left, if status and details belong together; else None."""
        try:
            status = Status(read_file(f"{self._path}/status", STATUS_BYTES))
            details = look_for_details(status, self._path)
        except ValueError:
            return None
        except OSError as error:
            if is_lack(error):
                raise Temporary(f"unable to read {self._shown}/status", error) from None
            return None
        return None if details is None else (status, details)

    def write(self, status: bytes, details: bytes) -> None:
        """Replace the details, then the status: whoever reads one sees the old or the new.  Warns of what failed."""
        of_details = self._replace("details", details)
        warning = self._replace("status", status) or of_details
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

    def _open_fifo(self, name):
        """Return a descriptor reading a FIFO, made if need be.

        Anything else of that name goes: nobody could command us through it, and the lock says it is ours.
        """
        path = f"{self._path}/{name}"
        try:
            if not stat.S_ISFIFO(os.stat(path).st_mode):
                os.unlink(path)
                warn(f"{self._shown}/{name} is no FIFO, making it anew")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Temporary(f"unable to read {self._shown}/{name}", error) from None
        unmade = None
        try:
            os.mkfifo(path, 0o600)
        except OSError as error:
            unmade = error
        return self._open(name, os.O_RDONLY | os.O_NONBLOCK, "read", unmade)

    def _open(self, name, flags, purpose, unmade=None):
        try:
            return os.open(f"{self._path}/{name}", flags)
        except OSError as error:
            raise Temporary(f"unable to {purpose} {self._shown}/{name}", _better(error, unmade)) from None

    def _replace(self, name, data):
        """Replace a file by rename; return what went wrong, if anything did."""
        path, shown = f"{self._path}/{name}.new", f"{self._shown}/{name}.new"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o644)
        except OSError as error:
            return f"unable to open {shown}: {reason(error)}"
        try:
            if os.write(fd, data) != len(data):
                return f"unable to write {shown}: partial write"
        except OSError as error:
            return f"unable to write {shown}: {reason(error)}"
        finally:
            os.close(fd)
        try:
            os.rename(path, f"{self._path}/{name}")
        except OSError as error:
            return f"unable to rename {shown} to {name}: {reason(error)}"
        return None


def warn(text: str) -> None:
    """Say what is wrong; the supervisor goes on."""
    log(f"supervise: warning: {text}")


def _better(error, unmade):
    """Return the error that says more: what is not there could not be made, on a read-only file system say."""
    return unmade if isinstance(error, FileNotFoundError) and unmade is not None else error
