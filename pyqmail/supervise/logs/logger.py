"""multilog's script, carried out on blocks of input: select lines, write them to logs.

    block --> stamped --> lines --+--> script: + and - select, e, = and logs take what is selected
                                  |
    the start of a line <---------+--- waits for its LF or its 1000th byte

A line is everything up to LF.  Its first 1000 bytes, label included, are what patterns see, what `e` shows and what a
status file holds; logs get all of it.  A line is decided upon once its LF or its 1000th byte is there; what comes
after goes to the logs that took its start.

Where log files end depends on the pieces they are written in, and the original's pieces on its small buffers.  So far
from a full file a whole block is written at once, and near to one it is cut into the original's pieces: both ways
make the same files.
"""

import os
from itertools import compress

from pyqmail.base.failure import Temporary
from pyqmail.base.numbers import leading_number, says_just
from pyqmail.base.printable import printable
from pyqmail.supervise.logs.logdir import MAX_BYTES, MIN_BYTES, MIN_FILES, USUAL_BYTES, USUAL_FILES, LogDirectory
from pyqmail.supervise.logs.selection import LineChoice
from pyqmail.supervise.logs.stamps import stamp_lines
from pyqmail.system.clock import now, now_text_label
from pyqmail.system.descriptors import write_all
from pyqmail.system.files import open_shared

HEAD_BYTES = 1000
SHOWN_BYTES = 200
SMALL_BYTES = 1024  # the original reads this much at once
LARGE_BYTES = 65536


class Echo:
    """The action e: the start of each line to descriptor 2."""

    descriptor = 2

    def write_heads(self, heads) -> None:
        shown = [head if len(head) <= SHOWN_BYTES else head[:SHOWN_BYTES] + b"..." for head in heads]
        try:
            write_all(self.descriptor, b"".join(line + b"\n" for line in shown))
        except OSError:
            pass  # nothing reads it; the logs matter more


class StatusFile:
    """The action =FILE: the last line, filled up with LF to 1001 bytes.  A longer, older file keeps its tail."""

    def __init__(self, name: str, retry) -> None:
        self.name, self._until_done = name, retry.until_done

    def open(self) -> None:
        """Raises Temporary."""
        try:
            self.descriptor = open_shared(self.name, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise Temporary(f"unable to create {self.name}", error) from None

    def write_heads(self, heads) -> None:
        if not heads:
            return
        self._until_done(f"unable to move to beginning of {self.name}", os.lseek, self.descriptor, 0, os.SEEK_SET)
        rest = heads[-1].ljust(HEAD_BYTES + 1, b"\n")
        while rest:
            rest = rest[self._until_done(f"unable to write {self.name}", os.write, self.descriptor, rest) :]


class Logger:
    """A script and its open outputs.

    words: the actions of the command line.  clock returns this moment as `t` writes it, name_clock for
    the names of files.  copy: is given everything that logs could get, stamped, after they got it.
    add_block() is given the input, with settle() after each; finish() ends it; rotate() starts new files.
    """

    def __init__(self, words: list[str], retry, clock=now_text_label, name_clock=now, copy=None) -> None:
        self._clock, self._name_clock = clock, name_clock
        self._copy = copy
        self._passed: list[bytes] = []  # what copy is still to be given
        self.is_stamping = bool(words) and words[0].startswith("t")
        self._steps: list[LineChoice | Echo | StatusFile | LogDirectory] = []
        self._logs: list[LogDirectory] = []
        self._pending = b""  # the start of a line, not yet decided upon
        self._is_in_long_line = False  # in a line whose start was decided upon
        self._is_by_line = False  # each line must have gone through the script before the next
        self._compile(words, retry)

    def _compile(self, words, retry):
        size_bytes, files, processor = USUAL_BYTES, USUAL_FILES, None
        for word in words:
            kind, rest = word[:1], word[1:]
            if kind and kind in "+-":
                self._steps.append(LineChoice(os.fsencode(rest), kind == "+"))
            elif kind == "e":
                self._steps.append(Echo())
            elif kind == "=":
                self._steps.append(StatusFile(rest, retry))
            elif kind == "s":
                size_bytes = min(max(_number(word, retry), MIN_BYTES), MAX_BYTES)
            elif kind == "n":
                files = max(_number(word, retry), MIN_FILES)
            elif kind == "!":
                processor = rest
            elif kind and kind in "./":
                self._logs.append(LogDirectory(word, size_bytes, files, processor, retry, self._name_clock))
                self._steps.append(self._logs[-1])

    def open(self) -> None:
        """Open the status files, then the logs.  Raises Temporary; no input has been touched then."""
        try:
            self._start = os.open(".", os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise Temporary("unable to switch to current directory", error) from None
        for step in self._steps:
            if isinstance(step, StatusFile):
                step.open()
        places = [_place(step.descriptor) for step in self._steps if isinstance(step, (Echo, StatusFile))]
        self._is_by_line = len(set(places)) < len(places)  # two write to the same
        for log in self._logs:
            log.open(self._start)

    @property
    def block_bytes(self) -> int:
        """How much to read at once: no log becomes full twice by it, unless its lines are very short.

        So all of it is in files before the long part of a rotation begins.
        """
        smallest = min((log.size_bytes for log in self._logs), default=MAX_BYTES)
        return min(smallest // 2 // SMALL_BYTES * SMALL_BYTES, LARGE_BYTES)

    def add_block(self, block: bytes) -> None:
        """Take the next bytes of input; all that can be decided upon is with the kernel when it returns."""
        self._process(block, self._clock() + b" " if self.is_stamping else b"")

    def settle(self) -> None:
        """What was added is in the files: now do what may take long."""
        for log in self._logs:
            log.settle()
        if self._copy:
            passed, self._passed = self._passed, []
            self._copy.write(b"".join(passed))

    def finish(self) -> None:
        """The input has ended: complete its last line, close the logs."""
        if self._pending or self._is_in_long_line:
            self._process_by_line(b"\n", b"")
            self.settle()
        for log in self._logs:
            log.close()
        os.close(self._start)

    def rotate(self) -> None:
        """Start a new file in every log that is not empty."""
        for log in self._logs:
            log.rotate_now()
            log.settle()

    def _process(self, block, stamp):
        longest = len(self._pending) + len(block) + len(stamp) * (block.count(b"\n") + 1)
        if not self._is_by_line and all(longest < log.room_bytes for log in self._logs):
            self._process_at_once(block, stamp)
        elif len(block) <= SMALL_BYTES:
            self._process_by_line(block, stamp)
        else:
            half = (len(block) // 2 + SMALL_BYTES - 1) // SMALL_BYTES * SMALL_BYTES
            self._process(block[:half], stamp)
            self._process(block[half:], stamp)

    def _process_at_once(self, block, stamp):
        """Block fills no log: how it is cut into pieces makes no difference."""
        if self._is_in_long_line:
            rest, block = self._split_following(block)
            for log in self._logs:
                if log.follows:
                    log.append(rest)
            if not block:
                return
        lines = self._collect(block, stamp)
        if lines:
            self._carry_out(lines)
        if len(self._pending) >= HEAD_BYTES:
            self._decide_long(LogDirectory.append, LogDirectory.append)

    def _carry_out(self, text):
        """Carry out the script on whole lines."""
        lines = heads = chosen = None
        for step in self._steps:
            if isinstance(step, LogDirectory):
                if chosen is None:
                    step.append(text)
                elif any(chosen):
                    step.append(b"\n".join(compress(lines, chosen)) + b"\n")
                continue
            if lines is None:
                lines = text[:-1].split(b"\n")
                heads = _heads(lines)
            if isinstance(step, LineChoice):
                chosen = step.choose(heads, chosen)
            else:
                step.write_heads(heads if chosen is None else list(compress(heads, chosen)))

    def _process_by_line(self, block, stamp):
        """A log may become full: give it the original's pieces, line by line.  Or two actions write to one file."""
        if self._is_in_long_line:
            rest, block = self._split_following(block)
            for log in self._logs:
                if log.follows:
                    log.buffer_rest(rest)
        if block:
            text = self._collect(block, stamp)
            for line in text[:-1].split(b"\n") if text else ():
                self._decide(line[:HEAD_BYTES], LogDirectory.buffer_head)
                for log in self._logs:
                    if log.follows:
                        log.buffer_rest(line[HEAD_BYTES:] + b"\n")
            if len(self._pending) >= HEAD_BYTES:
                self._decide_long(LogDirectory.buffer_head, LogDirectory.buffer_rest)
        for log in self._logs:
            log.flush()

    def _collect(self, block, stamp):
        """Add block, stamped, to what is pending; return the whole lines of it."""
        if stamp:
            block = stamp_lines(block, stamp, not self._pending)
        if self._copy:
            self._passed.append(block)
        text = self._pending + block
        cut = text.rfind(b"\n") + 1
        self._pending = text[cut:]
        return text[:cut]

    def _split_following(self, block):
        """Split off what still belongs to the line that logs follow."""
        cut = block.find(b"\n") + 1
        if cut:
            self._is_in_long_line = False
        else:
            cut = len(block)
        if self._copy:
            self._passed.append(block[:cut])
        return block[:cut], block[cut:]

    def _decide_long(self, put, add):
        """Decide upon a line by its start; the logs that take it follow its rest."""
        head, rest, self._pending = self._pending[:HEAD_BYTES], self._pending[HEAD_BYTES:], b""
        self._decide(head, put)
        self._is_in_long_line = True
        for log in self._logs:
            if log.follows:
                add(log, rest)

    def _decide(self, head, put):
        chosen = None
        for step in self._steps:
            if isinstance(step, LineChoice):
                chosen = step.choose([head], chosen)
                continue
            selected = chosen is None or chosen[0]
            if isinstance(step, LogDirectory):
                step.follows = selected
                if selected:
                    put(step, head)
            elif selected:
                step.write_heads([head])


def _number(word, retry):
    """Return the number of an action as the original reads it; warn if that is not the number in the word."""
    number = leading_number(word[1:])
    if not says_just(word[1:], number):
        retry.report(f"warning: {printable(os.fsencode(word[:64]))} is read as {word[0]}{number}")
    return number


def _place(descriptor):
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _heads(lines):
    if max(map(len, lines)) <= HEAD_BYTES:
        return lines
    return [line[:HEAD_BYTES] for line in lines]
