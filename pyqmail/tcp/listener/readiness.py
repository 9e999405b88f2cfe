"""Notify the service manager that connections are served: by a descriptor as s6 does, and as systemd does.

A newline is written to the descriptor, which is then closed.  READY=1 is sent to the datagram socket that NOTIFY_SOCKET
names, a path or an abstract name after an @; STOPPING=1 follows once the server drains.  A manager that has gone or
cannot be reached is no reason to stop.
"""

import fcntl
import os
import socket

from pyqmail.base.failure import Temporary
from pyqmail.tcp.listener.hooks import ServerHook

_PATIENCE_SECONDS = 1.0  # with a manager that does not read


class Readiness(ServerHook):
    """descriptor: the number to use, or None.  NOTIFY_SOCKET is removed from environ, so that no program has it.

    The descriptor is closed under its number at once: no program has it either.  Raises Temporary if it is not open.
    """

    def __init__(self, descriptor: int | None, environ):
        self._fd = None if descriptor is None else _moved(descriptor)
        self._place = environ.pop(b"NOTIFY_SOCKET", b"")

    def ready(self) -> None:
        if self._fd is not None:
            try:
                os.write(self._fd, b"\n")
            except OSError:
                pass
            self.close_in_child()
        self._notify(b"READY=1")

    def draining(self) -> None:
        self._notify(b"STOPPING=1")

    def close_in_child(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _notify(self, state):
        place = self._place
        if place[:1] not in (b"/", b"@"):
            return
        if place.startswith(b"@"):
            place = b"\0" + place[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(_PATIENCE_SECONDS)
                sock.sendto(state, place)
        except OSError:
            pass


def _moved(descriptor):
    """Return a copy that no program gets, and close the original unless it is a standard one.  Raises Temporary."""
    try:
        fd = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        if descriptor > 2:
            os.close(descriptor)
    except (OSError, OverflowError):
        raise Temporary(f"unable to use descriptor {descriptor}: file descriptor not open") from None
    return fd
