"""What a service directory sets beyond run and down, each in a file of its own; names and forms are the field's.

A file that is missing or cannot be read means the default.  A file holds one word; for a word that makes no sense the
default is used too, and `complain` is called with the file's name and the word.
"""

import _signal as signal
import os
import stat

from pyqmail.system.descriptors import read_file

FINISH_MILLISECONDS = 5000
_MAX_BYTES = 1000  # of a file that are read: a link to a device has no end


def is_program(name: str) -> bool:
    """Return whether a file of that name can be executed: regular, with an execute bit."""
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and mode & 0o111 != 0


def number(name: str, default: int, complain) -> int:
    """Return the number in a file: decimal digits."""
    word = _word(name)
    if word is None:
        return default
    if word.isascii() and word.isdigit() and len(word) <= 9:
        return int(word)
    complain(name, word)
    return default


def down_signal(complain) -> int:
    """Return the signal that ends the service: QUIT, SIGQUIT or 3 in the file down-signal; default SIGTERM."""
    word = _word("down-signal")
    if word is None:
        return signal.SIGTERM
    name = word.upper().removeprefix("SIG")
    if word.isascii() and word.isdigit():
        found = int(word) if len(word) < 4 else None
    else:
        found = getattr(signal, f"SIG{name}", None) if name.isalnum() else None  # not SIG_DFL
    if found is not None and found in signal.valid_signals():
        return found
    complain("down-signal", word)
    return signal.SIGTERM


def _word(name):
    try:
        words = os.fsdecode(read_file(name, _MAX_BYTES)).split()
    except OSError:
        return None
    return words[0] if words else ""
