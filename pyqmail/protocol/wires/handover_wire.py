"""The hand-over between pytcpserver and its workers: frames (protocol/wires/frames.py) over a UNIX stream, both ways.

    kind          from      number                        body
    CONNECTION 1  listener  session, as in the log lines  NUL-ended strings, below; with one descriptor, the connection
    RESOLVER   2  listener  0                             empty; with one descriptor, a stream to a resolver
                                                          (protocol/wires/resolve_wire.py) that replaces the one before
    PING       3  listener  how many before it            empty
    TAKEN      4  worker    CONNECTIONs it has received   empty
                            since its last TAKEN
    END        5  worker    session                       exit code, 1 byte: the connection is closed
    PONG       6  worker    the PING's                    empty
    ENDED      7  worker    session                       its process and that one's wait status, 4 bytes each,
                                                          big-endian; process 0: none could be had
    LIMITS     8  listener  0                             NUL-ended strings, a variable's name and its digits in
                                                          turn: limits (tcp/access/limits.py) that have changed
    STARTED    9  worker    session                       the process that serves it, 4 bytes, big-endian; only from a
                                                          worker that starts a program for each

The strings of a CONNECTION are: TCP, TCP6 or UNIX; client's address, `unix` for a UNIX client; its port; our address,
empty when the worker is to ask the kernel; our port; the interface of a link-local client; pid, uid and gid of a UNIX
client, blanks between; and how many connections there are from its address, from its network, and how many new ones
came from its address lately, blanks between.  What there is none of is empty.

Frames with descriptors may travel together, at most BATCH of them in one message: their descriptors, in their order,
come with its first byte.  At most IN_FLIGHT connections are on their way, sent and not yet TAKEN.  A frame
has at most LIMIT_BYTES.

Every CONNECTION is followed by one END, or by one ENDED from a worker that starts a program for it, in any order; a
worker that ends without has lost those sessions.  A CONNECTION that comes without its descriptor, since the
worker could not open one more, is answered with END and exit code 111.  End of file from the listener: no
more will come; the worker finishes its sessions and exits 0.  A malformed frame ends the worker: it exits 111, or the
listener kills it.
pyqmail-wires(5) describes the wire for a program that stands at one end of it.
"""

import struct

from pyqmail.protocol.wires import frames
from pyqmail.protocol.wires.frames import MalformedFrame, number_in, split_strings, strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CONNECTION, RESOLVER, PING, TAKEN, END, PONG, ENDED, LIMITS, STARTED = range(1, 10)
IN_FLIGHT = 256
BATCH = 64
LIMIT_BYTES = 1024
_PROTOCOLS = (b"TCP", b"TCP6", b"UNIX")
_ENDED = struct.Struct(">II")

pack = frames.pack


def Unpacker() -> frames.Unpacker:
    """Return an unpacker that refuses frames longer than this wire's."""
    return frames.Unpacker(LIMIT_BYTES)


def connection(session: int, texts: "Iterable[bytes]") -> bytes:
    """Return a CONNECTION frame of its eight strings."""
    return pack(CONNECTION, session, strings(*texts))


def split_connection(body: bytes) -> list[bytes]:
    """Return the eight strings.  Raises MalformedFrame."""
    texts = split_strings(body)
    if len(texts) != 8 or texts[0] not in _PROTOCOLS or not texts[1]:
        raise MalformedFrame("not a connection")
    for text in filter(None, (texts[2], *texts[6:])):
        for word in text.split(b" "):
            number_in(word)
    return texts


def started(session: int, pid: int) -> bytes:
    """Return a STARTED frame."""
    return pack(STARTED, session, pid.to_bytes(4, "big"))


def split_started(body: bytes) -> int:
    """Return the process.  Raises MalformedFrame."""
    if len(body) != 4:
        raise MalformedFrame("not a process")
    return int.from_bytes(body, "big")


def limits(changed: dict[bytes, bytes]) -> bytes:
    """Return a LIMITS frame; changed: variable -> digits."""
    return pack(LIMITS, 0, strings(*(text for pair in changed.items() for text in pair)))


def split_limits(body: bytes) -> dict[bytes, bytes]:
    """Return variable -> digits.  Raises MalformedFrame."""
    texts = split_strings(body)
    if len(texts) % 2:
        raise MalformedFrame("not limits")
    for digits in texts[1::2]:
        number_in(digits)
    return dict(zip(texts[::2], texts[1::2], strict=True))


def end(session: int, exit_code: int) -> bytes:
    """Return an END frame."""
    return pack(END, session, bytes([exit_code]))


def split_end(body: bytes) -> int:
    """Return the exit code.  Raises MalformedFrame."""
    if len(body) != 1:
        raise MalformedFrame("not an exit code")
    return body[0]


def ended(session: int, pid: int, wait_status: int) -> bytes:
    """Return an ENDED frame; pid 0 says that no process could be had."""
    return pack(ENDED, session, _ENDED.pack(pid, wait_status))


def split_ended(body: bytes) -> tuple[int, int]:
    """Return (pid, wait status).  Raises MalformedFrame."""
    if len(body) != _ENDED.size:
        raise MalformedFrame("not a process and its end")
    return _ENDED.unpack(body)
