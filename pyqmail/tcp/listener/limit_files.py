"""Limits in files, which are read again at HUP.

The word of a limit is a number or, if it has a slash, a file whose first line is the number.
"""

import os
import signal

from pyqmail.base.failure import Failure, Temporary
from pyqmail.base.numbers import whole_number
from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.descriptors import read_all
from pyqmail.tcp.access.log_lines import ERRORS, complaint_line, say_now
from pyqmail.tcp.listener.hooks import ServerHook

_MAX_BYTES = 64


def is_file(word: str) -> bool:
    """Return whether the word of a limit is a file's name."""
    return "/" in word


def digits_of(word: str) -> bytes:
    """Return the digits that the word of a limit means.  Raises Temporary if its file has none."""
    if not is_file(word):
        return os.fsencode(word)
    try:
        fd = os.open(word, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text = read_all(fd, _MAX_BYTES)
        finally:
            os.close(fd)
    except OSError as error:
        raise Temporary(f"unable to read {word}", error) from None
    line = text.partition(b"\n")[0].strip()
    try:
        return b"%d" % whole_number(line)
    except ValueError:
        raise Temporary(f"no number in the first line of {word}") from None


class LimitFiles(ServerHook):
    """Changes limits at HUP.  Without files, HUP stays what it was when we were started.

    limit is the word of -c; words: the variable of each other limit -> its word; limits: where those are kept
    (tcp/access/limits.py).  Connections that there are stay.
    """

    def __init__(self, limit: str, words: dict, limits):
        self._limit, self._limits = limit, limits
        self._files = {name: word for name, word in words.items() if is_file(word)}

    def started(self, server) -> None:
        if self._files or is_file(self._limit):
            server.loop.on_signal(signal.SIGHUP, lambda: self._read_all(server))

    def _read_all(self, server):
        changed = {}
        for name, word in self._files.items():
            found = self._read(word, server.verbosity)
            if found is not None:
                changed[name] = found
        if changed:
            self._limits.change(changed)
            server.mode.announce(wire.limits(changed))
        if is_file(self._limit):
            found = self._read(self._limit, server.verbosity)
            if found is not None:
                server.change_limit(int(found))

    def _read(self, word, verbosity):
        try:
            return digits_of(word)
        except Failure as failure:
            if verbosity >= ERRORS:
                say_now(complaint_line(f"limit stays as it is, {failure}"))
            return None
