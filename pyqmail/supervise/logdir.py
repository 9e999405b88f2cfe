"""A log directory: the current file, the finished ones beside it, and what happens when current is full.

    lock      flock held while it is in use
    current   being written, 0644; 0744 once it is complete and safely on disk
    previous  current of a moment ago, on its way to be finished; short-lived
    processed what a processor made of previous;  0744 once complete
    state     the processor's memory; newstate: what it is to become
    @LABEL.s  finished and complete.   @LABEL.u  was in progress at a crash, maybe incomplete, not processed

The owner's execute bit is the mark of completeness; the layout is multilog's, and either program goes on where the
other stopped.  While it is opened trouble is Temporary; from then on nothing is given up: what fails is said in a
warning and tried again after a pause.  Every step that works on names changes to the directory first.
"""

import fcntl
import os

from pyqmail.base.failure import Temporary
from pyqmail.base.tai import TEXT_BYTES, now_text_label
from pyqmail.system.processes import spawn

LEAST_BYTES, MOST_BYTES, USUAL_BYTES = 4096, 16777215, 99999
LEAST_FILES, USUAL_FILES = 2, 10
SLACK_BYTES = 2000  # within this of the full size a file ends at the next line end
BUFFER_BYTES = 512
COMPLETE = 0o100
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
_REPLACE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK


class LogDirectory:
    """One open log directory.

    name: the path as the user wrote it.  size_bytes: of a full file.  files: how many to keep, current included.
    processor: a shell command, None if there is none; the empty command makes empty files.
    patience: tells of a failure and waits, see Patience.
    """

    def __init__(self, name: str, size_bytes: int, files: int, processor: str | None, patience) -> None:
        self.name, self.files, self.processor = name, files, processor
        self.size_bytes = size_bytes
        self.follows = False  # takes the rest of a long line whose start it took
        self._insist, self._patience = patience.insist, patience
        self._directory = self._lock = self._current = -1
        self._bytes = 0
        self._buffer = b""

    def open(self, start: int) -> None:
        """Lock and open it, relative to the directory open on descriptor start.  Raises Temporary."""
        _or_fatal("unable to switch to starting directory", os.fchdir, start)
        try:
            os.mkdir(self.name, 0o700)
        except OSError:
            pass  # it is there, or opening it says why not
        text = f"unable to open directory {self.name}"
        self._directory = _or_fatal(text, os.open, self.name, os.O_RDONLY | os.O_NONBLOCK)
        _or_fatal(text, os.fchdir, self._directory)
        text = f"unable to lock directory {self.name}"
        self._lock = _or_fatal(text, os.open, "lock", _APPEND, 0o600)
        _or_fatal(text, fcntl.flock, self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = self._stat("current")
        if found is not None and found.st_mode & COMPLETE:
            self._bytes = found.st_size
            self._open_current(f"unable to append to {self.name}/current")
            return
        self._recover()
        os.close(_or_fatal(f"unable to write to {self.name}/state", os.open, "state", _REPLACE, 0o644))
        self._open_current(f"unable to write to {self.name}/current")

    def _stat(self, file):
        try:
            return os.stat(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Temporary(f"unable to stat {self.name}/{file}", error) from None

    def _open_current(self, text):
        self._current = _or_fatal(text, os.open, "current", _APPEND, 0o600)
        _or_fatal(f"unable to set mode of {self.name}/current", os.fchmod, self._current, 0o644)

    def _recover(self):
        """After a crash: what a processor had completed is finished, the rest is kept as it is."""
        _remove("state", "newstate")
        processed = self._stat("processed")
        if processed is not None and processed.st_mode & COMPLETE:
            _remove("previous")
            self._finish("processed", "s")
        else:
            _remove("processed")
            self._finish("previous", "u")
        self._finish("current", "u")

    @property
    def room_bytes(self) -> int:
        """Fewer bytes than this can be appended as they are: no file can become full by them."""
        return self.size_bytes - SLACK_BYTES - self._bytes

    def append(self, data: bytes) -> None:
        """Write fewer than room_bytes bytes."""
        while data:
            data = data[self._write(data) :]

    def put(self, head: bytes) -> None:
        """Buffer the start of a line: in one go, as where files end depends on the pieces they are written in."""
        if len(head) > BUFFER_BYTES - len(self._buffer):
            self.flush()
            if len(head) > BUFFER_BYTES:
                self._write_piece(head)
                return
        self._buffer += head

    def add(self, rest: bytes) -> None:
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

    def close(self) -> None:
        """Sync current and mark it complete."""
        self.flush()
        self._insist(f"unable to write {self.name}/current to disk", os.fsync, self._current)
        self._insist(f"unable to set mode of {self.name}/current", os.fchmod, self._current, 0o744)
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
        count = self._insist(f"unable to write to {self.name}/current", _write_some, self._current, data)
        self._bytes += count
        return count

    def _rotate(self):
        insist = self._insist
        insist(f"unable to switch to {self.name}", os.fchdir, self._directory)
        insist(f"unable to write {self.name}/current to disk", os.fsync, self._current)
        os.close(self._current)
        text = f"unable to rename current to previous in directory {self.name}"
        insist(text, os.rename, "current", "previous")
        self._current = insist(f"unable to create {self.name}/current", os.open, "current", _APPEND, 0o600)
        self._bytes = 0
        insist(f"unable to set mode of {self.name}/current", os.fchmod, self._current, 0o644)
        insist(f"unable to set mode of {self.name}/previous", os.chmod, "previous", 0o744)
        if self.processor is None:
            self._finish("previous", "s")
        else:
            self._process()

    def _process(self):
        insist = self._insist
        while not self._run_processor():
            self._patience.wait(f"processor failed in {self.name}")
        text = f"unable to create {self.name}/processed"
        processed = insist(text, os.open, "processed", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
        insist(f"unable to write {self.name}/processed to disk", os.fsync, processed)
        insist(f"unable to set mode of {self.name}/processed", os.fchmod, processed, 0o744)
        os.close(processed)
        text = f"unable to create {self.name}/newstate"
        newstate = insist(text, os.open, "newstate", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
        insist(f"unable to write {self.name}/newstate to disk", os.fsync, newstate)
        os.close(newstate)
        insist(f"unable to remove {self.name}/previous", _unlink_if_there, "previous")
        text = f"unable to rename newstate to state in directory {self.name}"
        insist(text, os.rename, "newstate", "state")
        self._finish("processed", "s")

    def _run_processor(self) -> bool:
        """Run the processor once; return whether it succeeded.  0 previous, 1 processed, 4 state, 5 newstate."""
        opened = {}
        try:
            opened[0] = os.open("previous", os.O_RDONLY)
            opened[1] = os.open("processed", _REPLACE & ~os.O_NONBLOCK, 0o644)
            opened[4] = os.open("state", os.O_RDONLY)
            opened[5] = os.open("newstate", _REPLACE & ~os.O_NONBLOCK, 0o644)
        except OSError as error:
            for descriptor in opened.values():
                os.close(descriptor)
            self._patience.tell(f"fatal: unable to run {self.processor}", error)
            return False
        words = [b"sh", b"-c", os.fsencode(self.processor)]
        text = f"unable to fork for processor in {self.name}"
        pid = self._insist(text, spawn, words, os.environb, b"/bin", opened)
        for descriptor in opened.values():
            os.close(descriptor)
        status = self._insist(f"wait failed for processor in {self.name}", os.waitpid, pid, 0)[1]
        if os.WIFSIGNALED(status):
            self._patience.wait(f"processor crashed in {self.name}", f"signal {os.WTERMSIG(status)}")
        return status == 0

    def _finish(self, file, code):
        """Give file its final name, then remove the oldest finished ones.

        Linked, then unlinked: nothing is ever overwritten, and a second link means that the first step is done.
        """
        try:
            found = self._insist(f"unable to stat {self.name}/{file}", os.stat, file, pass_on=FileNotFoundError)
        except FileNotFoundError:
            return
        if found.st_nlink == 1:
            self._link(file, code)
        self._insist(f"unable to remove {self.name}/{file}", os.unlink, file)
        self._prune()

    def _link(self, file, code):
        while True:
            name = f"{now_text_label().decode()}.{code}"
            try:
                os.link(file, name)
                return
            except OSError as error:
                self._patience.wait(f"unable to link to {self.name}/{name}", error)

    def _prune(self):
        while True:
            names = self._insist(f"unable to read {self.name}", os.listdir, b".")
            names = [name for name in names if name.startswith(b"@") and len(name) >= TEXT_BYTES]
            if len(names) < self.files:
                return
            oldest = min(names, key=lambda name: name[:TEXT_BYTES])
            self._insist(f"unable to remove {self.name}/{os.fsdecode(oldest)}", _unlink_if_there, oldest)


def _or_fatal(text, function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        raise Temporary(text, error) from None


def _remove(*files):
    for file in files:
        try:
            os.unlink(file)
        except OSError:
            pass  # it was not there; else making it anew says why not


def _unlink_if_there(file):
    try:
        os.unlink(file)
    except FileNotFoundError:
        pass


def _write_some(descriptor, data):
    count = os.write(descriptor, data)
    if not count:
        raise OSError(0, "nothing written")
    return count
