"""The process that starts the parts of the queue manager, and starts one again that was lost.

    pystart, as root --fork--> starter --fork, change of user--> pylspawn, pyrspawn ..., pyclean, pyresolve
       | changes to qmails        ^ |                                ^ |
       v                      KILL| |LOST, STARTED                   | | pipes
     pysend <---------------------+-+--------------------------------+-+

The queue manager has given up the rights that it takes to become another user; the starter keeps them.  It reads
nothing from anybody but which part to kill.  What is kept true:

- A part is started only after the one before it has been waited for: no two work for one queue manager.
- A part that lived for STEADY_SECONDS is started again at once; otherwise after 1, 2, 4 ... MAX_SECONDS seconds.  So
  what ends again and again costs one process in MAX_SECONDS, and each loss one line in the log.
- The starter has no end of a part's pipes.  A part sees the end of its orders when the queue manager has gone, and ends
  by itself; the starter ends then, too, and waits for none.
- KILL names the part by its generation: it never hits the one that has been started meanwhile.

The wire is a UNIX socket of packets (SOCK_SEQPACKET), decimal numbers with a space between them:

    LOST     PART GENERATION STATUS SECONDS     it has ended with this wait status; so long until the next
    STARTED  PART GENERATION, two descriptors   write orders there, read reports here
    KILL     PART GENERATION                    its pipes are closed already: it makes no sense, or is dead

PART counts from 0 in the order of pystart, GENERATION from 0: the first one, whose pipes pystart made.  A status of -1:
it could not be started, for a reason that stands in the log.
"""

import os
import signal
import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import reason
from pyqmail.system.channel import receive_with, send_with
from pyqmail.system.coroutines import READ
from pyqmail.system.descriptors import log
from pyqmail.system.processes import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from pyqmail.system.loop import Loop

    Pair = tuple[int, int]

STEADY_SECONDS = 10.0
MAX_SECONDS = 10.0
PACKET_BYTES = 100
NOT_STARTED = -1  # in place of a wait status


class StartedPart:
    """A part: what it is called, its process, and how it fared.

    become(read_fd, write_fd) is what a child does; it returns its exit code.
    """

    __slots__ = ("name", "become", "pid", "generation", "since", "pauses")

    def __init__(self, name: str, become: "Callable[[int, int], int]") -> None:
        self.name, self.become = name, become
        self.pid: int | None = None
        self.generation, self.since, self.pauses = 0, 0.0, Backoff(1.0, MAX_SECONDS)

    def next_pause(self, now: float) -> float:
        """Return how many seconds after its end it is started again."""
        if self.pid is not None and now - self.since >= STEADY_SECONDS:
            self.pauses.reset()
            return 0.0
        return self.pauses.next_seconds()


class Starter:
    """sock leads to the queue manager; program: whose the lines in the log are."""

    def __init__(self, loop: "Loop", sock: "socket.socket", parts: "Sequence[StartedPart]", program: str) -> None:
        self._loop, self._sock, self._parts, self._program = loop, sock, parts, program

    def run(self, first: "Sequence[Pair]") -> int:
        """Start each part on its first pipes, (read orders, write reports), and serve until the queue manager ends."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for index, theirs in enumerate(first):
            self._start(index, theirs)
        self._loop.watch(self._sock.fileno(), READ, lambda _: self._obey())
        self._loop.run()
        return 0

    def _start(self, index, theirs):
        """Fork a part on its pipes, and close them here.  Returns whether there is one."""
        part = self._parts[index]
        try:
            pid = part.pid = fork(lambda: self._become(part, theirs))
        except OSError as error:
            log(f"{self._program}: warning: unable to start {part.name}: {reason(error)}")
            self._ended(index, NOT_STARTED)
            return False
        finally:
            close_all(*theirs)
        part.since = time.monotonic()
        self._loop.on_exit_surely(pid, lambda status: self._ended(index, status))
        return True

    def _become(self, part, theirs):
        self._loop.abandon()
        return part.become(*theirs)

    def _ended(self, index, status):
        part = self._parts[index]
        pause = part.next_pause(time.monotonic())
        part.pid = None
        self._tell(b"%d %d %d %d" % (index, part.generation, status, pause))
        self._loop.after(pause, lambda: self._start_again(index))

    def _start_again(self, index):
        part = self._parts[index]
        try:
            ours, theirs = make_pipes()
        except OSError as error:
            log(f"{self._program}: warning: unable to start {part.name}: {reason(error)}")
            self._ended(index, NOT_STARTED)
            return
        part.generation += 1
        if self._start(index, theirs):
            self._tell(b"%d %d" % (index, part.generation), ours)
        close_all(*ours)

    def _tell(self, packet, descriptors=()):
        try:
            send_with(self._sock, packet, descriptors)
        except OSError:
            self._loop.stop()  # the queue manager has gone, and each part sees that by itself

    def _obey(self):
        try:
            packet, descriptors = receive_with(self._sock, PACKET_BYTES, 1)
        except OSError:  # it ended with words of ours unread
            packet, descriptors = b"", []
        close_all(*descriptors)
        if not packet:
            self._loop.stop()
            return
        index, generation = map(int, packet.split())
        part = self._parts[index]
        if part.generation == generation and part.pid is not None:
            os.kill(part.pid, signal.SIGKILL)


def make_pipes() -> "tuple[Pair, Pair]":
    """Return (our ends, the part's ends), each (orders, reports), close-on-exec.  Raises OSError."""
    orders = os.pipe2(os.O_CLOEXEC)
    try:
        reports = os.pipe2(os.O_CLOEXEC)
    except OSError:
        close_all(*orders)
        raise
    return (orders[1], reports[0]), (orders[0], reports[1])


def close_all(*descriptors: int) -> None:
    for fd in descriptors:
        os.close(fd)
