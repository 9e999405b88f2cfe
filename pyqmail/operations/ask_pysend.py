"""Ask pysend what waits, and why: one question to its status socket (protocol/wires/send_status_wire.py)."""

from pyqmail.base.failure import Temporary
from pyqmail.protocol.wires import send_status_wire as wire
from pyqmail.system.home import find_home
from pyqmail.system.status_client import TooLong, read_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def ask_pysend(path: str | None, environ: "Mapping[bytes, bytes]", kind: bytes, question: bytes) -> "dict[str, Any]":
    """Return the fields of the answer to a question of this kind: TOP, SHAPE or WHY.

    path: of the socket; None: the one of the qmail home.  Raises Temporary.
    """
    place = path or find_home(environ).send_socket
    try:
        return wire.unpack(kind, read_status(place, wire.LIMIT_BYTES, question))
    except TooLong:
        raise Temporary(f"unable to understand {place}: too long") from None
    except wire.MalformedSendStatus as why:
        raise Temporary(f"unable to understand {place}: {why}") from None
