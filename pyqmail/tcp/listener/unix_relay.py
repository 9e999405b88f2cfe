"""Clients of UNIX sockets, who can pass descriptors: what they pass is nobody else's trouble.

Whoever receives a descriptor, or closes the last copy of a socket on which one waits, closes what was passed: a
socket that lingers, or a file of a file system that never answers, holds him up for as long as the client likes.  A
listener or a worker with others' sessions must do neither.  The kernel refuses descriptors for us (system/channel.py)
on sockets that were accepted after we asked for it; a client of any other socket has a child of ours between itself and
us, which copies bytes.
"""

import fcntl
import os
import select
import socket

from pyqmail.system.processes import fork

_FIONREAD = 0x541B  # include/uapi/asm-generic/ioctls.h
_PIECE = 65536


def fork_owner(sock, work, name: str | None = None) -> int:
    """Fork a child to which sock belongs: it goes on with work() once our copy is closed, and so is never before us the
    last to close it.  Raises OSError; sock is still ours then.
    """
    gate, key = os.pipe()

    def own():
        os.close(key)
        os.read(gate, 1)
        os.close(gate)
        return work()

    try:
        pid = fork(own, name)
        sock.close()
        return pid
    finally:
        os.close(gate)
        os.close(key)


def close_unread(server, sock) -> None:
    """Close a client's socket; if it is a UNIX one with something unread, a child closes it last."""
    if sock.family == socket.AF_UNIX and any(fcntl.ioctl(sock, _FIONREAD, bytes(4))):
        try:
            fork_owner(sock, lambda: server.let_go() or 0)
            return
        except OSError:
            pass  # without a process to spare
    sock.close()


def relayed(server, sock) -> socket.socket:
    """Return a socket that stands for the client's: a child copies between the two.  Raises OSError."""
    ours, theirs = socket.socketpair()

    def work():
        server.let_go()
        ours.close()
        copy_both_ways(sock, theirs)
        return 0

    try:
        fork_owner(sock, work, "tcpserver-relay")
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours


def copy_both_ways(client, server) -> None:
    """Copy between two stream sockets until the server's words have ended and are copied; the client may end before."""
    inward, outward = _Way(client, server), _Way(server, client)
    for sock in (client, server):
        sock.setblocking(False)
    while not outward.has_ended:
        poll, wanted = select.poll(), {}
        for fd, events in (inward.waits_for, outward.waits_for):
            wanted[fd] = wanted.get(fd, 0) | events
            poll.register(fd, wanted[fd])
        ready = dict(poll.poll())
        for way in (inward, outward):
            fd, events = way.waits_for
            if events and ready.get(fd, 0) & (events | select.POLLERR | select.POLLHUP):
                way.go_on()


class _Way:
    """From source to target.  Never holds more than one piece."""

    def __init__(self, source, target):
        self._source, self._target, self._held, self.has_ended = source, target, b"", False

    @property
    def waits_for(self):
        """The descriptor and the events; none, of the target, once it has ended."""
        if self.has_ended:
            return self._target.fileno(), 0
        return (self._target.fileno(), select.POLLOUT) if self._held else (self._source.fileno(), select.POLLIN)

    def go_on(self) -> None:
        """Read or write once."""
        try:
            if self._held:
                self._held = self._held[self._target.send(self._held) :]
                return
            self._held = self._source.recv(_PIECE)
            if not self._held:
                self._end()
        except BlockingIOError:
            pass
        except OSError:
            self._end()  # one of them has gone

    def _end(self):
        self.has_ended = True
        try:
            self._target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
