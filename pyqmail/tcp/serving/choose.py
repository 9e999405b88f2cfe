"""Choose the serving mode for the program of a server, and build it.

    the program                                             mode
    one with sessions, ours, alone or behind stages         worker_pool: its sessions run in a few workers
    any other of ours                                       fork_each: a child calls it
    a foreign one, and a client may have to wait before it  fork_each: a child waits, and executes it
    a foreign one                                           spawn_each: the listener starts it

A client has to wait before its program for a name, for its ident server, and for a banner that its empty socket might
not hold.  With --workers 0 no session runs in a worker: the first line is left out.
"""

import gc
import os

from pyqmail.base.shortages import commands, descriptor_command
from pyqmail.system.rlimits import number_in, process_limits, raise_descriptor_limit, raise_process_limit, sysctl_path
from pyqmail.tcp.access.client_names import BlockingNames
from pyqmail.tcp.access.log_lines import ERRORS, complaint_line, say_now
from pyqmail.tcp.serving.fork_each import ForkEach
from pyqmail.tcp.serving.modes import ServedProgram
from pyqmail.tcp.serving.spawn_each import MAX_BANNER_BYTES, SpawnEach
from pyqmail.tcp.serving.spawn_helper import HelperRole
from pyqmail.tcp.serving.stages import SessionChain
from pyqmail.tcp.serving.worker import SessionRole
from pyqmail.tcp.serving.worker_pool import WorkerPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.tcp.access.decide import ConnectionPolicy
    from pyqmail.tcp.listener.server import Server
    from pyqmail.tcp.serving.modes import ServingMode

_SPARE_DESCRIPTORS = 64  # of each worker: log, loop, streams to others


class ServingModes:
    """The serving modes (tcp/serving/modes.py) of a server; choose() returns the one for its program.

    argv         the program and its arguments; searched in the PATH of our own environment
    find_module  find_module(word, path) returns the module of the program of ours that a word means, or None
    load         the registry's
    workers      how many; None: one for each processor; 0: a process for each connection
    """

    def __init__(
        self,
        server: "Server",
        policy: "ConnectionPolicy",
        argv: list[str],
        find_module: "Callable[[str, bytes | None], Any]",
        load: "Callable[[str], Any]",
        workers: int | None,
    ) -> None:
        self._server, self._policy, self._argv = server, policy, argv
        self._find_module, self._load, self._workers = find_module, load, workers
        # EARLYTALKER is ours to say; an empty name cannot be passed on
        environ = {name: value for name, value in os.environb.items() if name not in (b"", b"EARLYTALKER")}
        self._program = ServedProgram(policy, argv, environ.get(b"PATH"), environ)

    def choose(self) -> "ServingMode":
        """Return the serving mode, built and not started."""
        module = self._find_module(self._argv[0], self._program.path)
        if self._workers != 0:
            session_module, asks_dns = self._session_module(module)
            if session_module is not None:
                return self.worker_pool(session_module, asks_dns)
        if module is None and not self._may_wait():
            return self.spawn_each()
        return self.fork_each(module)

    def worker_pool(self, session_module, asks_dns: bool = False) -> WorkerPool:
        """Return workers that run sessions of session_module; asks_dns: whether those ask a resolver themselves."""
        server, count = self._server, self._worker_count()
        descriptors, self._program.give_back = raise_descriptor_limit()
        most = max(1, descriptors - _SPARE_DESCRIPTORS)

        def shortfall(limit):
            if count * most >= limit:
                return ""
            needed = _SPARE_DESCRIPTORS + -(-limit // count)
            command = descriptor_command(needed, number_in(sysctl_path("fs.nr_open")))
            return f"descriptors for {count * most} connections only, of {limit}; to raise it: {command}"

        server.shortfall = shortfall
        server.refuse_descriptors()
        server.count_clients()
        gc.freeze()  # what is here now stays shared with the workers
        resolver = self._load("pyresolve") if asks_dns or self._asks_names() else None
        role = SessionRole(self._program, session_module, server.verbosity, most, resolver)
        return WorkerPool(server, count, role)

    def fork_each(self, module=None) -> ForkEach:
        """Return a mode in which a child becomes the program; module: that of a program of ours, or None."""
        program = self._program
        program.names = self._blocking_names() if self._policy.looks_up else None
        if module is not None:
            program.load = self._load
            for word in self._argv[1:]:
                self._find_module(word, program.path)  # a chain: what follows is loaded when a child comes to it
        self._raise_process_limit(1)
        return ForkEach(self._server, program)

    def spawn_each(self) -> SpawnEach:
        """Return a mode in which the listener starts a foreign program; in a burst helpers start some, too."""
        server, count = self._server, max(0, self._worker_count() - 1)
        self._raise_process_limit(1 + count)
        helpers = WorkerPool(server, count, HelperRole(self._program, server.verbosity))
        return SpawnEach(server, self._program, helpers, count)

    def _session_module(self, module):
        """Return (what has sessions in a worker, whether one of its stages asks DNS).

        The first is a session module, alone or behind stages (tcp/serving/stages.py); None if the program has no
        sessions.
        """
        words, stages = self._argv, []
        while module is not None and "stage" in module.PROGRAM.offers:
            stage, words = module.stage(words)
            if stage is None:
                return None, False
            stages.append(stage)
            module = self._find_module(words[0], self._program.path)
        if module is None or "session" not in module.PROGRAM.offers:
            return None, False
        if not stages:
            return module, False
        return SessionChain(module, words, stages), any(stage.asks for stage in stages)

    def _may_wait(self):
        """Return whether a client may have to wait for more than the delay of --greet-delay before its program."""
        return self._policy.looks_up or len(self._policy.banner) > MAX_BANNER_BYTES

    def _raise_process_limit(self, ours):
        """Raise the limit to a process for each connection; ours: how many processes there are beside those."""

        def shortfall(limit):
            limits = process_limits()
            found = max(0, min(present for _, present in limits) - ours)
            if found >= limit:
                return ""
            return f"processes for {found} connections only, of {limit}; to raise it: {commands(limits, limit + ours)}"

        self._program.give_back = raise_process_limit(self._server.limit + ours)
        self._server.shortfall = shortfall

    def _blocking_names(self):
        from pyqmail.system import resolver

        def complain(text):
            if self._server.verbosity >= ERRORS:
                say_now(complaint_line(text))

        resolver.preload()
        return BlockingNames(resolver, complain)

    def _worker_count(self):
        if self._workers is not None:
            return self._workers
        return max(1, min(len(os.sched_getaffinity(0)), self._server.limit))

    def _asks_names(self):
        return self._policy.looks_up_name or self._policy.local_host is None
