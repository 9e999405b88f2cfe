"""A foreign program for each connection, started by the listener itself: for when nothing has to be waited for."""

import collections
import errno
import os
import signal

from pyqmail.base.environment import merged
from pyqmail.system.driver import BlockingDriver, drive
from pyqmail.system.peer import BlockingPeer
from pyqmail.system.processes import candidates
from pyqmail.tcp.access.decide import Drop, admit
from pyqmail.tcp.access.log_lines import opening_line, verdict_line
from pyqmail.tcp.listener.unix_relay import close_unread

MAX_BANNER_BYTES = 4096  # an empty send buffer takes that: writing it cannot wait
_DEFAULTED = (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGXFSZ)


class SpawnEach:
    """See tcp/listener/server.py for what a way does.

    forking is the way for what could not be started here.  make_others() gives a WorkerPool of `others` starters, to
    share with when several connections come at once; it is not called before.  A connection that a rule denies
    never has a process; its number is the server's.  give_back(pid) gives a program the limits that we have raised
    for us; None: none were.
    """

    kind = "spawning"
    has_room = True

    def __init__(
        self,
        server,
        terms,
        argv: list[str],
        path: bytes | None,
        environ: dict,
        forking,
        others=0,
        make_others=None,
        give_back=None,
    ):
        self._server, self._terms, self._environ, self._forking = server, terms, environ, forking
        self._argv = [os.fsencode(word) for word in argv]
        self._candidates = candidates(self._argv[0], path)
        self._driver = BlockingDriver()
        self._children, self._held = set(), collections.deque()
        self._others, self._count, self._make_others = None, others, make_others
        self._usual, self._give_back = None, give_back

    def begin(self) -> None:
        pass

    def take(self, sock, client) -> None:
        self._held.append((sock, client))

    def push(self) -> None:
        share = len(self._held) * self._count // (self._count + 1)
        if share and self._others is None:
            self._others = self._make_others()
            self._others.begin()
        while share and self._others.has_room:
            share -= 1
            self._others.take(*self._held.popleft())
        if self._others is not None:
            self._others.push()
        while self._held:
            self._serve(*self._held.popleft())

    def reaped(self, pid: int, status: int) -> None:
        if pid in self._children:
            self._children.discard(pid)
            self._server.end(pid, status)
            return
        self._forking.reaped(pid, status)
        if self._others is not None:
            self._others.reaped(pid, status)

    def let_go(self) -> None:
        for sock, _ in self._held:
            sock.close()
        if self._others is not None:
            self._others.let_go()

    def leave(self) -> None:
        if self._others is not None:
            self._others.leave()

    def workers(self) -> list[tuple[int, int]]:
        return [] if self._others is None else self._others.workers()

    def announce(self, frame: bytes) -> None:
        if self._others is not None:
            self._others.announce(frame)

    def end_all(self, number: int) -> None:
        for pid in self._children:
            os.kill(pid, number)
        self._forking.end_all(number)
        if self._others is not None:
            self._others.end_all(number)

    def _serve(self, sock, client):
        server, fd = self._server, sock.fileno()
        try:
            admission = drive(admit(self._terms, sock, BlockingPeer(fd, fd), client, self._driver, None))
        except Drop as drop:
            self._enter(client)
            server.warn(str(drop))
            self._over(sock, client, 111)
            return
        if admission.is_denied:
            self._enter(client)
            server.say(verdict_line(client.number, admission))
            self._over(sock, client, 100)
            return
        pid = None if admission.greet_seconds else self._start(fd, self._environ_of(admission))
        if pid is None:
            self._forking.take(sock, client, admission)  # which may wait, and says why it cannot be run
            return
        if self._give_back is not None:
            self._give_back(pid)
        self._children.add(pid)
        server.enter(pid, client)
        server.say(opening_line(pid, client.ip))
        server.say(verdict_line(pid, admission))
        close_unread(server, sock)

    def _start(self, fd, environ):
        """Return the pid of the program on fd; None if the first file that is there could not be started."""
        actions = ((os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1))
        last = self._candidates[-1]
        if not self._argv[0]:
            return None  # posix_spawn refuses that name; it leads to directories only
        for name in self._candidates:
            try:
                if name is not last:
                    os.stat(name)  # cheaper than a process that finds nothing to become
                return os.posix_spawn(name, self._argv, environ, file_actions=actions, setsigdef=_DEFAULTED)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    return None
        return None

    def _environ_of(self, admission):
        """Return the program's environment; without a rule's variables it is always the same but for its values."""
        if not admission.is_usual:
            return merged(self._environ, admission.additions)
        if self._usual is None:
            self._usual = merged(self._environ, admission.additions)
        for name, value in admission.additions:
            if value is not None:
                self._usual[name] = value
        return self._usual

    def _enter(self, client):
        """Give a number to a connection that gets no process."""
        self._server.enter(self._server.number_for(client), client)
        self._server.say(opening_line(client.number, client.ip))

    def _over(self, sock, client, exit_code):
        close_unread(self._server, sock)
        self._server.end(client.number, exit_code << 8)
