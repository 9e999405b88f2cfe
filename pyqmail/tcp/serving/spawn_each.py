"""A foreign program for each connection, started by the listener itself: when nothing has to be waited for.

posix_spawn(3) is faster than a fork of the listener.  It returns once the program has been executed, so that a listener
alone starts as many programs as one processor can.  When a batch of connections comes at once, helpers
(tcp/serving/spawn_helper.py) get their share of it; they are started at the first such batch.
"""

import collections
import errno
import os
import signal

from pyqmail.base.environment import merged
from pyqmail.system.driver import BlockingDriver, drive
from pyqmail.system.peer import BlockingPeer
from pyqmail.system.processes import candidates
from pyqmail.tcp.access.decide import Drop, decide
from pyqmail.tcp.access.log_lines import opening_line, verdict_line
from pyqmail.tcp.listener.unix_relay import close_unread
from pyqmail.tcp.serving.fork_each import ForkEach

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from pyqmail.tcp.access.connection import Connection
    from pyqmail.tcp.serving.modes import ConnectionRegistry, ServedProgram
    from pyqmail.tcp.serving.worker_pool import WorkerPool

MAX_BANNER_BYTES = 4096  # an empty send buffer holds that: writing it cannot wait
_DEFAULTED = (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGXFSZ)


class SpawnEach:
    """The serving mode (tcp/serving/modes.py) in which the listener decides itself, and starts the program.

    A child of ForkEach serves a connection whose program could not be started here: it may wait, and reports why.
    helpers is the pool of helper_count helpers, which this mode starts when it needs them; None in a helper itself.
    A connection that a rule denies never has a process; the registry gives it its number.
    """

    name = "spawn each"
    has_room = True

    def __init__(
        self,
        registry: "ConnectionRegistry",
        program: "ServedProgram",
        helpers: "WorkerPool | None" = None,
        helper_count: int = 0,
    ) -> None:
        self._registry, self._policy, self._environ = registry, program.policy, program.environ
        self._fork_each, self._give_back = ForkEach(registry, program), program.give_back
        self._argv = [os.fsencode(word) for word in program.argv]
        self._candidates = candidates(self._argv[0], program.path)
        self._driver = BlockingDriver()
        self._children: set[int] = set()
        self._held: collections.deque[tuple[socket.socket, Connection]] = collections.deque()
        self._pool, self._helper_count = helpers, helper_count
        self._helpers: WorkerPool | None = None  # once they are started
        self._usual_environ: dict[bytes, bytes] | None = None

    def start(self) -> None:
        pass

    def serve_connection(self, sock: "socket.socket", client: "Connection") -> None:
        self._held.append((sock, client))

    def hand_over_batch(self) -> None:
        """Give the helpers their share of what came at once, and start programs for the rest."""
        share = len(self._held) * self._helper_count // (self._helper_count + 1)
        if share and self._helpers is None and self._pool is not None:
            self._helpers = self._pool
            self._helpers.start()
        if self._helpers is not None:
            while share and self._helpers.has_room:
                share -= 1
                self._helpers.serve_connection(*self._held.popleft())
            self._helpers.hand_over_batch()
        while self._held:
            self._serve(*self._held.popleft())

    def child_ended(self, pid: int, wait_status: int) -> None:
        if pid in self._children:
            self._children.discard(pid)
            self._registry.end_connection(pid, wait_status)
            return
        self._fork_each.child_ended(pid, wait_status)
        if self._helpers is not None:
            self._helpers.child_ended(pid, wait_status)

    def close_in_child(self) -> None:
        for sock, _ in self._held:
            sock.close()
        if self._helpers is not None:
            self._helpers.close_in_child()

    def hand_over_last(self) -> None:
        if self._helpers is not None:
            self._helpers.hand_over_last()

    def workers(self) -> list[tuple[int, int]]:
        return [] if self._helpers is None else self._helpers.workers()

    def limited_clients(self) -> list[tuple[str, str, int, int]]:
        return []

    def announce(self, frame: bytes) -> None:
        if self._helpers is not None:
            self._helpers.announce(frame)

    def signal_all(self, number: int) -> None:
        for pid in self._children:
            os.kill(pid, number)
        self._fork_each.signal_all(number)
        if self._helpers is not None:
            self._helpers.signal_all(number)

    def _serve(self, sock, client):
        registry, fd = self._registry, sock.fileno()
        try:
            decision = drive(decide(self._policy, sock, BlockingPeer(fd, fd), client, self._driver, None))
        except Drop as drop:
            self._register_without_process(client)
            registry.warn(str(drop))
            self._end_without_process(sock, client, 111)
            return
        if decision.is_denied:
            self._register_without_process(client)
            registry.say(verdict_line(client.number, decision))
            self._end_without_process(sock, client, 100)
            return
        pid = None if decision.greet_seconds else self._spawn(fd, self._environ_of(decision))
        if pid is None:
            self._fork_each.serve_connection(sock, client, decision)
            return
        if self._give_back is not None:
            self._give_back(pid)
        self._children.add(pid)
        registry.register(pid, client)
        registry.say(opening_line(pid, client.ip))
        registry.say(verdict_line(pid, decision))
        close_unread(registry, sock)

    def _spawn(self, fd, environ):
        """Return the pid of the program on fd; None if the first file that exists could not be started."""
        actions = ((os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1))
        last = self._candidates[-1]
        if not self._argv[0]:
            return None  # posix_spawn refuses that name; it leads to directories only
        for name in self._candidates:
            try:
                if name is not last:
                    os.stat(name)  # cheaper than a process that finds nothing to execute
                return os.posix_spawn(name, self._argv, environ, file_actions=actions, setsigdef=_DEFAULTED)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    return None
        return None

    def _environ_of(self, decision):
        """Return the program's environment; without the variables of a rule only its values differ between clients."""
        if not decision.is_usual:
            return merged(self._environ, decision.additions)
        if self._usual_environ is None:
            self._usual_environ = merged(self._environ, decision.additions)
        for name, value in decision.additions:
            if value is not None:
                self._usual_environ[name] = value
        return self._usual_environ

    def _register_without_process(self, client):
        self._registry.register(self._registry.number_for(client), client)
        self._registry.say(opening_line(client.number, client.ip))

    def _end_without_process(self, sock, client, exit_code):
        close_unread(self._registry, sock)
        self._registry.end_connection(client.number, exit_code << 8)
