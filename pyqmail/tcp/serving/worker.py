"""Sessions in a few workers that stay: the worker's side of the hand-over (protocol/wires/handover_wire.py)."""

import os

from pyqmail.base.failure import Failure, Usage
from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.channel import Gone
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.descriptors import log, read_file
from pyqmail.system.driver import EventDriver
from pyqmail.system.loop import Loop
from pyqmail.system.privileges import forbid_new_privileges
from pyqmail.tcp.access.client_names import ChannelNames
from pyqmail.tcp.access.decide import Drop, decide, hold_greeting
from pyqmail.tcp.access.environment import NAMES, SessionEnvironment
from pyqmail.tcp.access.limits import NAMES as VARIABLES
from pyqmail.tcp.access.log_lines import (
    ERRORS,
    EVERYTHING,
    complaint_line,
    drop_line,
    opening_line,
    say_now,
    verdict_line,
)
from pyqmail.tcp.serving.client_meter import ClientMeter
from pyqmail.tcp.serving.worker_stream import WorkerStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from pyqmail.tcp.serving.modes import ServedProgram

_QUEUE = b"QMAILQUEUE"


class SessionRole:
    """What a worker of a pool does that has sessions (WorkerRole of tcp/serving/modes.py).

    module: a session program's, or what looks like one (tcp/serving/stages.py); resolver: the module of pyresolve, or
    None if no name is looked up.
    """

    def __init__(
        self, program: "ServedProgram", module: "Any", verbosity: int, max_sessions: int, resolver: "Any" = None
    ) -> None:
        self._program, self._module, self._verbosity = program, module, verbosity
        self.max_sessions, self.words, self._resolver = max_sessions, program.argv, resolver
        self.resolve = None if resolver is None else self._resolve

    def serve(self, sock: "socket.socket") -> int:
        """Run sessions until sock ends and the last of them is over.

        Returns the exit code: 0, or that of the program if it refuses to begin.
        """
        program, module = self._program, self._module
        if not _may_run_set_id(program.environ, program.policy):
            forbid_new_privileges()
        loop = Loop()
        driver = EventDriver(loop, program.give_back)
        driver.names = ChannelNames(loop)
        shared = {name: value for name, value in program.environ.items() if name not in NAMES}
        try:
            handler = module.session(program.argv, driver, shared)
        except Usage as failure:
            log(str(failure))
            return failure.code
        except Failure as failure:
            log(f"{module.PROGRAM.label}: fatal: {failure}")
            return failure.code
        Worker(loop, driver, sock, program.policy, handler, shared, module.PROGRAM.label, self._verbosity)
        loop.run()
        return 0

    def _resolve(self, sock: "socket.socket") -> int:
        os.dup2(sock.fileno(), 0)
        os.dup2(sock.fileno(), 1)
        sock.close()
        return self._resolver.main([self._resolver.PROGRAM.name])


def _may_run_set_id(environ, policy):
    """Return whether the environment or the rules name a QMAILQUEUE: that of the original is set-id."""
    if _QUEUE in environ:
        return True
    try:
        return bool(policy.rules) and _QUEUE + b"=" in read_file(policy.rules_name)
    except OSError:
        return False


class Worker:
    """All sessions of one process."""

    def __init__(self, loop, driver, sock, policy, handler, shared: dict, label: str, verbosity: int):
        self._loop, self._driver, self._policy = loop, driver, policy
        self._handler, self._shared, self._label, self._verbosity = handler, shared, label, verbosity
        self._names = driver.names
        self._sessions, self._is_last = 0, False
        self._knows_queue = _may_run_set_id(shared, policy)
        self._stream = WorkerStream(
            loop, sock, self._start_session, self._names.use, self._listener_is_gone, policy.limits
        )

    def _start_session(self, sock, client):
        self._sessions += 1
        self._loop.start(self._serve(sock, client))

    async def _serve(self, sock, client):
        code = 111
        peer = self._driver.peer(sock.fileno(), sock.fileno())
        try:
            await self._loop.give_way()  # many may come at once: other sessions have their turns in between
            environ = await self._decide(sock, peer, client)
            if environ is not None:
                peer.client_meter = ClientMeter(self._stream, client, self._limits_of(environ))
            code = 100 if environ is None else await self._handler(peer, environ)
        except Drop as drop:
            if self._verbosity >= ERRORS:
                say_now(drop_line(str(drop)))
        except Failure as failure:
            log(f"{self._label}: fatal: {failure}")
            code = failure.code
        except (Gone, TimedOut):
            code = 1  # caused by the client: as the originals end when they can neither read nor write
        except Exception as failure:
            self._loop.on_error(failure)
        finally:
            peer.close()
            sock.close()
            self._sessions -= 1
            self._stream.forget_session(client.number)
            self._stream.send_frame(wire.end(client.number, code if isinstance(code, int) and 0 <= code < 256 else 111))
            self._leave_if_last()

    async def _decide(self, sock, peer, client):
        """Return the environment of the session, None if it is denied; log the lines about that.  Raises Drop."""
        opening = opening_line(client.number, client.ip) if self._verbosity >= EVERYTHING else b""
        if opening and (self._policy.looks_up or self._policy.banner):
            say_now(opening)  # what comes next may take time
            opening = b""
        try:
            decision = await decide(self._policy, sock, peer, client, self._driver, self._names)
        except Drop:
            if opening:
                say_now(opening)
            raise
        if self._verbosity >= EVERYTHING:
            say_now(opening + verdict_line(client.number, decision))
        if decision.is_denied:
            return None
        await hold_greeting(decision, peer)
        self._warn_of_queue(decision.additions)
        return SessionEnvironment(self._shared, decision.additions, client.number)

    def _limits_of(self, environ):
        """Return the variables of the limits that this client has been tried by: the server's, and its rule's."""
        limits = self._policy.limits
        return set() if limits is None else limits.names | {name for name in VARIABLES if name in environ}

    def _warn_of_queue(self, additions):
        """Report once that a set-id program that the rules have named since the start has no effect as such."""
        if not self._knows_queue and any(name == _QUEUE for name, _ in additions):
            self._knows_queue = True
            text = "the rules did not set QMAILQUEUE when I was started: a set-id program needs a restart"
            say_now(complaint_line(text))

    def _listener_is_gone(self):
        self._is_last = True
        self._leave_if_last()

    def _leave_if_last(self):
        if self._is_last and not self._sessions:
            self._loop.stop()
