"""Lines on descriptor 2, about connections and the server: many in one write, never one in two."""

import os
import select

from pyqmail.base.failure import Failure, reason
from pyqmail.system.descriptors import write_all

QUIET, ERRORS, EVERYTHING = 0, 1, 2
_PIPE_BYTES = 4096  # a write of no more is not mixed with other processes' lines
LABEL = "tcpserver"  # the server's name at the head of its lines, whichever of its processes writes them
_HEAD = LABEL.encode() + b": "
_CLEAN = bytes(c if 32 < c < 127 and c not in b"%:" else 63 for c in range(256))
_CLEAN_ADDRESS = _CLEAN[:58] + b":" + _CLEAN[59:]
_FIELD_BYTES = 100


def opening_line(number: int, ip: bytes) -> bytes:
    return _HEAD + b"pid %d from %b\n" % (number, ip)


def verdict_line(number: int, decision) -> bytes:
    """Return the `ok` or `deny` line of an AccessDecision: what was found out, whatever a rule made of it.

    Addresses keep their colons, as in ucspi-tcp6; an IPv4 address has none.
    """
    word = b"deny" if decision.is_denied else b"ok"
    local_host, local_ip, local_port, host, ip, info, port = decision.fields
    names = (local_host, local_port, host, info, port)
    local_host, local_port, host, info, port = (_field(text, _CLEAN) for text in names)
    local_ip, ip = _field(local_ip, _CLEAN_ADDRESS), _field(ip, _CLEAN_ADDRESS)
    fields = (local_host, local_ip, local_port, host, ip, info, port)
    return _HEAD + b"%b %d %b:%b:%b %b:%b:%b:%b%b\n" % (word, number, *fields, decision.remark)


def drop_line(text: str) -> bytes:
    return complaint_line(f"dropping connection, {text}")


def complaint_line(text: str) -> bytes:
    return _HEAD + b"warning: " + os.fsencode(text) + b"\n"


def status_line(count: int, limit: int) -> bytes:
    return _HEAD + b"status: %d/%d\n" % (count, limit)


def end_line(number: int, wait_status: int) -> bytes:
    return _HEAD + b"end %d status %d\n" % (number, wait_status)


def _field(text, clean):
    """Clean and cut a field of the line; exactly 100 bytes are marked as cut too, as the original does."""
    if not text:
        return b""
    return (text[:_FIELD_BYTES] + b"..." if len(text) >= _FIELD_BYTES else text).translate(clean)


def unless_quiet(call, work) -> int:
    """Return work(call); a Failure after -q is its exit code and no word.  Raises Failure."""
    try:
        return work(call)
    except Failure as failure:
        if call.verbosity == QUIET:
            return failure.code
        raise


def say_now(lines: bytes) -> None:
    """Write complete lines at once, of one connection in a process of its own or a worker.  A log may be gone."""
    try:
        os.write(2, lines)
    except OSError:
        pass


def log_is_full() -> bool:
    """Return whether a write to descriptor 2 would have to wait."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    return not poll.poll(0)


class LogLines:
    """What is to be said, according to verbosity.

    is_writing: flush() is at it, and may have to wait.  is_to_end: it shall not wait any more.
    """

    def __init__(self, verbosity: int):
        self.verbosity = verbosity
        self.is_writing = self.is_to_end = False
        self._lines: list[bytes] = []

    def say(self, line: bytes) -> None:
        """Say a complete line at the next flush(), if everything is to be said."""
        if self.verbosity >= EVERYTHING:
            self._lines.append(line)

    def warn(self, text: str) -> None:
        """Say why a connection is dropped, unless nothing is to be said."""
        if self.verbosity >= ERRORS:
            self._lines.append(drop_line(text))

    def complain(self, text: str) -> None:
        """Say what is wrong with the server itself, unless nothing is to be said."""
        if self.verbosity >= ERRORS:
            self._lines.append(complaint_line(text))

    def warn_of_fork(self, error: OSError) -> None:
        """Say that a connection is dropped for want of a process."""
        self.warn(f"unable to fork: {reason(error)}")

    def flush(self) -> None:
        """Write what was said.  A log that is gone is no reason to stop."""
        while self._lines:
            data = self._some_lines()
            self.is_writing = True
            try:
                if not (self.is_to_end and log_is_full()):  # nobody reads it: that shall not keep us
                    write_all(2, data)
            except OSError:
                pass
            self.is_writing = False

    def forget(self) -> None:
        """In a forked child: what was said is the parent's to write."""
        self._lines = []

    def _some_lines(self):
        size = taken = 0
        for line in self._lines:
            size += len(line)
            if size > _PIPE_BYTES and taken:
                break
            taken += 1
        data = b"".join(self._lines[:taken])
        del self._lines[:taken]
        return data
