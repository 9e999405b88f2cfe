"""The rules about destinations, as the queue manager reads them: at the start, on HUP, and when a file has changed.

    control/destinations.cdb    compiled by pydestrules from control/destinations and control/responses
    control/destinations.now    text: what holds for now, before all else; a line with until= ends by itself

A file that is missing says nothing; the built-in rules hold always.  One that cannot be read or used is a line in the
log, and what was read of it before goes on; at the start, the built-in rules.  A compiled file that is damaged within
says nothing where it is damaged, and that is a line as well: a look-up never fails.

RuleWatch notices changes: the kernel gives notice of names that come or are replaced, and of files that are closed
after they were written.  Where it gives none (another machine's file system, no inotify), the files are looked at every
LOOK_SECONDS.
"""

import os
import time

from pyqmail.base.failure import is_temporary, reason
from pyqmail.base.printable import logsafe
from pyqmail.mail.destinations.rules.defaults import UNBUILT
from pyqmail.mail.destinations.rules.lookup import RuleSet
from pyqmail.mail.destinations.rules.overlay import Overlay
from pyqmail.mail.destinations.rules.text import BadRules
from pyqmail.system.cdb import Reader
from pyqmail.system.coroutines import READ
from pyqmail.system.descriptors import read_file
from pyqmail.system.inotify import Inotify, is_changed_elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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
        self._stamps: dict[str, object] = {}  # of the files that were read, or can never be
        self._said: dict[str, bytes] = {}  # what is wrong with a file
        self._table: _GuardedTable | None = None
        self._overlay: Overlay | None = None
        self.ends_at: float | None = None  # when a line of destinations.now ends, in Unix seconds
        self.is_troubled = False  # a file could not be read for a reason that may pass
        self.current = RuleSet.of_text(b"", registrable=self.registrable)
        self.read()

    def read(self) -> RuleSet | None:
        """Look at the files again; returns the rules if there are others now, None if the old ones go on."""
        is_first, self.is_troubled = not self._stamps and not self._said, False
        is_other = self._load(COMPILED, self._load_compiled)
        is_other = self._load(NOW, self._load_now) or is_other
        date = self._date()
        if not is_other and (self.ends_at is None or self.ends_at > date):
            return None
        overlay = self._overlay.table(date) if self._overlay is not None else None
        self.ends_at = self._overlay.next_change(date) if self._overlay is not None else None
        if is_first and self._table is None and self._overlay is None:
            return None
        self.current = RuleSet(self._table or {}, overlay, registrable=self.registrable)
        if not is_first or self._table is not None:
            self._complain(b"rules: read from %b" % (COMPILED if self._table is not None else NOW).encode())
        return self.current

    def _load(self, name: str, load: "Callable[[], None]") -> bool:
        """Read a file if it may be another; returns whether it was.  One that cannot be used leaves what was read."""
        stamp = self._stamp(name)
        if name in self._stamps and self._stamps[name] == stamp:
            return False
        try:
            load()
        except _Unusable as unusable:
            if self._said.get(name) != unusable.line:
                self._complain(unusable.line)
            self._said[name] = unusable.line
            self._stamps.pop(name, None)
            if not unusable.may_pass:
                self._stamps[name] = stamp
            self.is_troubled |= unusable.may_pass
            return False
        self._stamps[name] = stamp
        self._said.pop(name, None)
        return True

    def _stamp(self, name):
        try:
            seen = os.stat(self._controls.path(name))
        except OSError as error:
            return error.errno
        return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino

    def _load_compiled(self) -> None:
        """Raises _Unusable."""
        try:
            reader = Reader(self._controls.path(COMPILED))
            reader.get(b"")  # a file that a crash left empty is seen at once
            self._table = _GuardedTable(reader, self._complain)
        except FileNotFoundError:
            self._table = None
        except OSError as error:
            raise _Unusable(COMPILED, reason(error), is_temporary(error)) from None

    def _load_now(self) -> None:
        """Raises _Unusable."""
        try:
            text = read_file(self._controls.path(NOW))[:MAX_NOW_BYTES]
            self._overlay = Overlay.of_text(text, self._table or {}, unbuilt=UNBUILT)
        except FileNotFoundError:
            self._overlay = None
        except OSError as error:
            raise _Unusable(NOW, reason(error), is_temporary(error)) from None
        except BadRules as bad:
            raise _Unusable(NOW, f"line {bad}") from None


class _Unusable(Exception):
    """A file of rules that cannot be used: line says why.  may_pass: it may be read later, as it is."""

    def __init__(self, name: str, why: str, may_pass: bool = False) -> None:
        super().__init__(why)
        self.line, self.may_pass = _trouble(name, why), may_pass


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
            if self._inotify is not None:
                self._inotify.close()
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
        waits = [] if self._inotify is not None and not self._reader.is_troubled else [LOOK_SECONDS]
        if self._reader.ends_at is not None:
            waits.append(max(0.0, self._reader.ends_at - time.time()) + 0.1)
        if not waits:
            return
        when = time.monotonic() + min(waits)
        if self._timer is None:
            self._timer = self._loop.at(when, self._look)
        else:
            self._timer.move(when)
