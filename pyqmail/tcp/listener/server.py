"""The listener: accepts while there is room, counts, and says so; how a connection is served is its way's affair.

A way is one of tcp/serving/spawn_each.py, tcp/serving/fork_each.py, tcp/serving/worker_pool.py:

    begin()              before the first connection: start what is needed
    has_room             False holds back accept
    take(sock, client)   owns the connection from now on; it is counted until server.end() is called for it
    push()               after a batch of take(): hand on what is still held
    reaped(pid, status)  a child has ended
    let_go()             in a forked child: close what only the parent goes on with
    leave()              no connection will come any more
    end_all(signal)      send the signal to every process that serves a connection
    announce(frame)      send a frame (protocol/wires/handover_wire.py) to every process that serves connections for us
    workers()            (pid, connections) of each such process
    kind                 what the way is called: `resident`, `forking` or `spawning`
"""

import collections
import os
import signal
import time

from pyqmail.base.failure import Temporary, reason
from pyqmail.system.channel import takes_descriptors
from pyqmail.system.listener import FINAL, GONE, Troubles
from pyqmail.system.loop import READ
from pyqmail.system.processes import reap
from pyqmail.tcp.access.log_lines import LogLines, end_line, log_is_full, opening_line, status_line
from pyqmail.tcp.listener.unix_relay import relayed

_BATCH = 16  # accepts for each wake-up, so that ended children and workers are heard in between
_PAUSE_SECONDS = 0.1
_LAST_SECONDS = 1.0  # between TERM for what is left and our own end


class Server(LogLines):
    """Listening sockets, the limit of connections at once, and the lines about them on descriptor 2.

    tally           counts clients by address (tcp/access/connection_counts.py), or None
    proxies         None, or who is believed when it says for whom it speaks (tcp/listener/proxy_clients.py):
                    begin(sock, client, server) takes charge of a connection and returns True, or returns False; later
                    it calls introduced() or refused().  let_go() is for a forked child
    drain_seconds   None: a TERM ends the listener at once.  Otherwise: how long connections may go on
    attendants      what stays beside the server (tcp/listener/hooks.py)
    oddities        texts about numbers that were read as others; reported after the first status line, which readers
                    wait for
    """

    def __init__(
        self,
        loop,
        ears,
        limit: int,
        verbosity: int,
        first_number: int,
        tally=None,
        proxies=None,
        drain_seconds=None,
        attendants=(),
        oddities=(),
    ):
        super().__init__(verbosity)
        self.loop, self.ears, self.limit, self.drain_seconds = loop, ears, limit, drain_seconds
        self.count, self.since, self.attendants, self._oddities = 0, time.time(), attendants, oddities
        self.clients = {}  # the number it was entered with, not always that of the log lines: Connection
        self.is_ending = False
        self.way = self._failure = None
        self.shortfall = lambda limit: ""  # the way's: why there cannot be so many, empty if there can
        self._tally, self._proxies = tally, proxies
        self._introduced = collections.deque()
        self._watched, self._paused = False, False
        self._troubles = Troubles()  # why accept failed
        self._first_number = self._number = first_number

    def run(self, way) -> None:
        """Serve until SIGTERM.  Raises Temporary when no socket is of use."""
        self.way = way
        self.loop.on_signal(signal.SIGCHLD, self._reap)
        self.loop.on_signal(signal.SIGTERM, self._end)
        noted = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, frame: self._terminate(noted, number, frame))
        self._check_limit()
        way.begin()
        if self._proxies is not None:
            self.guard()  # we read from them ourselves
        for attendant in self.attendants:
            attendant.begin(self)
        self._status()
        for text in self._oddities:
            self.complain(text)
        self._check_zero()
        self.flush()
        self.adjust()
        for attendant in self.attendants:
            attendant.ready()
        self.loop.run()
        for attendant in self.attendants:
            attendant.close()
        if self._failure is not None:
            raise Temporary("unable to accept", self._failure)
        if not self.is_ending:
            self._retire()
            way.leave()
        self.flush()

    def guard(self) -> None:
        """Let no client of a UNIX socket pass descriptors to us."""
        for ear in self.ears:
            ear.guard()

    def change_limit(self, limit: int) -> None:
        """Allow so many connections from now on; those there are stay."""
        self.limit = limit
        self._check_limit()
        self._status()
        self._check_zero()
        self.flush()
        self.adjust()

    def number_for(self, client) -> int:
        """Return the number of a connection that has no process: above all pids, not repeated for long."""
        number = self._number
        self._number = number + 1 if number < 0x7FFFFFFF else self._first_number
        return number

    def enter(self, number: int, client) -> None:
        """A way serves the connection under this number."""
        client.number = number
        self.clients[number] = client

    def end(self, number: int, wait_status: int, shown: int | None = None) -> None:
        """Count a connection out; shown is its number in the log lines, if not the one it was entered with."""
        self._leave(self.clients.pop(number))
        self.say(end_line(number if shown is None else shown, wait_status))
        self._status()

    def uncount(self, number: int) -> None:
        """Count out a connection that turned out never to have been a process or a session."""
        self._leave(self.clients.pop(number))
        self._status()

    def not_started(self, client, error: OSError) -> None:
        """Count out a connection for which no process could be had."""
        self.warn_of_fork(error)
        self._leave(client)
        self._status()

    def introduced(self, sock, client) -> None:
        """A proxy has said whom it speaks for: client is that one now."""
        self._introduced.append((sock, client))
        self.adjust()

    def refused(self, sock, client, why: str) -> None:
        """A proxy did not say whom it speaks for: the connection is dropped."""
        sock.close()
        number = self.number_for(client)
        self.say(opening_line(number, client.ip))
        self.warn(why)
        self.count -= 1
        self.say(end_line(number, 111 << 8))
        self._status()
        self.flush()
        self._leave_if_last()
        self.adjust()

    def let_go(self) -> None:
        """In a forked child: give up the loop, the sockets and all that the way holds.  Lines said are the parent's."""
        self.forget()
        self.loop.abandon()
        for ear in self.ears:
            ear.close()
        for sock, _ in self._introduced:
            sock.close()
        if self._proxies is not None:
            self._proxies.let_go()
        for attendant in self.attendants:
            attendant.let_go()
        self.way.let_go()

    def adjust(self) -> None:
        """Accept as long as there is room, and not otherwise.  To be called when room may have come or gone."""
        if self._introduced and self.way.has_room:
            self._take_introduced()
        wanted = self.count < self.limit and self.way.has_room and not self._paused and not self.is_ending
        if wanted != self._watched:
            self._watched = wanted
            for ear in self.ears:
                if wanted:
                    self.loop.watch_surely(ear.fileno(), READ, lambda _, ear=ear: self._accept(ear))
                else:
                    self.loop.forget(ear.fileno())

    def _check_limit(self):
        text = self.shortfall(self.limit)
        if text:
            self.complain(text)

    def _check_zero(self):
        if not self.limit:
            self.complain("a limit of 0: no connection is accepted")

    def _accept(self, ear) -> None:
        way, accept = self.way, ear.accept
        for _ in range(_BATCH):
            if self.count >= self.limit or not way.has_room:
                break
            try:
                sock, client = accept()
                if ear.is_guarded and takes_descriptors(sock):
                    sock = self._relayed(sock)
                    if sock is None:
                        continue
            except BlockingIOError:
                break
            except OSError as error:
                if self._cannot_accept(error):
                    break
                continue
            client.since = time.time()
            self.count += 1
            self._status()
            if self._proxies is None or not self._proxies.begin(sock, client, self):
                self._take(sock, client)
        way.push()
        self.flush()
        self.adjust()

    def _relayed(self, sock):
        """Return a socket that stands for a client who can pass descriptors; None if no process could be had for it."""
        self.flush()
        try:
            return relayed(self, sock)
        except OSError as error:
            self.warn_of_fork(error)
            sock.close()
            return None

    def _take(self, sock, client):
        if self._tally is not None:
            self._tally.count_in(client)
        self.way.take(sock, client)

    def _take_introduced(self):
        while self._introduced and self.way.has_room:
            self._take(*self._introduced.popleft())
        self.way.push()
        self.flush()

    def _leave(self, client):
        self.count -= 1
        if self._tally is not None:
            self._tally.count_out(client)
        self._leave_if_last()

    def _cannot_accept(self, error) -> bool:
        if error.errno in FINAL:
            self._failure = error
            self.loop.stop()
        elif error.errno in GONE:
            return False
        else:
            # the connection stays ready: without a pause we would spin
            self._paused = True
            self.loop.after(_PAUSE_SECONDS, self._go_on)
            if self._troubles.is_new(error):
                self.complain(f"unable to accept: {reason(error)}")
        return True

    def _go_on(self):
        self._paused = False
        self.adjust()

    def _reap(self):
        for pid, status in reap():
            self.way.reaped(pid, status)
            for attendant in self.attendants:
                attendant.reaped(pid)
        self.flush()
        self.adjust()

    def _status(self):
        self.say(status_line(self.count, self.limit))

    def _end(self):
        """TERM: accept nobody any more, and wait for what goes on if we are to.  A second one ends us at once."""
        if self.drain_seconds is None or self.is_ending:
            self.loop.stop()
            return
        self.is_ending = True
        self.adjust()
        self._retire()
        for attendant in self.attendants:
            attendant.stopping()
        self.loop.after(self.drain_seconds, self._end_the_rest)
        self._leave_if_last()

    def _retire(self):
        for ear in self.ears:
            ear.retire()

    def _end_the_rest(self):
        self.way.end_all(signal.SIGTERM)
        self.loop.after(_LAST_SECONDS, self.loop.stop)

    def _leave_if_last(self):
        if self.is_ending and not self.count:
            self.loop.stop()

    def _terminate(self, noted, number, frame):
        if self.is_writing and log_is_full():
            os._exit(0)  # nobody reads our log: whoever wants us to end shall not wait for that
        self.is_to_end = self.drain_seconds is None or self.is_ending
        noted(number, frame)
