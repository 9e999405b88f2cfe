"""A process for each connection: a fork of the warm listener, which becomes the program."""

import os
import signal
import socket

from pyqmail.base.environment import merged
from pyqmail.base.failure import reason
from pyqmail.system.driver import BlockingDriver, drive
from pyqmail.system.peer import BlockingPeer
from pyqmail.system.processes import become, execute, fork, fork_owner
from pyqmail.tcp.access.decide import Drop, decide, hold_greeting
from pyqmail.tcp.access.log_lines import ERRORS, EVERYTHING, drop_line, opening_line, say_now, verdict_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.tcp.access.connection import Connection
    from pyqmail.tcp.access.decide import AccessDecision
    from pyqmail.tcp.serving.modes import ConnectionRegistry, ServedProgram


class ForkEach:
    """The serving mode (tcp/serving/modes.py) in which a child waits for what it must, then becomes the program.

    registry: what the connections are reported to.
    """

    name = "fork each"
    has_room = True

    def __init__(self, registry: "ConnectionRegistry", program: "ServedProgram") -> None:
        self._registry, self._program = registry, program
        self._children: set[int] = set()

    def start(self) -> None:
        pass

    def serve_connection(
        self, sock: socket.socket, client: "Connection", decision: "AccessDecision | None" = None
    ) -> None:
        """Fork a child for the connection; decision: what the listener has decided already."""
        registry = self._registry
        registry.flush()
        try:
            if sock.family == socket.AF_UNIX:  # the child closes what its client passes, even if we end first
                pid = fork_owner(sock, lambda: self._serve(sock, client, decision))
            else:
                pid = fork(lambda: self._serve(sock, client, decision))
            self._children.add(pid)
            registry.register(pid, client)
        except OSError as error:
            registry.could_not_start(client, error)
        sock.close()

    def hand_over_batch(self) -> None:
        pass

    def child_ended(self, pid: int, wait_status: int) -> None:
        if pid in self._children:
            self._children.discard(pid)
            self._registry.end_connection(pid, wait_status)

    def close_in_child(self) -> None:
        pass

    def hand_over_last(self) -> None:
        pass

    def workers(self) -> list[tuple[int, int]]:
        return []

    def limited_clients(self) -> list[tuple[str, str, int, int]]:
        return []

    def announce(self, frame: bytes) -> None:
        pass

    def signal_all(self, number: int) -> None:
        for pid in self._children:
            os.kill(pid, number)

    def _serve(self, sock, client, decision):
        """In the child: decide, and become the program.  Returns the exit code if it does not become one."""
        verbosity, number, fd = self._registry.verbosity, os.getpid(), sock.fileno()
        peer, program = BlockingPeer(fd, fd), self._program
        self._registry.close_in_child()
        if verbosity >= EVERYTHING:
            say_now(opening_line(number, client.ip))
        try:
            if decision is None:
                decision = drive(decide(program.policy, sock, peer, client, BlockingDriver(), program.names))
            if verbosity >= EVERYTHING:
                say_now(verdict_line(number, decision))
            if decision.is_denied:
                return 100
            drive(hold_greeting(decision, peer))
            _use_as_standard_descriptors(sock)
            return self._become_program(decision)
        except Drop as drop:
            if verbosity >= ERRORS:
                say_now(drop_line(str(drop)))
            return 111

    def _become_program(self, decision):
        program = self._program
        environ = merged(program.environ, decision.additions)
        if program.give_back is not None:
            program.give_back(0)
        try:
            if program.load is not None:
                return become(program.argv, environ, program.load, program.path)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these; the others are default by now
                signal.signal(number, signal.SIG_DFL)
            raise execute([os.fsencode(word) for word in program.argv], environ, program.path)
        except OSError as error:
            raise Drop(f"unable to run {program.argv[0]}: {reason(error)}") from None


def _use_as_standard_descriptors(sock):
    """Make the connection descriptors 0 and 1.  Raises Drop."""
    try:
        os.dup2(sock.fileno(), 0)
        os.dup2(0, 1)
    except OSError as error:
        raise Drop(f"unable to set up descriptors: {reason(error)}") from None
    sock.close()
