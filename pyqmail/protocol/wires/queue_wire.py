"""The wire between whoever has a message to queue and pyqueued: frames (protocol/wires/frames.py) over a UNIX stream.

Any number of requests may be open on one connection; each is answered once, in any order, under its number.

    kind           who      body
    INLINE       1 client   4 bytes, big-endian: length of the envelope; envelope; message
    DESCRIPTORS  2 client   empty; two descriptors come with the frame: message (qmail-queue's 0), envelope (its 1)
    ANSWER       3 server   exit code of qmail-queue (1 byte); qp (8 bytes, big-endian; 0 unless queued);
                            text: empty, or for exit code 82 what qmail-queue would write on descriptor 6

Envelope, as on qmail-queue's descriptor 1: `F` sender NUL, then `T` recipient NUL any number of times, then NUL.
Inline goes what has at most INLINE_LIMIT bytes, envelope and message together, by descriptors what is larger.  The
server takes frames of INLINE_LIMIT bytes and the few around them.  The uid in the Received line is the one the kernel
tells about the connection (SO_PEERCRED), so a connection is not kept over a change of uid or a fork.  A malformed frame
ends the connection; nothing of it is queued.
pyqmail-wires(5) describes the wire for a program that stands at one end of it.
"""

import struct

from pyqmail.protocol.wires import frames
from pyqmail.protocol.wires.frames import MalformedFrame

INLINE, DESCRIPTORS, ANSWER = 1, 2, 3
INLINE_LIMIT = 1 << 20
_LENGTH = struct.Struct(">I")
_ANSWER = struct.Struct(">BQ")

pack, Unpacker = frames.pack, frames.Unpacker


def inline_body(envelope: bytes, message: bytes) -> bytes:
    """Return the body of an INLINE request."""
    return _LENGTH.pack(len(envelope)) + envelope + message


def split_inline(body: bytes) -> tuple[bytes, bytes]:
    """Return (envelope, message) of an INLINE request.  Raises MalformedFrame."""
    if len(body) < 4 or len(body) < 4 + _LENGTH.unpack_from(body)[0]:
        raise MalformedFrame("envelope longer than its frame")
    cut = 4 + _LENGTH.unpack_from(body)[0]
    return body[4:cut], body[cut:]


def answer_body(exit_code: int, qp: int, text: bytes = b"") -> bytes:
    """Return the body of an ANSWER."""
    return _ANSWER.pack(exit_code, qp) + text


def split_answer(body: bytes) -> tuple[int, int, bytes]:
    """Return (exit code, qp, text) of an ANSWER.  Raises MalformedFrame."""
    if len(body) < _ANSWER.size:
        raise MalformedFrame("short answer")
    return *_ANSWER.unpack_from(body), body[_ANSWER.size :]
