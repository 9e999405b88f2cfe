"""The listener: accepts while there is room, counts, and says so; how a connection is served is its way's affair.

A way is one of tcp/spawning.py, tcp/forking.py, tcp/residents.py:

    begin()              before the first connection: start what is needed
    has_room             False holds back accept
    take(sock, ip, port) owns the connection from now on; it is counted until server.end() is called for it
    push()               after a batch of take(): hand on what is still held
    reaped(pid, status)  a child has ended
    let_go()             in a forked child: close what only the parent goes on with
    leave()              the listener is about to end
"""

import os
import signal

from pyqmail.base.failure import Temporary
from pyqmail.system.listener import FINAL, PASSING
from pyqmail.system.loop import READ
from pyqmail.system.processes import reap
from pyqmail.tcp.admission import end_line, status_line
from pyqmail.tcp.lines import Lines

_BATCH = 16  # accepts for each wake-up, so that ended children and workers are heard in between
_PAUSE_SECONDS = 0.1


class Server(Lines):
    """One listening socket, its limit of connections at once, and the lines about them on descriptor 2."""

    def __init__(self, loop, sock, limit: int, verbosity: int, first_number: int):
        super().__init__(verbosity)
        self.loop, self.limit = loop, limit
        self.count = 0
        self.way = self._failure = None
        self._sock, self._watched, self._paused = sock, False, False
        self._first_number = self._number = first_number

    def run(self, way) -> None:
        """Serve until SIGTERM.  Raises Temporary when the socket is of no use any more."""
        self.way = way
        self.loop.on_signal(signal.SIGCHLD, self._reap)
        self.loop.on_signal(signal.SIGTERM, self.loop.stop)
        noted = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, frame: self._terminate(noted, number, frame))
        way.begin()
        self._status()
        self.flush()
        self.adjust()
        self.loop.run()
        if self._failure is not None:
            raise Temporary("unable to accept", self._failure)
        way.leave()

    def session_number(self) -> int:
        """Return the next number of a connection that has no process: above all pids, not repeated for long."""
        number = self._number
        self._number = number + 1 if number < 0x7FFFFFFF else self._first_number
        return number

    def started(self, pid: int) -> None:
        """A way has a process for the connection at hand."""

    def end(self, number: int, wait_status: int) -> None:
        """Count a connection out."""
        self.count -= 1
        self.say(end_line(number, wait_status))
        self._status()

    def not_started(self, error: OSError) -> None:
        """Count out a connection for which no process could be had."""
        self.warn_of_fork(error)
        self.uncount()

    def uncount(self) -> None:
        """Count out a connection that never was a process or a session."""
        self.count -= 1
        self._status()

    def let_go(self) -> None:
        """In a forked child: give up the loop, the socket and all that the way holds.  Lines said are the parent's."""
        self.forget()
        self.loop.abandon()
        self._sock.close()
        self.way.let_go()

    def adjust(self) -> None:
        """Accept as long as there is room, and not otherwise.  To be called when room may have come or gone."""
        wanted = self.count < self.limit and self.way.has_room and not self._paused
        if wanted != self._watched:
            self._watched = wanted
            if wanted:
                self.loop.watch(self._sock.fileno(), READ, self._accept)
            else:
                self.loop.forget(self._sock.fileno())

    def _accept(self, _) -> None:
        way, accept = self.way, self._sock.accept
        for _ in range(_BATCH):
            if self.count >= self.limit or not way.has_room:
                break
            try:
                sock, (ip, port) = accept()
            except BlockingIOError:
                break
            except OSError as error:
                if self._cannot_accept(error):
                    break
                continue
            self.count += 1
            self._status()
            way.take(sock, ip.encode(), b"%d" % port)
        way.push()
        self.flush()
        self.adjust()

    def _cannot_accept(self, error) -> bool:
        if error.errno in FINAL:
            self._failure = error
            self.loop.stop()
        elif error.errno in PASSING:
            # the connection stays ready: without a pause we would spin
            self._paused = True
            self.loop.after(_PAUSE_SECONDS, self._go_on)
        else:
            return False
        return True

    def _go_on(self):
        self._paused = False
        self.adjust()

    def _reap(self):
        for pid, status in reap():
            self.way.reaped(pid, status)
        self.flush()
        self.adjust()

    def _status(self):
        self.say(status_line(self.count, self.limit))

    def _terminate(self, noted, number, frame):
        if self.is_writing:
            os._exit(0)  # nobody reads our log: whoever wants us to end shall not wait for that
        noted(number, frame)
