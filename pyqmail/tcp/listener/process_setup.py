"""What a server changes of its own process before it serves: signals, descriptors, rights."""

import os
import signal

from pyqmail.base.failure import Temporary
from pyqmail.system.descriptors import open_standard_descriptors
from pyqmail.system.rlimits import SERVER_BYTES, memory_shortages
from pyqmail.tcp.access.log_lines import ERRORS, complaint_line, say_now


def set_up_process(call) -> None:
    """Set signals and descriptors as a server needs them, and warn if it has too little memory."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))  # until the server handles it
    open_standard_descriptors()
    if call.verbosity >= ERRORS:
        for text in memory_shortages(SERVER_BYTES):
            say_now(complaint_line(f"{text} under load"))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def drop_rights(call) -> None:
    """Become the group and the user asked for; 0 leaves them alone.  Raises Temporary."""
    if call.gid:
        try:
            os.setgroups([call.gid])
            os.setgid(call.gid)
        except OSError as error:
            raise Temporary("unable to set gid", error) from None
    if call.uid:
        try:
            os.setuid(call.uid)
        except OSError as error:
            raise Temporary("unable to set uid", error) from None


def leave_standard_descriptors() -> None:
    """Give up descriptors 0 and 1; /dev/null keeps their places, so that nothing else comes to stand there."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1):
        os.dup2(null, number)
    os.close(null)
