"""A process for each connection: a fork of the warm listener, which becomes the program."""

import os
import signal
import socket

from pyqmail.base.environment import merged
from pyqmail.base.failure import reason
from pyqmail.system.driver import BlockingDriver, drive
from pyqmail.system.peer import BlockingPeer
from pyqmail.system.processes import become, execute, fork
from pyqmail.tcp.access.decide import Drop, admit, hold_greeting
from pyqmail.tcp.access.log_lines import ERRORS, EVERYTHING, drop_line, opening_line, say_now, verdict_line
from pyqmail.tcp.listener.unix_relay import fork_owner


class ForkEach:
    """See tcp/listener/server.py for what a way does.

    program     argv, the PATH to search it in, and our environment
    load        the registry's, if the program is one of ours that is to be called; None: it is exec'd
    names       BlockingNames, or None if no name is to be looked up
    give_back   give_back(0) gives the process the limits that we have raised for us; None: none were
    """

    kind = "forking"
    has_room = True

    def __init__(
        self,
        server,
        terms,
        argv: list[str],
        path: bytes | None,
        environ: dict,
        load=None,
        names=None,
        give_back=None,
    ):
        self._server, self._terms, self._names = server, terms, names
        self._argv, self._path, self._environ, self._load = argv, path, environ, load
        self._children, self._give_back = set(), give_back

    def begin(self) -> None:
        pass

    def take(self, sock, client, admission=None) -> None:
        """admission: what the listener has found out already."""
        self._server.flush()
        try:
            if sock.family == socket.AF_UNIX:  # what its client passes to it is closed by the child, whoever ends first
                pid = fork_owner(sock, lambda: self._serve(sock, client, admission))
            else:
                pid = fork(lambda: self._serve(sock, client, admission))
            self._children.add(pid)
            self._server.enter(pid, client)
        except OSError as error:
            self._server.not_started(client, error)
        sock.close()

    def push(self) -> None:
        pass

    def reaped(self, pid: int, status: int) -> None:
        if pid in self._children:
            self._children.discard(pid)
            self._server.end(pid, status)

    def let_go(self) -> None:
        pass

    def leave(self) -> None:
        pass

    def workers(self) -> list:
        return []

    def announce(self, frame: bytes) -> None:
        pass

    def end_all(self, number: int) -> None:
        for pid in self._children:
            os.kill(pid, number)

    def _serve(self, sock, client, admission):
        verbosity, number, fd = self._server.verbosity, os.getpid(), sock.fileno()
        peer = BlockingPeer(fd, fd)
        self._server.let_go()
        if verbosity >= EVERYTHING:
            say_now(opening_line(number, client.ip))
        try:
            if admission is None:
                admission = drive(admit(self._terms, sock, peer, client, BlockingDriver(), self._names))
            if verbosity >= EVERYTHING:
                say_now(verdict_line(number, admission))
            if admission.is_denied:
                return 100
            drive(hold_greeting(admission, peer))
            self._stand_on(sock)
            return self._run(admission)
        except Drop as drop:
            if verbosity >= ERRORS:
                say_now(drop_line(str(drop)))
            return 111

    def _stand_on(self, sock):
        """Make the connection descriptors 0 and 1."""
        try:
            os.dup2(sock.fileno(), 0)
            os.dup2(0, 1)
        except OSError as error:
            raise Drop(f"unable to set up descriptors: {reason(error)}") from None
        sock.close()

    def _run(self, admission):
        environ = merged(self._environ, admission.additions)
        if self._give_back is not None:
            self._give_back(0)
        try:
            if self._load is not None:
                return become(self._argv, environ, self._load, self._path)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores; the others are default by now
                signal.signal(number, signal.SIG_DFL)
            raise execute([os.fsencode(word) for word in self._argv], environ, self._path)
        except OSError as error:
            raise Drop(f"unable to run {self._argv[0]}: {reason(error)}") from None
