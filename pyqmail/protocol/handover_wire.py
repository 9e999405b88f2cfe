"""The hand-over between pytcpserver and its workers: frames (protocol/frames.py) over a UNIX stream, both ways.

    kind          from      number                        body
    CONNECTION 1  listener  session, as in the log lines  NUL-ended strings: client's address, client's port, our
                                                          address or empty; with one descriptor, the connection
    RESOLVER   2  listener  0                             empty; with one descriptor, a stream to a resolver
                                                          (protocol/resolve_wire.py) that replaces the one before
    PING       3  listener  how many before it            empty
    TAKEN      4  worker    CONNECTIONs it has received   empty
                            since its last TAKEN
    END        5  worker    session                       exit code, 1 byte: the connection is closed
    PONG       6  worker    the PING's                    empty
    ENDED      7  worker    session                       its process and that one's wait status, 4 bytes each,
                                                          big-endian; process 0: none could be had

Frames with descriptors may travel together, at most BATCH of them in one message: their descriptors, in their order,
come with its first byte.  At most IN_FLIGHT connections are on their way, sent and not yet TAKEN.  A frame
has at most LIMIT_BYTES.

Every CONNECTION is followed by one END, or by one ENDED from a worker that starts a program for it, in any order; a
worker that ends without has lost those sessions.  A CONNECTION that comes without its descriptor, since the
worker could not open one more, is answered with END and exit code 111.  End of file from the listener: no
more will come; the worker finishes its sessions and exits 0.  A malformed frame ends the worker: it exits 111, or the
listener kills it.
"""

import struct

from pyqmail.protocol import frames
from pyqmail.protocol.frames import Malformed, split_strings, strings

CONNECTION, RESOLVER, PING, TAKEN, END, PONG, ENDED = range(1, 8)
IN_FLIGHT = 256
BATCH = 64
LIMIT_BYTES = 1024
_ENDED = struct.Struct(">II")

pack = frames.pack


def Unpacker():
    """Return an unpacker that refuses frames longer than this wire's."""
    return frames.Unpacker(LIMIT_BYTES)


def connection(session: int, ip: bytes, port: bytes, local_ip: bytes) -> bytes:
    """Return a CONNECTION frame; an empty local_ip is for the worker to ask the kernel."""
    return pack(CONNECTION, session, strings(ip, port, local_ip))


def split_connection(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return (client's address, client's port, our address or empty).  Raises Malformed."""
    texts = split_strings(body)
    if len(texts) != 3 or not texts[0] or not texts[1].isdigit():
        raise Malformed("not a connection")
    return texts[0], texts[1], texts[2]


def end(session: int, exit_code: int) -> bytes:
    """Return an END frame."""
    return pack(END, session, bytes([exit_code]))


def split_end(body: bytes) -> int:
    """Return the exit code.  Raises Malformed."""
    if len(body) != 1:
        raise Malformed("not an exit code")
    return body[0]


def ended(session: int, pid: int, wait_status: int) -> bytes:
    """Return an ENDED frame; pid 0 says that no process could be had."""
    return pack(ENDED, session, _ENDED.pack(pid, wait_status))


def split_ended(body: bytes) -> tuple[int, int]:
    """Return (pid, wait status).  Raises Malformed."""
    if len(body) != _ENDED.size:
        raise Malformed("not a process and its end")
    return _ENDED.unpack(body)
