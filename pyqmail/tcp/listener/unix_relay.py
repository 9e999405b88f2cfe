"""Keep descriptors that a client of a UNIX socket passes away from the listener and its workers.

The process that receives a descriptor, or closes the last copy of a socket on which one waits, closes what was passed.
A socket that lingers, or a file of a file system that never answers, blocks it for as long as the client likes.  A
listener, or a worker with other sessions, must do neither.  The kernel refuses descriptors (system/channel.py) on
sockets that were accepted after we asked for that.  A client of any other socket gets a child of ours between itself
and us, which copies bytes.
"""

import fcntl
import select
import socket

from pyqmail.system.processes import fork_owner

_FIONREAD = 0x541B  # include/uapi/asm-generic/ioctls.h
_PIECE = 65536


def close_unread(server, sock) -> None:
    """Close a client's socket; if it is a UNIX one with something unread, a child closes it last."""
    if sock.family == socket.AF_UNIX and any(fcntl.ioctl(sock, _FIONREAD, bytes(4))):
        try:
            fork_owner(sock, lambda: server.close_in_child() or 0)
            return
        except OSError:
            pass  # no process can be had
    sock.close()


def relayed(server, sock) -> socket.socket:
    """Return a socket that stands for the client's: a child copies between the two.  Raises OSError."""
    ours, theirs = socket.socketpair()

    def work():
        server.close_in_child()
        ours.close()
        copy_both_ways(sock, theirs)
        return 0

    try:
        fork_owner(sock, work, ["tcpserver-relay"])
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return ours


def copy_both_ways(client, server) -> None:
    """Copy between two stream sockets until all that the server sends is copied; the client may end before that."""
    inward, outward = _Direction(client, server), _Direction(server, client)
    for sock in (client, server):
        sock.setblocking(False)
    while not outward.has_ended:
        poll, wanted = select.poll(), dict[int, int]()
        for fd, events in (inward.waits_for, outward.waits_for):
            wanted[fd] = wanted.get(fd, 0) | events
            poll.register(fd, wanted[fd])
        ready = dict(poll.poll())
        for direction in (inward, outward):
            fd, events = direction.waits_for
            if events and ready.get(fd, 0) & (events | select.POLLERR | select.POLLHUP):
                direction.copy_once()


class _Direction:
    """Bytes from source to target; holds one piece at most."""

    def __init__(self, source, target):
        self._source, self._target, self._held, self.has_ended = source, target, b"", False

    @property
    def waits_for(self):
        """The descriptor and the events; none, of the target, once it has ended."""
        if self.has_ended:
            return self._target.fileno(), 0
        return (self._target.fileno(), select.POLLOUT) if self._held else (self._source.fileno(), select.POLLIN)

    def copy_once(self) -> None:
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
