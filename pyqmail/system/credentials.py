"""Who is at the other end of a UNIX connection, as the kernel reports it."""

import socket
import struct

_UCRED = struct.Struct("iII")  # pid_t is signed, uid_t and gid_t are not: see unix(7)


def peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """Return (pid, uid, gid) of the client of a UNIX stream socket; at the client's end, of the listener.

    uid and gid are unsigned, 0 to 4294967295; one that our user namespace does not know is 65534.  pid is 0 for a
    process of a namespace that we cannot see.  Raises OSError.
    """
    return _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
