"""A log directory: the current file, the finished ones beside it, and what happens when current is full.

    lock      flock held while it is in use
    current   being written, 0644; 0744 once it is complete and safely on disk
    previous  current of a moment ago, on its way to be finished; 0744 once it is safely on disk; short-lived
    processed what a processor made of previous;  0744 once complete
    state     the processor's memory; newstate: the next one
    @LABEL.s  finished and complete.   @LABEL.u  was in progress at a crash, maybe incomplete, not processed

A rotation, and what the next logger makes of a crash after each step.  A name is always moved or linked, never
overwritten, so no step loses a line that was written:

    current renamed to previous        previous becomes @LABEL.u
    a new current, 0644                previous, then current become @LABEL.u: names keep the order of the lines
    previous synced, then 0744         the same: a crash may have come before the processor, so it counts as unprocessed
    processor reads previous, writes processed and newstate
                                       processed and newstate are removed, previous becomes @LABEL.u
    processed synced, then 0744        processed becomes @LABEL.s, previous is removed
    newstate synced; previous removed; newstate renamed to state
                                       the same; the processor's memory starts empty after every crash
    linked as @LABEL.s, then unlinked  two links: only the unlink is made up for
    the oldest files removed           done at the next rotation

The owner's execute bit is the mark of completeness, and is set only after an fsync.  The layout is multilog's, and
either program goes on where the other stopped.

A full current becomes previous at once, but is settled, that is synced, processed and named, only after the rest of
what was read is written to its successor: settling takes long, and a kill meanwhile finds nothing in memory.

While a directory is opened, trouble is Temporary.  From then on nothing is given up: what fails is reported in a
warning and tried again after a pause.  Every step that works on names changes to the directory first.
"""

import errno
import fcntl
import os

from pyqmail.base.failure import Temporary
from pyqmail.supervise.logs.rotated_files import RotatedFiles, unlink_if_there
from pyqmail.system.clock import now
from pyqmail.system.durable import open_new
from pyqmail.system.files import is_shared

MIN_BYTES, MAX_BYTES, USUAL_BYTES = 4096, 16777215, 99999
MIN_FILES, USUAL_FILES = 2, 10
SLACK_BYTES = 2000  # within this of the full size a file ends at the next line end
BUFFER_BYTES = 512
COMPLETE = 0o100
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
_REPLACE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def replace_file(file: str, is_shared: bool) -> int:
    """Return a descriptor of a file emptied or made; of a new one in a directory that is shared.  Raises OSError."""
    return open_new(file, 0o644, flags=0) if is_shared else os.open(file, _REPLACE, 0o644)


class LogDirectory:
    """One open log directory.

    name: the path as the user wrote it.  size_bytes: of a full file.  files: how many to keep, current included.
    processor: a shell command, None if there is none; the empty command makes empty files.  retry: a Retry.
    clock returns Unix seconds and nanoseconds, for names.
    """

    def __init__(self, name: str, size_bytes: int, files: int, processor: str | None, retry, clock=now) -> None:
        self.name, self.size_bytes, self.processor = name, size_bytes, processor
        self._run_processor = None if processor is None else _processor()
        self._rotated_files = RotatedFiles(name, files, retry, clock)
        self.follows = False  # takes the rest of a long line whose start it took
        self._until_done, self._retry = retry.until_done, retry
        self._start = self._directory = self._lock = self._current = -1
        self._is_shared = False
        self._previous = -1  # the file that is not settled yet
        self._bytes = 0
        self._buffer = b""

    def open(self, start: int) -> None:
        """Lock and open it, relative to the directory open on descriptor start, which stays open.  Raises Temporary."""
        self._start = start
        _or_fatal("unable to switch to starting directory", os.fchdir, start)
        text = f"unable to open directory {self.name}"
        self._directory = _or_fatal(text, _make_and_open, self.name)
        _or_fatal(text, os.fchdir, self._directory)
        self._is_shared = is_shared(self._directory)
        self._lock = _or_fatal(f"unable to lock directory {self.name}", self._open, "lock", 0o600, True)
        found = self._stat("current")
        if found is not None and found.st_mode & COMPLETE:
            self._bytes = found.st_size
            self._open_current(f"unable to append to {self.name}/current")
            return
        self._recover()
        os.close(_or_fatal(f"unable to write to {self.name}/state", replace_file, "state", self._is_shared))
        self._open_current(f"unable to write to {self.name}/current")

    def _stat(self, file):
        try:
            return os.stat(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Temporary(f"unable to stat {self.name}/{file}", error) from None

    def _open_current(self, text):
        self._current = _or_fatal(text, self._open, "current", 0o600)
        _or_fatal(f"unable to set mode of {self.name}/current", os.fchmod, self._current, 0o644)
        self._has_links = os.fstat(self._current).st_nlink > 0  # not on every file system

    def _open(self, file, mode, locks=False):
        """Return a descriptor to append to a file of the directory, made if need be.  Raises OSError."""
        fd = os.open(file, _APPEND | (os.O_NOFOLLOW if self._is_shared else 0), mode)
        try:
            if self._is_shared and os.fstat(fd).st_nlink > 1:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))  # its other name may be anywhere
            if locks:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _recover(self):
        """After a crash: what a processor had completed is finished, the rest is kept as it is."""
        _remove("state", "newstate")
        processed = self._stat("processed")
        if processed is not None and processed.st_mode & COMPLETE:
            _remove("previous")
            self._rotated_files.add_file("processed", "s")
        else:
            _remove("processed")
            self._rotated_files.add_file("previous", "u")
        self._rotated_files.add_file("current", "u")

    @property
    def room_bytes(self) -> int:
        """Fewer bytes than this can be appended as they are: they fill no file."""
        return self.size_bytes - SLACK_BYTES - self._bytes

    def append(self, data: bytes) -> None:
        """Write fewer than room_bytes bytes."""
        while data:
            data = data[self._write(data) :]

    def buffer_head(self, head: bytes) -> None:
        """Buffer the start of a line: in one go, as where files end depends on the pieces they are written in."""
        if len(head) > BUFFER_BYTES - len(self._buffer):
            self.flush()
            if len(head) > BUFFER_BYTES:
                self._write_piece(head)
                return
        self._buffer += head

    def buffer_rest(self, rest: bytes) -> None:
        """Buffer what comes after the start of a line, with its LF: as if byte by byte."""
        while rest:
            free = BUFFER_BYTES - len(self._buffer)
            if not free:
                self.flush()
                free = BUFFER_BYTES
            self._buffer += rest[:free]
            rest = rest[free:]

    def flush(self) -> None:
        """Hand everything buffered to the kernel."""
        piece, self._buffer = self._buffer, b""
        self._write_piece(piece)

    def rotate_now(self) -> None:
        """Start a new file, unless current is empty."""
        if self._bytes:
            self._rotate()

    def settle(self) -> None:
        """Sync, process and name the file that is full, if there is one."""
        if self._previous < 0:
            return
        until_done = self._until_done
        until_done(f"unable to switch to {self.name}", os.fchdir, self._directory)
        until_done(f"unable to write {self.name}/current to disk", os.fsync, self._previous)
        until_done(f"unable to set mode of {self.name}/previous", os.fchmod, self._previous, 0o744)
        os.close(self._previous)
        self._previous = -1
        if self.processor is not None and self._rotated_files.stat("previous"):
            self._process()
        else:
            self._rotated_files.add_file("previous", "s")

    def close(self) -> None:
        """Sync current and mark it complete."""
        self.flush()
        self.settle()
        self._until_done(f"unable to write {self.name}/current to disk", os.fsync, self._current)
        self._until_done(f"unable to set mode of {self.name}/current", os.fchmod, self._current, 0o744)
        for descriptor in (self._current, self._lock, self._directory):
            os.close(descriptor)

    def _write_piece(self, piece):
        while piece:
            if self._bytes >= self.size_bytes:
                self._rotate()
            part = piece[: self.size_bytes - self._bytes]
            if len(part) >= self.room_bytes:
                part = part[: part.rfind(b"\n") + 1] or part
            count = self._write(part)
            if self.room_bytes <= 0 and part[count - 1 : count] == b"\n":
                self._rotate()
            piece = piece[count:]

    def _write(self, data) -> int:
        while True:
            count = self._until_done(f"unable to write to {self.name}/current", _write_some, self._current, data)
            if not self._has_links or os.fstat(self._current).st_nlink:
                break
            self._renew()  # current was removed: nobody would find what was written
        self._bytes += count
        return count

    def _rotate(self):
        self.settle()
        until_done = self._until_done
        until_done(f"unable to switch to {self.name}", os.fchdir, self._directory)
        text = f"unable to rename current to previous in directory {self.name}"
        try:
            until_done(text, os.rename, "current", "previous", pass_on=FileNotFoundError)
        except FileNotFoundError:
            self._renew()
            return
        self._previous = self._current
        self._current = until_done(f"unable to create {self.name}/current", self._open, "current", 0o600)
        self._bytes = 0
        until_done(f"unable to set mode of {self.name}/current", os.fchmod, self._current, 0o644)

    def _renew(self):
        """Current is not in the directory any more, or the directory is gone too: make what is missing."""
        self._retry.report(f"warning: {self.name}/current is gone, starting a new one")
        os.close(self._current)
        until_done, text = self._until_done, f"unable to create {self.name}/current"
        until_done(f"unable to switch to {self.name}", os.fchdir, self._directory)
        try:
            self._current = until_done(text, self._open, "current", 0o600, pass_on=FileNotFoundError)
        except FileNotFoundError:
            self._reopen_directory()
            self._current = until_done(text, self._open, "current", 0o600)
        until_done(f"unable to set mode of {self.name}/current", os.fchmod, self._current, 0o644)
        self._bytes = os.fstat(self._current).st_size

    def _reopen_directory(self):
        until_done = self._until_done
        os.close(self._directory)
        os.close(self._lock)
        until_done("unable to switch to starting directory", os.fchdir, self._start)
        self._directory = until_done(f"unable to open directory {self.name}", _make_and_open, self.name)
        until_done(f"unable to switch to {self.name}", os.fchdir, self._directory)
        self._is_shared = is_shared(self._directory)
        self._lock = until_done(f"unable to lock directory {self.name}", self._open, "lock", 0o600, True)

    def _process(self):
        until_done = self._until_done
        while not self._run_processor(self.processor, self.name, self._retry, self._is_shared):
            self._retry.pause(f"processor failed in {self.name}")
            if not self._rotated_files.stat("previous"):
                return  # it was removed
        text = f"unable to create {self.name}/processed"
        processed = until_done(text, self._open, "processed", 0o644)
        until_done(f"unable to write {self.name}/processed to disk", os.fsync, processed)
        until_done(f"unable to set mode of {self.name}/processed", os.fchmod, processed, 0o744)
        os.close(processed)
        text = f"unable to create {self.name}/newstate"
        newstate = until_done(text, self._open, "newstate", 0o644)
        until_done(f"unable to write {self.name}/newstate to disk", os.fsync, newstate)
        os.close(newstate)
        until_done(f"unable to remove {self.name}/previous", unlink_if_there, "previous")
        text = f"unable to rename newstate to state in directory {self.name}"
        until_done(text, os.rename, "newstate", "state")
        self._rotated_files.add_file("processed", "s")


def _processor():
    """Return what runs a processor: the logs without one do without its modules."""
    from pyqmail.supervise.logs.processor import run_processor

    return run_processor


def _or_fatal(text, function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        raise Temporary(text, error) from None


def _make_and_open(directory):
    try:
        os.mkdir(directory, 0o700)
    except OSError:
        pass  # it exists, or open() reports why not
    return os.open(directory, os.O_RDONLY | os.O_NONBLOCK | os.O_DIRECTORY)


def _remove(*files):
    for file in files:
        try:
            os.unlink(file)
        except OSError:
            pass  # it was missing; otherwise making it again reports why not


def _write_some(descriptor, data):
    count = os.write(descriptor, data)
    if not count:
        raise OSError(0, "nothing written")
    return count
