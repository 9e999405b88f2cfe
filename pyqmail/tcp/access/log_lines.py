"""Log lines about connections and the server, on descriptor 2: many in one write, never one in two."""

import os
import select

from pyqmail.base.failure import Failure, reason
from pyqmail.system.descriptors import write_all

QUIET, ERRORS, EVERYTHING = 0, 1, 2
_PIPE_BYTES = 4096  # a write of no more is not mixed with other processes' lines
LABEL = "tcpserver"  # at the head of the lines of all processes of the server
_HEAD = LABEL.encode() + b": "
_CLEAN = bytes(c if 32 < c < 127 and c not in b"%:" else 63 for c in range(256))
_CLEAN_ADDRESS = _CLEAN[:58] + b":" + _CLEAN[59:]
_FIELD_BYTES = 100


def opening_line(number: int, ip: bytes) -> bytes:
    return _HEAD + b"pid %d from %b\n" % (number, ip)


def verdict_line(number: int, decision) -> bytes:
    """Return the `ok` or `deny` line of an AccessDecision, with what was looked up even if a rule changed it.

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
    """Clean and cut a field of the line; exactly 100 bytes are marked as cut, too, as in the original."""
    if not text:
        return b""
    return (text[:_FIELD_BYTES] + b"..." if len(text) >= _FIELD_BYTES else text).translate(clean)


def unless_quiet(call, work) -> int:
    """Return work(call); after -q a Failure is its exit code, without a line.  Raises Failure."""
    try:
        return work(call)
    except Failure as failure:
        if call.verbosity == QUIET:
            return failure.code
        raise


def say_now(lines: bytes) -> None:
    """Write complete lines at once, of a connection in a child or in a worker.  A log that is gone is ignored."""
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
    """Collects lines according to verbosity, and writes them at flush().

    is_writing: flush() is running, and may wait.  is_to_end: it must not wait any more.
    """

    def __init__(self, verbosity: int):
        self.verbosity = verbosity
        self.is_writing = self.is_to_end = False
        self._lines: list[bytes] = []

    def say(self, line: bytes) -> None:
        """Write a complete line at the next flush(), if everything is reported."""
        if self.verbosity >= EVERYTHING:
            self._lines.append(line)

    def warn(self, text: str) -> None:
        """Report why a connection is dropped, unless nothing is reported."""
        if self.verbosity >= ERRORS:
            self._lines.append(drop_line(text))

    def complain(self, text: str) -> None:
        """Report what is wrong with the server itself, unless nothing is reported."""
        if self.verbosity >= ERRORS:
            self._lines.append(complaint_line(text))

    def warn_of_fork(self, error: OSError) -> None:
        """Report that a connection is dropped because no process can be had."""
        self.warn(f"unable to fork: {reason(error)}")

    def flush(self) -> None:
        """Write the lines.  A log that is gone is ignored."""
        while self._lines:
            data = self._some_lines()
            self.is_writing = True
            try:
                if not (self.is_to_end and log_is_full()):  # nothing reads it, and the server ends
                    write_all(2, data)
            except OSError:
                pass
            self.is_writing = False

    def forget(self) -> None:
        """In a forked child: drop the lines, which the parent writes."""
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
