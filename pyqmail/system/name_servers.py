"""Which name servers to ask.

PYQMAIL_DNS (`address:port`, several separated by blanks); without it DNSCACHEIP (dotted addresses, joined by dots if
several); without it the nameserver lines of /etc/resolv.conf; otherwise 127.0.0.1.
"""

import errno
import os

from pyqmail.base.literals import literal_address
from pyqmail.base.numbers import is_number, whole_number


def find_servers(environ, path: str = "/etc/resolv.conf") -> list[tuple[str, int]]:
    """Return (address, port) of the servers to ask, in order, at most 16.

    Raises OSError (EDESTADDRREQ) if PYQMAIL_DNS has a word that is no address.
    """
    chosen = environ.get(b"PYQMAIL_DNS")
    if chosen:
        return [_server(word) for word in chosen.split()][:16]
    quads = environ.get(b"DNSCACHEIP", b"").split(b".")
    found = [b".".join(quads[i : i + 4]) for i in range(0, len(quads) - 3, 4)]
    if not found:
        try:
            with open(path, "rb") as file:
                words = (line.split() for line in file)
                found = [word[1] for word in words if len(word) > 1 and word[0] == b"nameserver"]
        except OSError:
            pass
    addresses = [literal.decode() for literal in map(literal_address, found) if literal is not None]
    return [(address, 53) for address in addresses][:16] or [("127.0.0.1", 53)]


def _server(word):
    host, colon, port = word.rpartition(b":")
    if not colon or not is_number(port) or literal_address(word) is not None:
        host, port = word, b"53"
    literal = literal_address(host)
    try:
        number = whole_number(port, 65535)
    except ValueError:
        literal = None
    if literal is None:
        raise OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
    return literal.decode(), number
