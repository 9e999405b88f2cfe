"""What the values of pytcpserver's options mean: the text of one -> its value.

Each raises ValueError for a text that it refuses.
"""

import os

from pyqmail.base.numbers import UINT32, count_digits, is_number, leading_number, says_just, whole_number
from pyqmail.base.printable import printable
from pyqmail.tcp.listener.bind import interface_number
from pyqmail.tcp.listener.limit_files import is_file

_MAX_SECONDS = 86400  # beyond that the kernel's own clocks overflow


def proxies(text: str):
    """Return who may send a PROXY header: a list of addresses and networks."""
    from pyqmail.tcp.listener.proxy_clients import listed

    return listed(text)


def interface(text: str) -> str:
    """Return an interface's name as it is, once the system knows it."""
    interface_number(text)
    return text


def socket_mode(text: str) -> int:
    """Return a file's mode: octal digits, at most 777."""
    if not text or text.strip("01234567") or int(text, 8) > 0o777:
        raise ValueError(f"not an octal mode: {text}")
    return int(text, 8)


def identity(text: str) -> int:
    """Return the value of -u or -g: a number.

    A name is refused, and a number that is too large: as the original's 0 it would keep root's rights.
    """
    number = leading_number(text)
    if not count_digits(text) or number >= UINT32:
        raise ValueError(f"not a number: {text}")
    return number


def identities_from_environment(call) -> None:
    """Set uid and gid to $UID and $GID, those that are set."""
    for field, name in (("uid", b"UID"), ("gid", b"GID")):
        if name in call.environ:
            text = os.fsdecode(call.environ[name])
            number = identity(text)
            setattr(call, field, number)
            if not says_just(call.environ[name], number):
                call.oddities.append(f"${name.decode()} {printable(call.environ[name][:64])} is read as {number}")


def ident_seconds(text: str) -> int:
    """Return seconds as the original reads them, at most a day."""
    return min(leading_number(text), _MAX_SECONDS)


def seconds(text: str) -> int:
    """Return seconds: digits, at most a day."""
    try:
        return whole_number(text, _MAX_SECONDS)
    except ValueError:
        if is_number(text):
            return _MAX_SECONDS
        raise


def limit(text: str) -> str:
    """Return the word of a limit: a file's name, or digits."""
    if not is_file(text):
        whole_number(text)
    return text


def lenient_limit(text: str) -> str:
    """Return the word of -c: a file's name, or the digits that the original makes of anything else."""
    return text if is_file(text) else str(leading_number(text))


def descriptor(text: str) -> int:
    """Return a descriptor: digits; whether it is open is seen when it is used."""
    return int(text) if is_number(text) and len(text) < 64 else whole_number(text)
