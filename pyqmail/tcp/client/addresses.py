"""The meaning of the words `host` and `port` of a command line."""

import _socket as socket  # without its enums and its selectors: each start would pay for them

from pyqmail.base.failure import Temporary
from pyqmail.base.numbers import is_number, leading_number


def port_number(word: str) -> int:
    """Return the port of a word: digits modulo 65536 (the empty word is 0), otherwise the name of a service.

    Raises Temporary, whose text has no reason.
    """
    if not word or is_number(word):
        return leading_number(word, 65536)
    try:
        return socket.getservbyname(word, "tcp")
    except (OSError, ValueError):
        raise Temporary(f"unable to figure out port number for {word}") from None


def is_another_number(word: str, port: int) -> bool:
    """Return whether a word is a number, and differs from port, its port_number()."""
    return is_number(word) and (word.lstrip("0") or "0") != str(port)


def literal(word: str) -> list[str] | None:
    """Return the addresses of a word of digits, dots and brackets, None for any other word.

    Each number is taken modulo 256; numbers beyond a multiple of four are dropped: `127.1` has no address.
    Source: dns_ip4() of ucspi-tcp
    """
    word = word.replace("[", "").replace("]", "")
    numbers = word.split(".")
    if not all(number == "" or is_number(number) for number in numbers):
        return None
    values = [str(leading_number(number, 256)) for number in numbers]
    return [".".join(values[at : at + 4]) for at in range(0, len(values) - 3, 4)]
