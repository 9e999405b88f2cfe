"""The rules about destinations, as the queue manager reads them: at the start, on HUP, and when a file has changed.

    control/destinations.cdb    compiled by pydestrules from control/destinations and control/responses
    control/destinations.now    text: what holds for now, before all else; a line with until= ends by itself

A file that is missing says nothing; the built-in rules hold always.  One that cannot be read or used is a line in the
log, and the rules that were read before go on; at the start, the built-in ones.  A compiled file that is damaged within
says nothing where it is damaged, and that is a line as well: a look-up never fails.

RuleWatch notices changes: the kernel gives notice of names that come or are replaced, and of files that are closed
after they were written.  Where it gives none (another machine's file system, no inotify), the files are looked at every
LOOK_SECONDS.
"""

import os
import time

from pyqmail.base.failure import reason
from pyqmail.base.printable import logsafe
from pyqmail.mail.destinations.rules.defaults import UNBUILT
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.rules.tables import read_lines, table_of
from pyqmail.mail.destinations.rules.text import BadRules
from pyqmail.system.cdb import Reader
from pyqmail.system.coroutines import READ
from pyqmail.system.descriptors import read_file
from pyqmail.system.inotify import Inotify, is_changed_elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.destinations.rules.text import RuleLine
    from pyqmail.system.controls import Controls
    from pyqmail.system.loop import Loop

COMPILED, NOW = "destinations.cdb", "destinations.now"
LOOK_SECONDS = 5.0
MAX_NOW_BYTES = 1 << 20


class _GuardedTable:
    """A cdb that never fails: what cannot be read is not there, and complain gets one line about it."""

    def __init__(self, reader: Reader, complain: "Callable[[bytes], None]") -> None:
        self._reader, self._complain, self._has_failed = reader, complain, False

    def get(self, key: bytes, /) -> bytes | None:
        try:
            return self._reader.get(key)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                self._complain(_trouble(COMPILED, reason(error)))
            return None


class RuleReader:
    """current: the rules that hold; directory: where their files are.

    complain(line) takes a line for the log; date() is Unix seconds.
    """

    def __init__(
        self, controls: "Controls", complain: "Callable[[bytes], None]", date: "Callable[[], float]" = time.time
    ) -> None:
        from pyqmail.system.public_suffixes import public_suffixes

        self._controls, self._complain, self._date = controls, complain, date
        self.directory = os.path.dirname(controls.path(COMPILED))
        self.registrable = public_suffixes().registrable
        self._stamps: tuple[object, object] | None = None
        self.ends_at: float | None = None  # when a line of destinations.now ends, in Unix seconds
        self.current = RuleSet.of_text(b"", registrable=self.registrable)
        self.read()

    def read(self) -> RuleSet | None:
        """Look at the files again; returns the rules if there are others now, None if the old ones go on."""
        stamps = self._stamp(COMPILED), self._stamp(NOW)
        has_ended = self.ends_at is not None and self.ends_at <= self._date()
        if stamps == self._stamps and not has_ended:
            return None
        is_first, self._stamps = self._stamps is None, stamps
        try:
            table, lines = self._compiled(), self._now_lines()
        except _Unusable as unusable:
            self._complain(unusable.line)
            return None
        if is_first and table is None and not lines:
            return None
        overlay = table_of(self._still_held(lines))
        self.current = RuleSet(table or {}, overlay if lines else None, registrable=self.registrable)
        if not is_first or table is not None:
            self._complain(b"rules: read from %b" % (COMPILED if table is not None else NOW).encode())
        return self.current

    def _stamp(self, name):
        try:
            seen = os.stat(self._controls.path(name))
        except OSError as error:
            return error.errno
        return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino

    def _compiled(self):
        """Return the compiled rules, None if there are none.  Raises _Unusable."""
        try:
            reader = Reader(self._controls.path(COMPILED))
            reader.get(b"")  # a file that a crash left empty is seen at once
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _Unusable(COMPILED, reason(error)) from None
        return _GuardedTable(reader, self._complain)

    def _now_lines(self):
        """Return the lines of destinations.now.  Raises _Unusable."""
        try:
            text = read_file(self._controls.path(NOW))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _Unusable(NOW, reason(error)) from None
        try:
            return read_lines(text[:MAX_NOW_BYTES], is_overlay=True, unbuilt=UNBUILT)
        except BadRules as bad:
            raise _Unusable(NOW, f"line {bad}") from None

    def _still_held(self, lines: "list[RuleLine]") -> "list[RuleLine]":
        """Return those lines that have not ended; notes when the next one does."""
        now, held = self._date(), []
        ends: list[float] = []
        for line in lines:
            end = [value for key, value, *_ in line.items if key == b"until" and isinstance(value, (int, float))]
            if not end or end[0] > now:
                held.append(line)
                ends += end
        self.ends_at = min(ends, default=None)
        return held


class _Unusable(Exception):
    """A file of rules that cannot be used: line says why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.line = _trouble(name, why)


def _trouble(name: str, why: str) -> bytes:
    return b"warning: unable to use control/%b: %b; the rules stay as they were" % (
        name.encode(),
        logsafe(why.encode()).replace(b"_", b" "),
    )


class RuleWatch:
    """Calls changed() when a file of rules may be another, or a line of one has ended; reader says when that is."""

    def __init__(self, loop: "Loop", reader: RuleReader, changed: "Callable[[], None]") -> None:
        self._loop, self._reader, self._changed = loop, reader, changed
        self._inotify: Inotify | None = None
        self._timer = None
        try:
            if not is_changed_elsewhere(reader.directory):
                self._inotify = Inotify()
                self._inotify.watch(reader.directory, with_content=True)
                loop.watch_surely(self._inotify.fileno(), READ, lambda _: self._noticed())
        except OSError:
            self._inotify = None
        self._set_timer()

    def _noticed(self):
        assert self._inotify is not None
        self._inotify.take()
        self._look()

    def _look(self):
        self._changed()
        self._set_timer()

    def _set_timer(self):
        """Look again when a line ends, or now and then where there are no notices."""
        waits = [] if self._inotify is not None else [LOOK_SECONDS]
        if self._reader.ends_at is not None:
            waits.append(max(0.0, self._reader.ends_at - time.time()) + 0.1)
        if not waits:
            return
        when = time.monotonic() + min(waits)
        if self._timer is None:
            self._timer = self._loop.at(when, self._look)
        else:
            self._timer.move(when)
