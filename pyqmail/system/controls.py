"""Reading control files: each time it matters, but a file is read again only when it has changed."""

import os
import time

from pyqmail.base import controls as declared
from pyqmail.base.controls import CONTROLS, INTEGER, LIMIT, LINE, LINES, MAP, ME, RATE
from pyqmail.system.descriptors import read_file

_READ = {
    LINE: declared.read_line,
    INTEGER: declared.read_integer,
    LIMIT: declared.read_limit,
    RATE: declared.read_rate,
    LINES: declared.read_lines,
    MAP: declared.read_map,
}
_ODD = {
    INTEGER: declared.odd_integer,
    LIMIT: declared.odd_limit,
    RATE: declared.odd_rate,
}  # what is wrong with a number
_TICK = 50_000_000  # ns: a change this fresh could be followed by another with the same time stamp


class Controls:
    """The control files of a directory.

    get(name) returns the value as its mode reads it, the declared default when the file is absent (None if
    there is none).  Raises OSError for anything but absence: a file that cannot be read is never its default.

    names are those that the program declares: what is not among them, so that neither its manual nor a reload knows
    of it, cannot be read (LookupError: our own bug).

    complain(text) is called for a file that should hold a number and does not, or holds more: once for each change.
    """

    def __init__(self, directory: str, names=CONTROLS, complain=lambda text: None) -> None:
        self._directory, self._names, self.complain = directory, frozenset(names), complain
        self._known: dict = {}
        self._said: dict = {}
        self._read = None

    def get(self, name: str):
        self._check(name)
        control = CONTROLS[name]
        value = self._value(name, _READ[control.mode])
        if value is None:
            default = control.default
            value = self._default(control, default[0], default[1]) if isinstance(default, tuple) else default
            if default == ME:
                value = self._default(control, ME, None)
        return value

    def path(self, name: str) -> str:
        """Return the name of the file of a control that the caller reads itself.  Raises OSError."""
        self._check(name)
        if self._read is not None:
            self._read.setdefault(name, self._stamp(name))
        return self._path(name)

    def has_file(self, name: str) -> bool:
        """Return whether a control has a file, whatever that says."""
        self._check(name)
        stamp = self._stamp(name)
        if self._read is not None:
            self._read.setdefault(name, stamp)
        return stamp is not None

    def reading(self, work):
        """Return (work(self), stamps): each file that work has read, and what told it from any other then."""
        before, self._read = self._read, {}
        try:
            return work(self), self._read
        finally:
            self._read = before

    def have_changed(self, stamps) -> bool:
        """Return whether any of the files that were read is another one by now.  Raises OSError."""
        return any(self._stamp(name) != stamp for name, stamp in stamps.items())

    def is_settled(self, stamps) -> bool:
        """Return whether any change from now on will be seen."""
        oldest = time.time_ns() - _TICK
        return all(seen is None or max(seen[0], seen[1]) < oldest for seen in stamps.values())

    def _check(self, name):
        if name not in self._names:
            raise LookupError(f"{name} is not declared")

    def _path(self, name):
        return f"{self._directory}/{name}"

    def _default(self, control, _, literal):
        self._check(ME)
        me = self._value(ME, declared.read_line)
        if me is None:
            return literal
        return [me] if control.mode == LINES else me

    def _value(self, name, read):
        stamp = self._stamp(name)
        if self._read is not None:
            self._read.setdefault(name, stamp)
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        if stamp is None:
            value = None
        else:
            try:
                data = read_file(self._path(name))
                value = read(data)
                self._check_number(name, data, value, stamp)
            except FileNotFoundError:
                stamp = value = None
        if stamp is None or time.time_ns() - max(stamp[0], stamp[1]) > _TICK:
            self._known[name] = (stamp, value)
        return value

    def _check_number(self, name, data, value, stamp):
        odd = _ODD.get(CONTROLS[name].mode) if name in CONTROLS else None
        if odd is not None and self._said.get(name) != stamp:
            self._said[name] = stamp
            problem = odd(data, value)
            if problem is not None:
                self.complain(f"control/{name}: {problem}")

    def _stamp(self, name):
        try:
            seen = os.stat(self._path(name))
        except FileNotFoundError:
            return None
        return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino
