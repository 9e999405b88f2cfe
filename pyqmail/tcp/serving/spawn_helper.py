"""A helper process that starts programs when connections arrive faster than one process can spawn them.

posix_spawn(3) keeps its caller waiting until the program has been executed.  Under load that wait, not the work, would
limit the listener.  A helper is a worker of a pool (tcp/serving/worker_pool.py) that gets connections over the same
wire as one with sessions, but starts the program for each: the listener counts the connections, the helper starts them.
"""

import signal
import sys

from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.loop import Loop
from pyqmail.system.processes import reap
from pyqmail.tcp.access.log_lines import LogLines
from pyqmail.tcp.serving.spawn_each import SpawnEach
from pyqmail.tcp.serving.worker_stream import WorkerStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from pyqmail.tcp.access.connection import Connection
    from pyqmail.tcp.serving.modes import ServedProgram


class HelperRole:
    """What a worker of a pool does that is a helper (WorkerRole of tcp/serving/modes.py)."""

    max_sessions = sys.maxsize  # the listener's own limit holds
    words = None
    resolve = None  # a helper looks up no names

    def __init__(self, program: "ServedProgram", verbosity: int) -> None:
        self._program, self._verbosity = program, verbosity

    def serve(self, sock: "socket.socket") -> int:
        return SpawnHelper(self._program, self._verbosity, sock).run()


class SpawnHelper(LogLines):
    """The helper process: stands for the listener as the registry of its own SpawnEach.

    sock: the stream to the listener.
    """

    def __init__(self, program: "ServedProgram", verbosity: int, sock: "socket.socket") -> None:
        super().__init__(verbosity)
        self._loop, self._sock = Loop(), sock
        self._mode = SpawnEach(self, program)
        self._numbers: dict[int, int] = {}  # of a process, or of a connection without one -> the listener's
        close = type(sock).close  # no resolver is ever sent
        self._stream = WorkerStream(self._loop, sock, self._serve, close, self._loop.stop, program.policy.limits)

    def run(self) -> int:
        """Start programs until the listener has gone; then end as it does at a SIGTERM: without waiting for them."""
        self._loop.on_signal(signal.SIGCHLD, self._reap)
        self._loop.on_signal(signal.SIGTERM, lambda: self._mode.signal_all(signal.SIGTERM))
        self._loop.run()
        return 0

    def number_for(self, client: "Connection") -> int:
        """Return the number that the listener gave the connection."""
        return client.number

    def register(self, number: int, client: "Connection") -> None:
        self._numbers[number] = client.number
        if number != client.number:
            self._stream.send_frame(wire.started(client.number, number))

    def end_connection(self, number: int, wait_status: int) -> None:
        self._stream.send_frame(wire.ended(self._numbers.pop(number), number, wait_status))

    def could_not_start(self, client: "Connection", error: OSError) -> None:
        self.warn_of_fork(error)
        self._stream.send_frame(wire.ended(client.number, 0, 0))

    def close_in_child(self) -> None:
        self.forget()
        self._loop.abandon()
        self._sock.close()
        self._mode.close_in_child()

    def _serve(self, sock, client):
        self._mode.serve_connection(sock, client)
        self._mode.hand_over_batch()
        self.flush()

    def _reap(self):
        for pid, status in reap():
            self._mode.child_ended(pid, status)
        self.flush()
