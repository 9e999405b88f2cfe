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
    ASK       10  worker    session                       a number of its own, 4 bytes; which limit, 1 byte; how many
                                                          events, and of how many seconds, 4 bytes each: may the client
                                                          of the session do it once more?
    ANSWER    11  listener  the ASK's                     the number of the ASK, 4 bytes; 1: it may, and it counts; 0:
                                                          it may not
    ABOVE     12  worker    session                       which limit, 1 byte: the client was refused by it

The strings of a CONNECTION are: TCP, TCP6 or UNIX; client's address, `unix` for a UNIX client; its port; our address,
empty when the worker is to ask the kernel; our port; the interface of a link-local client; pid, uid and gid of a UNIX
client, blanks between; and how many connections there are from its address, from its network, and how many new ones
came from its address lately, blanks between.  What there is none of is empty.

Frames with descriptors may travel together, at most BATCH of them in one message: their descriptors, in their order,
come with its first byte.  At most IN_FLIGHT connections are on their way, sent and not yet TAKEN.  A frame
has at most LIMIT_BYTES.

The limits of ASK and ABOVE are those of LIMITED, from 0 on.  A limit has 1 to 2^31 events, within 1 second to
MAX_PERIOD_SECONDS.  A session that asks waits for its answer; it asks again after that, or after some seconds without.

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

CONNECTION, RESOLVER, PING, TAKEN, END, PONG, ENDED, LIMITS, STARTED, ASK, ANSWER, ABOVE = range(1, 13)
LIMITED = ("clientconnections", "clientnetwork", "clientrate", "clientmessages", "clientrecipients")
MAX_PERIOD_SECONDS = 30 * 86400
_MAX_EVENTS = 1 << 31
IN_FLIGHT = 256
BATCH = 64
LIMIT_BYTES = 1024
_PROTOCOLS = (b"TCP", b"TCP6", b"UNIX")
_ENDED = struct.Struct(">II")
_ASK = struct.Struct(">IBII")
_ANSWER = struct.Struct(">IB")

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


def ask(session: int, serial: int, name: str, limit: int, period_seconds: int) -> bytes:
    """Return an ASK frame: may the client do once more what the limit of this name counts?"""
    return pack(ASK, session, _ASK.pack(serial, LIMITED.index(name), limit, period_seconds))


def split_ask(body: bytes) -> tuple[int, str, int, int]:
    """Return (serial number, name, limit, seconds).  Raises MalformedFrame."""
    if len(body) != _ASK.size:
        raise MalformedFrame("not a question about a client")
    serial, index, limit, seconds = _ASK.unpack(body)
    if index >= len(LIMITED) or not 1 <= limit <= _MAX_EVENTS or not 1 <= seconds <= MAX_PERIOD_SECONDS:
        raise MalformedFrame("no such limit of a client")
    return serial, LIMITED[index], limit, seconds


def answer(session: int, serial: int, is_admitted: bool) -> bytes:
    """Return the ANSWER frame to an ASK."""
    return pack(ANSWER, session, _ANSWER.pack(serial, is_admitted))


def split_answer(body: bytes) -> tuple[int, bool]:
    """Return (serial number, whether it was admitted).  Raises MalformedFrame."""
    if len(body) != _ANSWER.size or body[-1] > 1:
        raise MalformedFrame("not an answer about a client")
    serial, is_admitted = _ANSWER.unpack(body)
    return serial, bool(is_admitted)


def above(session: int, name: str) -> bytes:
    """Return an ABOVE frame: the client was refused by the limit of this name."""
    return pack(ABOVE, session, bytes([LIMITED.index(name)]))


def split_above(body: bytes) -> str:
    """Return the name.  Raises MalformedFrame."""
    if len(body) != 1 or body[0] >= len(LIMITED):
        raise MalformedFrame("no such limit of a client")
    return LIMITED[body[0]]
