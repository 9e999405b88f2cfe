"""A load tool in one or several processes, and what they counted made one.

run() calls work(index, report) in each; with one process that is this one.  report(tally) tells what was counted so
far, and work returns (tally, complaint).  Children write lines of JSON into a pipe each; the parent adds up what it
heard last of each, shows progress, and hands on the signals that end them.  A child that dies is a complaint; what it
had reported counts.
"""

import json
import os
import select
import signal
import time

from pyqmail.base.failure import Temporary
from pyqmail.load_tools.tally import Tally
from pyqmail.system.libc import prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.base.options import Call
    from pyqmail.system.command_line import Program

    Report = Callable[[Tally], None]
    Work = Callable[[int, Report], tuple[Tally, str]]

ENDING = signal.SIGINT, signal.SIGTERM
_READ_BYTES = 1 << 20
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG: whoever kills the parent at once has ended the children, too


def run(count: int, work: "Work", show: "Callable[[Tally], None]") -> tuple[Tally, str]:
    """Return (what all of them counted, the first complaint or an empty text).  show(tally): hears of progress."""
    if count == 1:
        return work(0, show)
    children: list[_Child] = []
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # one that comes now finds all of them, and each can hear it
    for number in ENDING:
        signal.signal(number, lambda got, _: _kill_all(children, got))
    try:
        for index in range(count):
            children.append(_Child(index, work))
    except OSError as error:
        _kill_all(children, signal.SIGKILL)
        raise Temporary(f"unable to start {count} processes", error) from None
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    _listen(children, show)
    complaints = [child.wait() for child in children]
    return _sum(children), next(filter(None, complaints), "")


def _listen(children, show):
    """Read what the children report until all have ended; show the sum when each of them has said something new."""
    poll, open_ones = select.poll(), {child.fd: child for child in children}
    for fd in open_ones:
        poll.register(fd, select.POLLIN)
    while open_ones:
        for fd, _ in poll.poll():
            child = open_ones[fd]
            if not child.read():
                poll.unregister(fd)
                del open_ones[fd]
        if open_ones and all(child.is_new for child in open_ones.values()):
            show(_sum(children))
            for child in children:
                child.is_new = False


def _kill_all(children, number):
    for child in children:
        child.kill(number)


def _sum(children):
    total = Tally()
    for child in children:
        total.merge(child.tally)
    return total


class _Child:
    def __init__(self, index, work):
        self.fd, far = os.pipe2(os.O_CLOEXEC)
        self.tally, self.complaint, self.is_new, self._held = Tally(), "", False, b""
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            code = 111
            try:
                os.close(self.fd)
                prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
                if os.getppid() != parent:
                    os._exit(code)
                tally, complaint = work(index, lambda tally: _write(far, {"tally": tally.packed()}))
                _write(far, {"tally": tally.packed(), "complaint": complaint})
                code = 0
            except Exception as error:  # its parent reports it: nobody sees a child's exit
                _write(far, {"complaint": f"a process failed: {error}"})
            finally:
                os._exit(code)
        os.close(far)

    def read(self) -> bool:
        """Read what there is; False at the end."""
        data = os.read(self.fd, _READ_BYTES)
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self.complaint, self.is_new = said.get("complaint", ""), True
            if "tally" in said:
                self.tally = Tally.unpacked(said["tally"])
        return bool(data)

    def kill(self, number) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def wait(self) -> str:
        os.close(self.fd)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return f"a process was killed by signal {os.WTERMSIG(status)}"
        return self.complaint or (f"a process ended with exit code {os.WEXITSTATUS(status)}" if status else "")


def _write(fd, what):
    data = json.dumps(what).encode() + b"\n"
    while data:
        data = data[os.write(fd, data) :]


def say(program: "Program", call: "Call", tally: Tally, complaint: str) -> None:
    """Report what was counted on descriptor 1, and why it ended early on descriptor 2."""
    text = json.dumps(tally.summary()) + "\n" if call.is_json else tally.text()
    os.write(1, text.encode())
    if complaint:
        os.write(2, (program.line(f"fatal: {complaint}") + "\n").encode())


class Progress:
    """Shows a line on descriptor 2 about what was counted since it was called last."""

    def __init__(self, label: str) -> None:
        self._label, self._messages, self._when = label, 0, time.monotonic()

    def __call__(self, tally: Tally) -> None:
        now, messages = time.monotonic(), tally.counts["messages"]
        rate = (messages - self._messages) / max(now - self._when, 0.001)
        self._messages, self._when = messages, now
        refused, failed = sum(tally.refused.values()), sum(tally.failed.values())
        line = f"{self._label}: {messages} messages, {rate:.0f} a second, {refused} refused, {failed} failed\n"
        os.write(2, line.encode())
