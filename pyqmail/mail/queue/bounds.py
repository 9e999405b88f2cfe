"""What a message must not pass: how large it may be, and what has to stay free where the queue is."""

import os

from pyqmail.base.failure import reason
from pyqmail.mail.queue import BOUND_CONTROLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.system.controls import Controls

CONTROLS = BOUND_CONTROLS
FREE_INODES_OF = 100  # one in so many inodes has to be free


class MessageRefused(Exception):
    """The message cannot be queued; exit_code says why, error is the system's reason if there is one, why ours."""

    def __init__(self, exit_code: int, error: OSError | None = None, why: str = "") -> None:
        super().__init__(exit_code)
        self.exit_code, self.error = exit_code, error
        self.why = why or ("" if error is None else _why(error))


def _why(error: OSError) -> str:
    """Return the reason, and the folder it holds for if that is known: one text for all messages it meets there."""
    path = error.filename2 or error.filename
    place = f" in {os.path.dirname(os.fsdecode(path))}" if isinstance(path, (str, bytes)) else ""
    return reason(error) + place


class Bounds:
    """What a message must not pass: its own bytes, and what is to remain free where the queue is; 0 is no bound.

    message_bytes holds for the content, and for the envelope once more.
    """

    __slots__ = ("message_bytes", "free_bytes")

    def __init__(self, message_bytes: int = 0, free_bytes: int = 0) -> None:
        self.message_bytes, self.free_bytes = message_bytes, free_bytes

    def check_size(self, size: int) -> None:
        """Raises Refused (31): trying again cannot help."""
        if 0 < self.message_bytes < size:
            raise MessageRefused(31, why=f"more than {self.message_bytes} bytes, see control/localbytes")

    def check_room(self, place: int | str) -> None:
        """Ask the file system of a path or a descriptor.  Raises Refused (53)."""
        if not self.free_bytes:
            return
        try:
            seen = os.statvfs(place)
        except OSError as error:
            raise MessageRefused(53, error) from None
        if seen.f_bavail * seen.f_frsize < self.free_bytes:
            raise MessageRefused(53, why=f"less than {self.free_bytes} bytes free, see control/queueminfree")
        # btrfs and others have no number of inodes
        if seen.f_favail * FREE_INODES_OF < seen.f_files:
            raise MessageRefused(53, why=f"less than 1/{FREE_INODES_OF} of the inodes free, see control/queueminfree")


def read_bounds(controls: "Controls", is_trusted: bool) -> Bounds:
    """Return the bounds of a message, from the control files as they are now.  Raises Refused (55).

    is_trusted: it comes from a uid that is one of qmail's.
    """
    try:
        free_bytes = controls.get("queueminfree")
        return Bounds(0 if is_trusted else controls.get("localbytes"), free_bytes)
    except OSError as error:
        raise MessageRefused(55, error) from None
