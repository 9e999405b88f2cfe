"""Ask a status socket, and read all that it answers."""

import socket

from pyqmail.base.failure import Temporary

_PATIENCE_SECONDS = 10.0
_PIECE = 1 << 16


class TooLong(Exception):
    """The answer has more bytes than any answer may have."""


def read_status(path: str, max_bytes: int, question: bytes = b"") -> bytes:
    """Return all that the status socket at path sends; question: what it is sent before.  Raises Temporary, TooLong."""
    pieces, size = [], 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(_PATIENCE_SECONDS)
        try:
            sock.connect(path)
            if question:
                sock.sendall(question)
            while piece := sock.recv(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > max_bytes:
                    raise TooLong
        except TimeoutError:
            raise Temporary(f"unable to read {path}: timed out") from None
        except OSError as error:  # a path that is too long for a socket is refused without a number
            why = f": {error}" if not error.errno else ""
            raise Temporary(f"unable to read {path}{why}", error if error.errno else None) from None
    return b"".join(pieces)
