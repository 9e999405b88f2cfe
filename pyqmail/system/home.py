"""The qmail home: where it is, its folders, and who its users are.

A *private* home has the marker file `private`: there everything belongs to and runs as the file's owner, who
may deliver even as uid 0.  In any other home the usual users each have their part.
"""

import os
import stat

DEFAULT = "/var/qmail"
MARKER = "private"
USERS = ("alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails")


class Home:
    """Paths below the qmail home: control, queue, users, alias, run, var."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.control, self.queue = f"{path}/control", f"{path}/queue"
        self.users, self.alias, self.run = f"{path}/users", f"{path}/alias", f"{path}/run"
        self.var = f"{path}/var"  # what the queue manager has learned, and can do without

    @property
    def queue_socket(self) -> str:
        """Where pyqueued listens."""
        return f"{self.run}/pyqueued"

    @property
    def send_socket(self) -> str:
        """Where pysend answers what waits, and why."""
        return f"{self.run}/pysend"

    def owner(self) -> int | None:
        """Return the uid of a private home's owner, None if the home is not private.  Raises OSError."""
        try:
            return os.stat(f"{self.path}/{MARKER}").st_uid
        except (FileNotFoundError, NotADirectoryError):
            return None

    def uid(self, user: str) -> int:
        """Return the uid of one of USERS here.  Raises LookupError if the system has no such user."""
        owner = self.owner()
        if owner is not None:
            return owner
        import pwd  # a session asks for no user; pwd and grp are part of the interpreter: a service reads no file here

        try:
            return pwd.getpwnam(user).pw_uid
        except KeyError:
            raise LookupError(user) from None

    def gid(self, group: str) -> int:
        """Return the gid of `qmail` or `nofiles` here.  Raises LookupError if the system has no such group."""
        try:
            return os.stat(f"{self.path}/{MARKER}").st_gid
        except (FileNotFoundError, NotADirectoryError):
            pass
        import grp

        try:
            return grp.getgrnam(group).gr_gid
        except KeyError:
            raise LookupError(group) from None


def find_home(environ) -> Home:
    """Return the home $PYQMAIL_HOME names, else /var/qmail.  environ maps bytes to bytes."""
    return Home(os.fsdecode(environ.get(b"PYQMAIL_HOME") or DEFAULT.encode()))


def count_split(queue: str) -> int:
    """Return into how many directories mess/ is split.  Raises OSError."""
    return sum(
        1 for entry in os.scandir(f"{queue}/mess") if entry.name.isdigit() and stat.S_ISDIR(entry.stat().st_mode)
    )
