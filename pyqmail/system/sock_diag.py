"""What the kernel knows of TCP connections, other processes' too: state, bytes, silence.  See sock_diag(7)."""

import socket
import struct

_SOCK_DIAG, _BY_FAMILY, _REQUEST_DUMP = 4, 20, 0x301
_ERROR, _DONE = 2, 3
_INFO = 2  # INET_DIAG_INFO: struct tcp_info
_STATES = {
    1: "established",
    4: "fin-wait-1",
    5: "fin-wait-2",
    7: "closed",
    8: "close-wait",
    9: "last-ack",
    11: "closing",
}  # of the others no socket is anybody's yet, or any more
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct(">HH")
_MESSAGE = struct.Struct(">xB2xHH16s16s")  # as far as we look
_MESSAGE_BYTES, _ID_BYTES = 72, 48
_ATTRIBUTE = struct.Struct("=HH")
_TCP_INFO = struct.Struct("=44xI4xI64xQQ")  # last_data_sent, last_data_recv, bytes_acked, bytes_received
_PIECE = 1 << 18
_PATIENCE_SECONDS = 5.0


class Measure:
    """state: a word; received: bytes that came in; sent: bytes the other end has acknowledged; idle_ms: the silence."""

    __slots__ = ("state", "received", "sent", "idle_ms")

    def __init__(self, state: str, received: int, sent: int, idle_ms: int):
        self.state, self.received, self.sent, self.idle_ms = state, received, sent, idle_ms


def connections(family: int, local_port: int) -> dict[tuple[bytes, int], Measure]:
    """Return {(other end's address, its port): Measure} of all connections of our port.

    family AF_INET or AF_INET6; an IPv4 client of an IPv6 socket has its dotted address.  The time this takes grows with
    the connections of the whole system.  Raises OSError.
    """
    found: dict[tuple[bytes, int], Measure] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _SOCK_DIAG) as sock:
        sock.settimeout(_PATIENCE_SECONDS)
        states = sum(1 << state for state in _STATES)
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, states)
        body += _PORTS.pack(local_port, 0) + bytes(_ID_BYTES - _PORTS.size)
        sock.send(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + body)
        while _take(sock.recv(_PIECE), family, local_port, found):
            pass
    return found


def _take(data, family, local_port, found):
    """Take the messages of one datagram.  Returns False after the last.  Raises OSError."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if kind == _DONE:
            return False
        if kind == _ERROR:
            raise OSError(-int.from_bytes(data[at + _HEADER.size :][:4], "little", signed=True), "sock_diag")
        if length < _HEADER.size:
            raise OSError("sock_diag: an empty message")
        _take_one(data, at + _HEADER.size, min(at + length, len(data)), family, local_port, found)
        at += (length + 3) & ~3
    return True


def _take_one(data, at, end, family, local_port, found):
    if end - at < _MESSAGE_BYTES:
        return
    state, port, other_port, _, address = _MESSAGE.unpack_from(data, at)
    at += _MESSAGE_BYTES
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if kind == _INFO and port == local_port and state in _STATES:
            if length - _ATTRIBUTE.size >= _TCP_INFO.size:
                last_sent, last_received, sent, received = _TCP_INFO.unpack_from(data, at + _ATTRIBUTE.size)
                measure = Measure(_STATES[state], received, sent, min(last_sent, last_received))
                found[_address(family, address), other_port] = measure
            return
        at += max((length + 3) & ~3, _ATTRIBUTE.size)


def _address(family, packed):
    if family == socket.AF_INET:
        packed = packed[:4]
    elif packed.startswith(bytes(10) + b"\xff\xff"):
        family, packed = socket.AF_INET, packed[12:]
    return socket.inet_ntop(family, packed).encode()
