"""The listener accepts connections while there is room, counts them, and writes the log lines about them.

How each connection is served is up to its serving mode (ServingMode in tcp/serving/modes.py).  Four rules hold for the
loop that accepts:

1. It watches its sockets if and only if it may accept: count < limit, the serving mode has room, accept() did not just
   fail, and the server is not ending.  adjust_accepting() alone decides that; it is called whenever one of the four may
   have changed.  A socket that is not watched costs nothing: clients wait in the kernel's backlog, which is the
   back-pressure on them.
2. At one wake-up it accepts at most _BATCH connections, then hands the batch to the serving mode.  So children that
   ended and workers that answered are heard in between, and a burst is handed over in few messages.
3. `count` is right at every moment, since everything is one process: it grows after accept(), and shrinks when the
   serving mode reports the end.  A client behind a proxy is counted as soon as the proxy has connected, since it holds
   a descriptor, and is given to the serving mode when the header is complete; until that has room it waits in _named.
4. An accept() that fails is one of three things.  The client has gone: the next one is accepted.  The socket is of no
   use any more: the server ends with an error.  Anything else is a lack that may pass, such as descriptors; the
   connection stays in the backlog and the socket stays ready, so accepting pauses for _PAUSE_SECONDS.

           accept()       serve_connection()          end_connection(), uncount(), could_not_start()
    backlog ------> counted ---------------> serving mode ------------------------------------> counted out
                       |                          |
                       +-> proxy_clients, _named -+

A log that is full stops the server, as it stops the original.  SIGTERM then ends it in the signal handler, since the
loop does not turn (_terminate).
"""

import collections
import os
import signal
import time

from pyqmail.base.failure import Temporary, reason
from pyqmail.system.channel import takes_descriptors
from pyqmail.system.coroutines import READ
from pyqmail.system.listener import FINAL, GONE, Troubles
from pyqmail.system.loop import Loop
from pyqmail.system.processes import reap
from pyqmail.tcp.access.connection_counts import ConnectionCounts
from pyqmail.tcp.access.log_lines import LogLines, end_line, log_is_full, opening_line, status_line
from pyqmail.tcp.listener.unix_relay import relayed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyqmail.tcp.access.connection import Connection
    from pyqmail.tcp.listener.hooks import ServerHook
    from pyqmail.tcp.listener.listening_socket import ListeningSocket
    from pyqmail.tcp.listener.proxy_clients import ProxyClients

_BATCH = 16  # accepts at each wake-up
_PAUSE_SECONDS = 0.1
_LAST_SECONDS = 1.0  # between TERM for what is left and our own end


class Server(LogLines):
    """Listening sockets, the limit of connections at once, and the lines about them on descriptor 2.

    sockets         the ListeningSockets
    first_number    of the connections that have no process of their own
    counts          counts clients by address (tcp/access/connection_counts.py), or None
    proxies         reads the headers of proxies (tcp/listener/proxy_clients.py), or None
    drain_seconds   None: a TERM ends the listener at once.  Otherwise: how long connections may go on
    hooks           called as the server starts, becomes ready, drains and stops (tcp/listener/hooks.py)
    oddities        texts about numbers that were read as others; reported after the first status line, which readers
                    wait for
    """

    def __init__(
        self,
        loop: Loop,
        sockets: "list[ListeningSocket]",
        limit: int,
        verbosity: int,
        first_number: int,
        counts: "ConnectionCounts | None" = None,
        proxies: "ProxyClients | None" = None,
        drain_seconds: float | None = None,
        hooks: "Sequence[ServerHook]" = (),
        oddities: "Sequence[str]" = (),
    ) -> None:
        super().__init__(verbosity)
        self.loop, self.sockets, self.limit, self.drain_seconds = loop, sockets, limit, drain_seconds
        self.count, self.since, self._hooks, self._oddities = 0, time.time(), hooks, oddities
        # by the number under which it was registered, which is not always that of the log lines
        self.clients: dict[int, Connection] = {}
        self.is_ending = False
        self.mode: Any = None  # the ServingMode (tcp/serving/modes.py), which knows us
        self._failure: OSError | None = None
        self.shortfall: Callable[[int], str] = lambda limit: ""  # why there cannot be so many; empty if there can
        self._counts, self._proxies = counts, proxies
        self._named: collections.deque[tuple[socket.socket, Connection]] = collections.deque()  # behind proxies
        self._watched, self._paused = False, False
        self._troubles = Troubles()  # why accept failed
        self._first_number = self._number = first_number

    def run(self, mode: "Any") -> None:
        """Serve with mode, a ServingMode, until SIGTERM.  Raises Temporary if no socket is of use any more."""
        self.mode = mode
        self._start()
        self.loop.run()
        for hook in self._hooks:
            hook.close()
        if self._failure is not None:
            raise Temporary("unable to accept", self._failure)
        if not self.is_ending:
            self._close_sockets()
            mode.hand_over_last()
        self.flush()

    def _start(self):
        """Start all parts; readers of the log wait for the first status line, readers of a descriptor for ready()."""
        self.loop.on_signal(signal.SIGCHLD, self._reap)
        self.loop.on_signal(signal.SIGTERM, self._end)
        noted = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, frame: self._terminate(noted, number, frame))
        self._check_limit()
        self.mode.start()
        if self._proxies is not None:
            self.refuse_descriptors()  # we read from such clients ourselves
        for hook in self._hooks:
            hook.started(self)
        self._status()
        for text in self._oddities:
            self.complain(text)
        self._check_zero()
        self.flush()
        self.adjust_accepting()
        for hook in self._hooks:
            hook.ready()

    def refuse_descriptors(self) -> None:
        """Let no client of a UNIX socket pass descriptors to us."""
        for listening in self.sockets:
            listening.refuse_descriptors()

    def count_clients(self) -> None:
        """Count clients by address and network even if no limit of ours asks for it: sessions do."""
        if self._counts is None:
            self._counts = ConnectionCounts(counts_new=False)

    def change_limit(self, limit: int) -> None:
        """Set the limit of connections; those above a new limit stay."""
        self.limit = limit
        self._check_limit()
        self._status()
        self._check_zero()
        self.flush()
        self.adjust_accepting()

    def number_for(self, client: "Connection") -> int:
        """Return the number of a connection that has no process: above all pids, not repeated for long."""
        number = self._number
        self._number = number + 1 if number < 0x7FFFFFFF else self._first_number
        return number

    def register(self, number: int, client: "Connection") -> None:
        """The serving mode serves the connection under this number."""
        client.number = number
        self.clients[number] = client

    def end_connection(self, number: int, wait_status: int, shown: int | None = None) -> None:
        """Count a connection out; shown is its number in the log lines, if not the one it was registered under."""
        self._count_out(self.clients.pop(number))
        self.say(end_line(number if shown is None else shown, wait_status))
        self._status()

    def uncount(self, number: int) -> None:
        """Count out a connection that turned out never to have been a process or a session."""
        self._count_out(self.clients.pop(number))
        self._status()

    def could_not_start(self, client: "Connection", error: OSError) -> None:
        """Count out a connection for which no process could be had."""
        self.warn_of_fork(error)
        self._count_out(client)
        self._status()

    def header_received(self, sock, client: "Connection") -> None:
        """The header of a proxy is complete: client is the one that it names."""
        self._named.append((sock, client))
        self.adjust_accepting()

    def header_refused(self, sock, client: "Connection", why: str) -> None:
        """A proxy sent no header, or a wrong one: drop the connection."""
        sock.close()
        number = self.number_for(client)
        self.say(opening_line(number, client.ip))
        self.warn(why)
        self.count -= 1
        self.say(end_line(number, 111 << 8))
        self._status()
        self.flush()
        self._stop_if_last()
        self.adjust_accepting()

    def close_in_child(self) -> None:
        """In a forked child: give up the loop, the sockets, the lines, and all that the parts hold."""
        self.forget()
        self.loop.abandon()
        for listening in self.sockets:
            listening.close()
        for sock, _ in self._named:
            sock.close()
        if self._proxies is not None:
            self._proxies.close_in_child()
        for hook in self._hooks:
            hook.close_in_child()
        self.mode.close_in_child()

    def adjust_accepting(self) -> None:
        """Accept if and only if there is room.  To be called when room may have come or gone."""
        if self._named and self.mode.has_room:
            self._serve_named()
        wanted = self.count < self.limit and self.mode.has_room and not self._paused and not self.is_ending
        if wanted != self._watched:
            self._watched = wanted
            for listening in self.sockets:
                if wanted:
                    self.loop.watch_surely(listening.fileno(), READ, lambda _, each=listening: self._accept_batch(each))
                else:
                    self.loop.forget(listening.fileno())

    def _check_limit(self):
        text = self.shortfall(self.limit)
        if text:
            self.complain(text)

    def _check_zero(self):
        if not self.limit:
            self.complain("a limit of 0: no connection is accepted")

    def _accept_batch(self, listening):
        mode, accept = self.mode, listening.accept
        for _ in range(_BATCH):
            if self.count >= self.limit or not mode.has_room:
                break
            try:
                sock, client = accept()
                if listening.refuses_descriptors and takes_descriptors(sock):
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
            if self._proxies is None or not self._proxies.hold_if_proxy(sock, client, self):
                self._serve(sock, client)
        mode.hand_over_batch()
        self.flush()
        self.adjust_accepting()

    def _relayed(self, sock):
        """Return a socket that stands for a client that can pass descriptors; None if no process can be had for it."""
        self.flush()
        try:
            return relayed(self, sock)
        except OSError as error:
            self.warn_of_fork(error)
            sock.close()
            return None

    def _serve(self, sock, client):
        if self._counts is not None:
            self._counts.count_in(client)
        self.mode.serve_connection(sock, client)

    def _serve_named(self):
        while self._named and self.mode.has_room:
            self._serve(*self._named.popleft())
        self.mode.hand_over_batch()
        self.flush()

    def _count_out(self, client):
        self.count -= 1
        if self._counts is not None:
            self._counts.count_out(client)
        self._stop_if_last()

    def _cannot_accept(self, error):
        """Return whether accepting stops for now; False if only that client has gone."""
        if error.errno in FINAL:
            self._failure = error
            self.loop.stop()
        elif error.errno in GONE:
            return False
        else:
            # the connection stays ready: without a pause we would spin
            self._paused = True
            self.loop.after(_PAUSE_SECONDS, self._accept_again)
            if self._troubles.is_new(error):
                self.complain(f"unable to accept: {reason(error)}")
        return True

    def _accept_again(self):
        self._paused = False
        self.adjust_accepting()

    def _reap(self):
        for pid, status in reap():
            self.mode.child_ended(pid, status)
            for hook in self._hooks:
                hook.child_ended(pid)
        self.flush()
        self.adjust_accepting()

    def _status(self):
        self.say(status_line(self.count, self.limit))

    def _end(self):
        """TERM: accept no more connections and drain, if that is configured.  A second TERM ends the server at once."""
        if self.drain_seconds is None or self.is_ending:
            self.loop.stop()
            return
        self.is_ending = True
        self.adjust_accepting()
        self._close_sockets()
        for hook in self._hooks:
            hook.draining()
        self.loop.after(self.drain_seconds, self._end_the_rest)
        self._stop_if_last()

    def _close_sockets(self):
        for listening in self.sockets:
            listening.close_and_unlink()

    def _end_the_rest(self):
        self.mode.signal_all(signal.SIGTERM)
        self.loop.after(_LAST_SECONDS, self.loop.stop)

    def _stop_if_last(self):
        if self.is_ending and not self.count:
            self.loop.stop()

    def _terminate(self, noted, number, frame):
        if self.is_writing and log_is_full():
            os._exit(0)  # nothing reads our log: the end must not wait for that
        self.is_to_end = self.drain_seconds is None or self.is_ending
        noted(number, frame)
