"""A second pair of hands for the listener: starts foreign programs for connections that come faster than one starts.

Starting a program keeps its parent waiting until the program is there; under load that wait, not the work, is
what would limit the listener.
"""

import signal

from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.loop import Loop
from pyqmail.system.processes import reap
from pyqmail.tcp.access.log_lines import LogLines
from pyqmail.tcp.serving.worker_stream import WorkerStream


class SpawnHelper(LogLines):
    """What a way is told by instead of a Server, in a process of its own: the listener counts, this one starts.

    make_way(starter) gives the way.  limits: Limits (tcp/access/limits.py) that its terms have, or None.  serve(sock) returns
    0 once the listener has gone, as the listener itself does at a SIGTERM: without waiting for the programs.
    """

    def __init__(self, verbosity: int, make_way, limits=None):
        super().__init__(verbosity)
        self.loop = Loop()
        self._way, self._limits = make_way(self), limits
        self._sessions, self._stream = {}, None

    def serve(self, sock) -> int:
        self._sock = sock
        self.loop.on_signal(signal.SIGCHLD, self._reap)
        self.loop.on_signal(signal.SIGTERM, lambda: self._way.end_all(signal.SIGTERM))
        self._stream = WorkerStream(
            self.loop, sock, self._take, lambda sock: sock.close(), self.loop.stop, self._limits
        )
        self.loop.run()
        return 0

    def number_for(self, client) -> int:
        """Return the number the listener gave the connection."""
        return client.number

    def enter(self, number: int, client) -> None:
        self._sessions[number] = client.number
        if number != client.number:
            self._stream.put(wire.started(client.number, number))

    def end(self, number: int, wait_status: int) -> None:
        self._stream.put(wire.ended(self._sessions.pop(number), number, wait_status))

    def not_started(self, client, error: OSError) -> None:
        self.warn_of_fork(error)
        self._stream.put(wire.ended(client.number, 0, 0))

    def let_go(self) -> None:
        self.forget()
        self.loop.abandon()
        self._sock.close()
        self._way.let_go()

    def _take(self, sock, client):
        self._way.take(sock, client)
        self._way.push()
        self.flush()

    def _reap(self):
        for pid, status in reap():
            self._way.reaped(pid, status)
        self.flush()
