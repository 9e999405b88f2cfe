"""A message as it comes: pieces of any size, from a descriptor, within bounds."""

import os
import select

from pyqmail.mail.queue.bounds import Bounds, MessageRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE = 262144
_CHECKED_BYTES = 4 << 20  # written until the free space is checked again


def read_pieces(fd: int) -> "Iterator[bytes]":
    """Yield what a descriptor has, to its end, waiting where it is non-blocking.  Raises MessageRefused (54)."""
    while True:
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll()
            continue
        except OSError as error:
            raise MessageRefused(54, error) from None
        if not piece:
            return
        yield piece


def bounded(pieces: "Iterable[bytes]", bounds: Bounds, fd: int) -> "Iterator[bytes]":
    """Yield the pieces, which are written to fd, as long as they and the free space are within bounds.

    Raises MessageRefused (31, 53).
    """
    size, checked = 0, 0
    for piece in pieces:
        size += len(piece)
        bounds.check_size(size)
        if size - checked >= _CHECKED_BYTES:
            bounds.check_room(fd)
            checked = size
        yield piece
