"""What a serving mode is, what it reports to, and what it runs.

A serving mode decides how the program is run for each connection that the listener has accepted:

    worker_pool   sessions in a few processes that stay, or programs that a few helpers start
    fork_each     a child of the listener for each connection, which becomes the program
    spawn_each    a program for each connection, started by the listener itself; helpers share a burst

The rules that each of them keeps, and that tests/tcp/serving/test_modes.py tries on all of them:

    A connection that serve_connection() was given is the mode's: it closes our copy of the socket.
    It is registered once, under a number that no other connection has, and ends once: by end_connection(), by
    uncount() if it never was a process or a session, or by could_not_start() if no process could be had.
    A child that is lost ends the connections that it had, and no others.
    has_room False holds back accept; nothing else does.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any, Protocol

    from pyqmail.system.loop import Loop
    from pyqmail.tcp.access.client_names import BlockingNames
    from pyqmail.tcp.access.connection import Connection
    from pyqmail.tcp.access.decide import ConnectionPolicy

    class ServingMode(Protocol):
        """What the listener (tcp/listener/server.py) calls; at most one of them is told of a connection."""

        name: str  # in the status: `worker pool`, `fork each` or `spawn each`

        @property
        def has_room(self) -> bool:
            """Whether one more connection can be served."""

        def start(self) -> None:
            """Start what is needed before the first connection."""

        def serve_connection(self, sock: socket.socket, client: Connection) -> None:
            """Take over a connection, which the caller has counted."""

        def hand_over_batch(self) -> None:
            """Hand on what serve_connection() has held back; called after each batch of connections."""

        def child_ended(self, pid: int, wait_status: int) -> None:
            """A child of this process has ended, perhaps one of another part."""

        def close_in_child(self) -> None:
            """In a forked child: close what only the parent goes on with."""

        def hand_over_last(self) -> None:
            """No connection will come any more, and the listener ends: hand on what is still held."""

        def signal_all(self, number: int) -> None:
            """Send a signal to each process that serves a connection."""

        def announce(self, frame: bytes) -> None:
            """Send a frame (protocol/wires/handover_wire.py) to each worker; a mode without workers has none."""

        def workers(self) -> list[tuple[int, int]]:
            """Return (pid, connections) of each worker."""

        def limited_clients(self) -> list[tuple[str, str, int, int]]:
            """Return (client, limit, times, nanoseconds since the last) of those that were refused lately."""

    class ConnectionRegistry(Protocol):
        """What a serving mode reports to: the listener, or in a helper what stands for it (spawn_helper.py)."""

        verbosity: int

        def number_for(self, client: Connection) -> int:
            """Return a number for a connection that has no process of its own."""

        def register(self, number: int, client: Connection) -> None:
            """A connection is served under this number from now on."""

        def end_connection(self, number: int, wait_status: int) -> None:
            """The connection has ended."""

        def could_not_start(self, client: Connection, error: OSError) -> None:
            """A connection that is not registered has no process: it is dropped."""

        def close_in_child(self) -> None:
            """In a forked child: close what only the parent goes on with, the serving mode's own things included."""

        def say(self, line: bytes) -> None: ...
        def warn(self, text: str) -> None: ...
        def flush(self) -> None: ...

    class PoolRegistry(Protocol):
        """What a worker pool reports to: the listener alone."""

        loop: Loop
        clients: dict[int, Connection]
        is_ending: bool

        def number_for(self, client: Connection) -> int: ...
        def register(self, number: int, client: Connection) -> None: ...
        def end_connection(self, number: int, wait_status: int, shown: int | None = None) -> None: ...
        def close_in_child(self) -> None: ...
        def flush(self) -> None: ...

        def uncount(self, number: int) -> None:
            """A registered connection turned out never to have been a process or a session."""

        def adjust_accepting(self) -> None:
            """Room may have come or gone."""

    class WorkerRole(Protocol):
        """What the workers of a pool do."""

        @property
        def max_sessions(self) -> int:
            """How many sessions one worker can hold."""

        @property
        def words(self) -> list[str] | None:
            """The words that ps shows for a worker; None: those of the listener."""

        @property
        def resolve(self) -> Callable[[socket.socket], int] | None:
            """In a child: answer questions on the socket until it ends, and return the exit code; None: no resolver."""

        def serve(self, sock: socket.socket) -> int:
            """In a child: serve the connections that come on sock until it ends.  Returns the exit code."""


class ServedProgram:
    """What runs for each connection, the same for all of them.

    policy     ConnectionPolicy (tcp/access/decide.py)
    argv       the program and its arguments
    path       the PATH in which it is searched
    environ    the environment of the server, without what is not passed on
    load       the registry's, if the program is one of ours that a child calls; None: the child executes it
    names      BlockingNames, or None if no name is looked up
    give_back  give_back(pid) gives a process, 0 for the caller, the limits that the server has raised for itself;
               None: none were raised
    """

    def __init__(
        self,
        policy: "ConnectionPolicy",
        argv: list[str],
        path: bytes | None,
        environ: dict[bytes, bytes],
        load: "Callable[[str], Any] | None" = None,
        names: "BlockingNames | None" = None,
        give_back: "Callable[[int], None] | None" = None,
    ) -> None:
        self.policy, self.argv, self.path, self.environ = policy, argv, path, environ
        self.load, self.names, self.give_back = load, names, give_back
