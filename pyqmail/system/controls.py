"""Reading control files: each time it matters, but a file is read again only when it has changed."""

import os
import time

from pyqmail.base import controls as declared
from pyqmail.base.controls import CONTROLS, INTEGER, LINE, LINES, MAP, ME
from pyqmail.system.descriptors import read_file

_READ = {LINE: declared.read_line, INTEGER: declared.read_integer, LINES: declared.read_lines, MAP: declared.read_map}
_TICK = 50_000_000  # ns: a change this fresh could be followed by another with the same time stamp


class Controls:
    """The control files of a directory.

    get(name) returns the value as its mode reads it, the declared default when the file is absent (None if
    there is none).  Raises OSError for anything but absence: a file that cannot be read is never its default.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known = {}

    def get(self, name: str):
        control = CONTROLS[name]
        value = self._value(name, _READ[control.mode])
        if value is None:
            default = control.default
            value = self._default(control, default[0], default[1]) if isinstance(default, tuple) else default
            if default == ME:
                value = self._default(control, ME, None)
        return value

    def path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def stamp(self, names) -> tuple:
        """Return something that differs once any of the files has changed.  Raises OSError."""
        return tuple(self._stamp(name) for name in names)

    def is_settled(self, stamp) -> bool:
        """Return whether any change from now on would give another stamp than this one."""
        oldest = time.time_ns() - _TICK
        return all(seen is None or max(seen[0], seen[1]) < oldest for seen in stamp)

    def _default(self, control, _, literal):
        me = self._value(ME, declared.read_line)
        if me is None:
            return literal
        return [me] if control.mode == LINES else me

    def _value(self, name, read):
        stamp = self._stamp(name)
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        if stamp is None:
            value = None
        else:
            try:
                value = read(read_file(self.path(name)))
            except FileNotFoundError:
                stamp = value = None
        if stamp is None or time.time_ns() - max(stamp[0], stamp[1]) > _TICK:
            self._known[name] = (stamp, value)
        return value

    def _stamp(self, name):
        try:
            seen = os.stat(self.path(name))
        except FileNotFoundError:
            return None
        return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino
