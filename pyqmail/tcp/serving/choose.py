"""How a program is run for connections: by resident sessions, by a fork of ours, or as a foreign program."""

import os

from pyqmail.system.rlimits import most_processes, raise_descriptor_limit, raise_process_limit

_SPARE_DESCRIPTORS = 64  # of each worker: log, loop, streams to others


class Ways:
    """Chooses the way (tcp/listener/server.py) for a server's program.

    argv      the program and its arguments; searched in the PATH of our own environment
    find      find(word, path) gives the module of the program of ours that a word leads to, or None
    load      the registry's
    workers   None: one process for each processor; 0: a process for each connection
    """

    def __init__(self, server, terms, argv: list[str], find, load, workers: int | None):
        self._server, self._terms, self._argv, self._find, self._load = server, terms, argv, find, load
        self._workers = workers
        # EARLYTALKER is ours to say; an empty name cannot be passed on
        self._environ = {name: value for name, value in os.environb.items() if name not in (b"", b"EARLYTALKER")}
        self._path = self._environ.get(b"PATH")

    def choose(self):
        """Return resident sessions, a fork of ours, or a foreign program: whatever the program allows."""
        from pyqmail.tcp.serving.spawn_each import MAX_BANNER_BYTES

        terms = self._terms
        module = self._find(self._argv[0], self._path)
        if self._workers != 0:
            resident, asks = self._resident(module)
            if resident is not None:
                return self._residents(resident, asks)
        names = None
        if terms.looks_up:
            names = self._blocking_names()
        if module is not None:
            for word in self._argv[1:]:
                self._find(word, self._path)  # a chain: what follows is here too when its turn comes in a child
        if module is not None or terms.looks_up or len(terms.banner) > MAX_BANNER_BYTES:
            self._want_processes(1)
            return self._forking(self._server, module and self._load, names)
        return self._spawning()

    def _resident(self, module):
        """Return what has sessions in a worker, a module or one behind stages (tcp/serving/stages.py), and whether they ask DNS.

        None if nothing has.
        """
        words, stages = self._argv, []
        while module is not None and "stage" in module.PROGRAM.offers:
            stage, words = module.stage(words)
            if stage is None:
                return None, False
            stages.append(stage)
            module = self._find(words[0], self._path)
        if module is None or "session" not in module.PROGRAM.offers:
            return None, False
        if not stages:
            return module, False
        from pyqmail.tcp.serving.stages import Chain

        return Chain(module, words, stages), any(stage.asks for stage in stages)

    def _want_processes(self, ours):
        """See to a process for each connection; ours: how many there are besides."""

        def shortfall(limit):
            found = max(0, most_processes() - ours)
            return f"processes for {found} connections only, of {limit}" if found < limit else ""

        self._give_back = raise_process_limit(self._server.limit + ours)
        self._server.shortfall = shortfall

    def _blocking_names(self):
        from pyqmail.system import resolver
        from pyqmail.tcp.access.client_names import BlockingNames
        from pyqmail.tcp.access.log_lines import ERRORS, complaint_line, say_now

        def complain(text):
            if self._server.verbosity >= ERRORS:
                say_now(complaint_line(text))

        resolver.preload()
        return BlockingNames(resolver, complain)

    def _forking(self, server, load=None, names=None):
        from pyqmail.tcp.serving.fork_each import ForkEach

        return ForkEach(server, self._terms, self._argv, self._path, self._environ, load, names, self._give_back)

    def _spawning(self):
        """Return the way of a foreign program for which nothing is to be waited for."""
        from pyqmail.tcp.serving.spawn_each import SpawnEach

        def way(server, *others):
            return SpawnEach(
                server,
                self._terms,
                self._argv,
                self._path,
                self._environ,
                self._forking(server),
                *others,
                give_back=self._give_back,
            )

        def make_starters():
            from pyqmail.tcp.serving.spawn_helper import SpawnHelper
            from pyqmail.tcp.serving.worker_pool import WorkerPool

            verbosity, most = self._server.verbosity, self._server.limit
            limits = self._terms.limits
            return WorkerPool(
                self._server, count, lambda sock: SpawnHelper(verbosity, way, limits).serve(sock), None, most
            )

        count = max(0, self._count() - 1)
        self._want_processes(1 + count)
        return way(self._server, count, make_starters)

    def _count(self):
        if self._workers is not None:
            return self._workers
        return max(1, min(len(os.sched_getaffinity(0)), self._server.limit))

    def _residents(self, module, asks):
        import gc

        from pyqmail.tcp.serving.worker import serve as serve_sessions
        from pyqmail.tcp.serving.worker_pool import WorkerPool

        server, terms, count = self._server, self._terms, self._count()
        verbosity = server.verbosity
        descriptors, give_back = raise_descriptor_limit()
        most = max(1, descriptors - _SPARE_DESCRIPTORS)

        def shortfall(limit):
            return f"descriptors for {count * most} connections only, of {limit}" if count * most < limit else ""

        server.shortfall = shortfall
        server.guard()
        gc.freeze()  # what is here now stays shared with the workers
        return WorkerPool(
            server,
            count,
            lambda sock: serve_sessions(sock, terms, module, self._argv, self._environ, verbosity, give_back),
            self._resolving() if asks or self._asks_names() else None,
            most,
            self._argv,
        )

    def _asks_names(self):
        return self._terms.looks_up_name or self._terms.local_host is None

    def _resolving(self):
        """Return what a resolver process does with its stream."""
        resolver = self._load("pyresolve")

        def resolve(sock):
            os.dup2(sock.fileno(), 0)
            os.dup2(sock.fileno(), 1)
            sock.close()
            return resolver.main([resolver.PROGRAM.name])

        return resolve
