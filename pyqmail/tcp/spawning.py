"""A foreign program for each connection, started by the listener itself: for when nothing has to be waited for."""

import collections
import errno
import os
import signal

from pyqmail.base.environment import merged
from pyqmail.system.driver import BlockingDriver, BlockingPeer, drive
from pyqmail.system.processes import candidates
from pyqmail.tcp.admission import Drop, admit, opening_line, verdict_line
from pyqmail.tcp.environment import NAMES

LONGEST_BANNER_BYTES = 4096  # an empty send buffer takes that: writing it cannot wait
_DEFAULTED = (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGXFSZ)


class Spawning:
    """See tcp/server.py for what a way does.

    forking is the way for what could not be started here.  make_others() gives a Residents of `others` starters, to
    share with when several connections come at once; it is not called before.  A connection that a rule denies
    never has a process; its number is the server's.
    """

    has_room = True

    def __init__(
        self, server, terms, argv: list[str], path: bytes | None, environ: dict, forking, others=0, make_others=None
    ):
        self._server, self._terms, self._environ, self._forking = server, terms, environ, forking
        self._argv = [os.fsencode(word) for word in argv]
        self._candidates = candidates(self._argv[0], path)
        self._driver = BlockingDriver()
        self._children, self._held = set(), collections.deque()
        self._others, self._count, self._make_others = None, others, make_others
        self._usual = None

    def begin(self) -> None:
        pass

    def take(self, sock, ip: bytes, port: bytes) -> None:
        self._held.append((sock, ip, port))

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
        for sock, _, _ in self._held:
            sock.close()
        if self._others is not None:
            self._others.let_go()

    def leave(self) -> None:
        if self._others is not None:
            self._others.leave()

    def _serve(self, sock, ip, port):
        server, fd = self._server, sock.fileno()
        try:
            admission = drive(admit(self._terms, sock, BlockingPeer(fd, fd), ip, port, self._driver, None))
        except Drop as drop:
            number = server.session_number()
            server.say(opening_line(number, ip))
            server.warn(str(drop))
            self._over(sock, number, 111)
            return
        if admission.is_denied:
            number = server.session_number()
            server.say(opening_line(number, ip))
            server.say(verdict_line(number, admission))
            self._over(sock, number, 100)
            return
        pid = self._start(fd, self._environ_of(admission.additions))
        if pid is None:
            self._forking.take(sock, ip, port, admission)  # which also says why it cannot be run
            return
        self._children.add(pid)
        server.started(pid)
        server.say(opening_line(pid, ip))
        server.say(verdict_line(pid, admission))
        sock.close()

    def _start(self, fd, environ):
        """Return the pid of the program on fd; None if the first file that is there could not be started."""
        actions = ((os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1))
        last = self._candidates[-1]
        for name in self._candidates:
            try:
                if name is not last:
                    os.stat(name)  # cheaper than a process that finds nothing to become
                return os.posix_spawn(name, self._argv, environ, file_actions=actions, setsigdef=_DEFAULTED)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    return None
        return None

    def _environ_of(self, additions):
        """Return the program's environment; without a rule's variables it is always the same but for its values."""
        if len(additions) != len(NAMES):
            return merged(self._environ, additions)
        if self._usual is None:
            self._usual = merged(self._environ, additions)
        for name, value in additions:
            if value is not None:
                self._usual[name] = value
        return self._usual

    def _over(self, sock, number, exit_code):
        sock.close()
        self._server.end(number, exit_code << 8)
