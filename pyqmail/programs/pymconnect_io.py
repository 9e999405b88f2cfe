"""Talk over a connection that is open: the program that mconnect runs under tcpclient.

Copies descriptor 0 to 7 with a CR before every newline, even after another CR, and descriptor 6 to 1 unchanged; each as
it comes.  It ends when 6 ends.  The end of 0 closes nothing: the replies still come.  Arguments are ignored; output
that cannot be written is lost.
"""

import _signal as signal  # the module without its enums: those cost a third of the start
import os

from pyqmail.base.failure import Temporary
from pyqmail.protocol.crlf import add_returns
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all
from pyqmail.system.processes import fork

PROGRAM = Program(
    name="pymconnect-io",
    summary="talk over a connection that is open",
    original="mconnect-io",
    usage="mconnect-io",
    exits={0: "descriptor 6 has ended", 111: "unable to fork"},
    see=["pymconnect(1)", "pytcpclient(1)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, talk)


def talk(call) -> int:
    try:
        speaker = fork(_speak)
    except OSError as error:
        raise Temporary("unable to fork", error) from None
    try:
        _copy(6, 1)
    finally:
        os.kill(speaker, signal.SIGKILL)  # not TERM: it may have come down to us ignored
        os.waitpid(speaker, 0)
    return 0


def _speak():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _copy(0, 7, add_returns)


def _copy(source, target, change=bytes):
    """Copy until source ends or fails, whether target takes it or not."""
    while block := _read(source):
        try:
            write_all(target, change(block))
        except OSError:
            pass


def _read(fd):
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
