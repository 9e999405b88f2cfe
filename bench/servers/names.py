"""A name server for domains that nobody has to list: their labels say which hosts take their mail.

    d7.h198-18-0-1.test                    one host, 198.18.0.1
    d7.h198-18-0-1.h198-18-0-2.test        two, of the same preference
    d7.h198-18-0-1.b198-18-0-2.test        the second is a backup
    d7.h198-18-0-1.provider.test           its name ends in provider.test: of the organisation provider.test
    dead, servfail or nx as a label        no answer, SERVFAIL, no such name

The exchanger of a host is mx.h198-18-0-1 with what follows the last such label.
"""

import re
import socket
import struct

from pyqmail.system.loop import READ, Loop

HOST = re.compile(rb"([hb])(\d+)-(\d+)-(\d+)-(\d+)")
PREFERENCES = {b"h": 10, b"b": 20}
A, MX, SECONDS_TO_LIVE, SERVFAIL, NXDOMAIN = 1, 15, 300, 2, 3
_QUESTION_BYTES = 4096
_ANSWER = 0x8480  # flags of an answer that knows


class Names:
    """Answers questions at an address and port.  asked counts them."""

    def __init__(self, loop: Loop, address: str, port: int) -> None:
        self.asked = 0
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.bind((address, port))
        loop.watch(self._sock.fileno(), READ, self._read)

    def _read(self, _: int) -> None:
        try:
            question, client = self._sock.recvfrom(_QUESTION_BYTES)
            self.asked += 1
            answer = answer_to(question)
            if answer is not None:
                self._sock.sendto(answer, client)
        except OSError:
            return  # nothing there, or a client that is gone


def answer_to(question: bytes) -> bytes | None:
    """Return what is answered; None to a name that is dead, and to what is no question."""
    try:
        labels, end = _labels(question)
        kind, _ = struct.unpack_from(">HH", question, end)
    except (IndexError, struct.error):
        return None
    hosts = [label for label in labels if HOST.fullmatch(label)]
    code = SERVFAIL if b"servfail" in labels else NXDOMAIN if b"nx" in labels or not hosts else 0
    records: list[bytes] = []
    if b"dead" in labels:
        return None
    if not code and kind == MX and labels[0] != b"mx":
        rest = labels[labels.index(hosts[-1]) + 1 :]
        records = [_exchanger(host, rest) for host in hosts]
    elif not code and kind == A and labels[0] == b"mx":
        records = [bytes(int(part) for part in HOST.fullmatch(hosts[0]).groups()[1:])]
    head = question[:2] + struct.pack(">HHHHH", _ANSWER | code, 1, len(records), 0, 0)
    found = (struct.pack(">HHHIH", 0xC00C, kind, 1, SECONDS_TO_LIVE, len(data)) + data for data in records)
    return head + question[12 : end + 4] + b"".join(found)


def _labels(question):
    """Return the labels of the name that is asked for, in lower case, and where it ends."""
    labels, at = [], 12
    while size := question[at]:
        labels.append(question[at + 1 : at + 1 + size].lower())
        at += size + 1
    return labels, at + 1


def _exchanger(host, rest):
    name = b"".join(bytes([len(label)]) + label for label in (b"mx", host, *rest)) + b"\0"
    return struct.pack(">H", PREFERENCES[host[:1]]) + name
