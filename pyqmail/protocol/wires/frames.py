"""The frame all of our own wires share: queue, hand-over, native dialect, resolver, status.

    length   4 bytes, big-endian: how many bytes follow it
    version  1 byte: 1, or what the wire's module has as its VERSION
    kind     1 byte: what the frame is; each wire has its own
    number   4 bytes, big-endian: session, delivery or request it is about
    body     length - 6 bytes

A frame is at most LIMIT bytes long; a wire may set less.  Another version, a length below 6 or above the limit
raises MalformedFrame, and the connection is of no use any more.  Descriptors passed with a frame travel with its
first byte.  pyqmail-wires(5) has the layout for a program that stands at one end of a wire.
"""

import struct

from pyqmail.base.numbers import ULONG, whole_number

VERSION = 1
LIMIT = 4 << 20
_HEAD = struct.Struct(">IBBI")
HEAD_BYTES = _HEAD.size


class MalformedFrame(ValueError):
    """The bytes are not what this wire carries."""


def pack(kind: int, number: int, body: bytes = b"", version: int = VERSION) -> bytes:
    """Return one frame.  Raises MalformedFrame if the body is too long."""
    if len(body) + 6 > LIMIT:
        raise MalformedFrame("frame too long")
    return _HEAD.pack(len(body) + 6, version, kind, number) + body


class Unpacker:
    """Takes bytes in any pieces; receive() returns the complete frames as (kind, number, body).

    wanted_bytes is the size of the frame under way, as far as its head tells; 0 between frames.
    """

    def __init__(self, limit_bytes: int = LIMIT, version: int = VERSION) -> None:
        self._limit, self._version = limit_bytes, version
        self._held = bytearray()
        self.wanted_bytes = 0

    def receive(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Raises MalformedFrame; frames before the bad one are lost with the connection."""
        if self.wanted_bytes:
            self._held += data
            if len(self._held) < self.wanted_bytes:
                return []  # what is held is looked at, and copied, only once there is enough
            data, self._held = bytes(self._held), bytearray()
        frames: list[tuple[int, int, bytes]] = []
        at, size = 0, len(data)
        while size - at >= HEAD_BYTES:
            length, version, kind, number = _HEAD.unpack_from(data, at)
            if version != self._version or not 6 <= length <= self._limit:
                raise MalformedFrame("not a frame of this wire")
            if size - at < length + 4:
                self._hold(data[at:], length + 4)
                return frames
            frames.append((kind, number, data[at + HEAD_BYTES : at + 4 + length]))
            at += 4 + length
        self._hold(data[at:], HEAD_BYTES if at < size else 0)
        return frames

    def _hold(self, rest: bytes, wanted_bytes: int) -> None:
        self._held, self.wanted_bytes = bytearray(rest), wanted_bytes

    @property
    def is_empty(self) -> bool:
        """True between frames."""
        return not self.wanted_bytes


def strings(*texts: bytes) -> bytes:
    """Return texts as a body: each ended by NUL.  Raises MalformedFrame for a NUL inside."""
    if any(b"\0" in text for text in texts):
        raise MalformedFrame("NUL in a string")
    return b"".join(text + b"\0" for text in texts)


def number_in(text: bytes, maximum: int = ULONG - 1) -> int:
    """Return the decimal number that a text of a body is.  Raises MalformedFrame."""
    try:
        return whole_number(text, maximum)
    except ValueError:
        raise MalformedFrame("not a number") from None


def split_strings(body: bytes) -> list[bytes]:
    """Return the NUL-ended texts of a body.  Raises MalformedFrame if the last is not ended."""
    if not body:
        return []
    if not body.endswith(b"\0"):
        raise MalformedFrame("unterminated string")
    return body[:-1].split(b"\0")
