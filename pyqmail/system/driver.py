"""The two drivers of a session: blocking (a process of its own) and event (one of thousands in a process).

A session is a coroutine, made by `session(driver, ...)` for one connection, that returns an exit code.  It reads and
writes through its peer and asks its driver for everything else that waits.  The same session runs over both:

    pysmtpd alone                            a worker of pytcpserver

    drive(session)                           loop.start(session), once for each connection
       |      |                                 |        |
    BlockingDriver   BlockingPeer            EventDriver  EventPeer
       |                |                       |            |
    waitpid, poll    poll, read, write       Loop: one epoll, a line of coroutines, timers, child exits

What is promised to a session, over either driver:

- It cannot tell which driver it has.  Both have one face (Driver here, Peer in system/peer.py), with the same
  exceptions; what one of them cannot do is an exception that any session must expect (CannotFork).
- Between two awaits nothing else of its process runs, so that what it keeps needs no lock.  At an await others may
  run, of the same process too.
- read() and flush() raise TimedOut when timeout_seconds pass without a byte moving, and Gone when the connection
  failed.  flush() is a loop over writes: a client that takes a byte now and then is not timed out.
- put() only gathers.  What was put is sent by flush(), in that order and nothing before it.
- A fault of its own process, such as no room to watch a descriptor, is a failure that is to be reported (Lost, which
  is a Gone), and is charged to this session alone.

What a session owes in return: no call that waits, other than these.  The blocking driver never suspends: drive()
runs such a coroutine to its end in one step, and a session that waits elsewhere is a bug, which drive() reports.
Over the event driver such a call would hold up all the others, and nothing could stop it.

Turns and quanta.  The event driver shares the time out (system/loop.py).  read() waits in line even if bytes are
there, and gives QUANTUM_BYTES of commands, or READ_BYTES of content: obeying commands takes about as long for so many
bytes of them as storing content for the larger number.  Then the session stands in line for more.  flush() stands in
line, too, when the session's turn has lasted too long.  The blocking driver has no line, and always gives READ_BYTES.

What closing means.  The one who opened a connection closes it.  peer(read_fd, write_fd) uses descriptors that stay
the caller's: close() on it ends the watching, and the caller closes them afterwards.  A peer of connect() owns its
socket, and close() closes it.  A session that was given a peer does not close it.  Neither close() sends what was put.

A peer can be wrapped (WrappedPeer): since a peer keeps no input, a session may put another one in front of it
between two reads.  A session program behind stages is given a wrapped one (tcp/serving/stages.py).
"""

import _socket as socket  # without its enums, which a cold start would pay half of its time for
import errno
import os
import select

from pyqmail.system import channel as channels
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.peer import TIMEOUT_SECONDS, BlockingPeer, EventPeer

_IP_BIND_ADDRESS_NO_PORT = 24  # Linux 4.2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, Protocol, TypeVar

    from pyqmail.system.peer import Peer

    Result = TypeVar("Result")

    class Driver(Protocol):
        """What a session may ask of its driver.

        names: in a worker, what asks its resolver (tcp/access/client_names.py); otherwise None
        """

        names: Any

        def peer(self, read_fd: int, write_fd: int, timeout_seconds: float = TIMEOUT_SECONDS) -> Peer:
            """Return a peer that uses these descriptors, which may be the same and stay the caller's."""

        def channel(self, path: str, codec: Any) -> Any:
            """Return an object with `await ask(kind, body, descriptors=(), seconds=None)` (system/channel.py)."""

        async def run(self, argv: Any, environ: Any, descriptors: Any, *more: Any, **named: Any) -> tuple[int, bytes]:
            """Run a program, given as to ProgramRun; returns (wait status, what it wrote on `collect`)."""

        async def run_forked(self, work: Callable[[], int]) -> tuple[int, int]:
            """Run work() in a child; returns (pid, wait status).  Raises CannotFork before anything was done."""

        async def sleep(self, seconds: float) -> None:
            """Return after so many seconds; 0 lets others have their turn."""

        async def connect(self, address: Any, seconds: float, source: str | None = None) -> Peer:
            """Return a peer connected to address, (host, port) or a path.

            source: the address to connect from, text.  Raises OSError, CannotBind if it is the source that cannot be
            used; TimedOut after seconds.
            """


class CannotBind(OSError):
    """The address to connect from is not ours, or of another family."""


class CannotFork(Exception):
    """A child of this process would hold the connections of all its sessions."""


def drive(coroutine: "Coroutine[Any, Any, Result]") -> "Result":
    """Run a coroutine over the blocking driver to its end and return what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    raise RuntimeError("a session over the blocking driver tried to wait")


class BlockingDriver:
    """For one session in a process of its own."""

    names: "Any" = None

    def peer(self, read_fd: int, write_fd: int, timeout_seconds: float = TIMEOUT_SECONDS) -> "Peer":
        return BlockingPeer(read_fd, write_fd, timeout_seconds)

    def channel(self, path: str, codec: "Any") -> "Any":
        return channels.BlockingChannel(path, codec)

    async def run(
        self, argv: "Any", environ: "Any", descriptors: "Any", *more: "Any", **named: "Any"
    ) -> tuple[int, bytes]:
        """Raises OSError if the program cannot be started, or its end could not be seen."""
        from pyqmail.system.run_program import ProgramRun, run_blocking  # few sessions run one

        return run_blocking(ProgramRun(argv, environ, descriptors, *more, **named))

    async def run_forked(self, work: "Callable[[], int]") -> tuple[int, int]:
        from pyqmail.system.processes import fork

        pid = fork(work)
        return pid, os.waitpid(pid, 0)[1]

    async def sleep(self, seconds: float) -> None:
        select.select([], [], [], seconds)

    async def connect(self, address: "Any", seconds: float, source: str | None = None) -> "Peer":
        sock = _socket_for(address, source)
        number = sock.connect_ex(address)
        if number == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            if not poll.poll(seconds * 1000):
                sock.close()
                raise TimedOut
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        _check(sock, number)
        fd = sock.detach()
        return BlockingPeer(fd, fd, is_owner=True)


class EventDriver:
    """For all sessions of one loop.  Channels are shared: one connection for each path.

    give_back(pid), or None: called with every program that run() starts, to give it limits that we have raised for us.
    """

    names: "Any" = None

    def __init__(self, loop: "Any", give_back: "Callable[[int], None] | None" = None) -> None:
        self.loop, self._give_back = loop, give_back
        self._channels: dict[str, Any] = {}

    def peer(self, read_fd: int, write_fd: int, timeout_seconds: float = TIMEOUT_SECONDS) -> "Peer":
        return EventPeer(self.loop, read_fd, write_fd, timeout_seconds)

    def channel(self, path: str, codec: "Any") -> "Any":
        if path not in self._channels:
            self._channels[path] = channels.EventChannel(self.loop, path, codec)
        return self._channels[path]

    async def run(
        self, argv: "Any", environ: "Any", descriptors: "Any", *more: "Any", **named: "Any"
    ) -> tuple[int, bytes]:
        """Raises OSError if the program cannot be started, or was ended again since we could not wait for it."""
        from pyqmail.system.run_program import ProgramRun, run_in_loop

        return await run_in_loop(self.loop, ProgramRun(argv, environ, descriptors, *more, **named), self._give_back)

    async def run_forked(self, work: "Callable[[], int]") -> tuple[int, int]:
        raise CannotFork

    async def sleep(self, seconds: float) -> None:
        await self.loop.sleep(seconds)

    async def connect(self, address: "Any", seconds: float, source: str | None = None) -> "Peer":
        sock = _socket_for(address, source)
        fd = sock.fileno()
        try:
            number = sock.connect_ex(address)
            if number == errno.EINPROGRESS:
                await self.loop.writable(fd, seconds)
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            _check(sock, number)
        except BaseException:
            self.loop.forget(fd)
            sock.close()
            raise
        return EventPeer(self.loop, fd, sock.detach(), is_owner=True)


def _socket_for(address: "Any", source: str | None) -> socket.socket:
    if isinstance(address, (str, bytes)):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    if family != socket.AF_UNIX:
        # the end of a message must not wait for the acknowledgement of what went before
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if source is not None:
        try:
            _bind(sock, source)
        except OSError as error:
            sock.close()
            raise CannotBind(error.errno, error.strerror) from None
    return sock


def _bind(sock, source: str) -> None:
    """Have a socket connect from an address.  Its port is found at connect(): each server leaves all of them free."""
    try:
        socket.inet_pton(sock.family, source)
    except OSError:
        raise OSError(errno.EADDRNOTAVAIL, "not an address of its family") from None  # bind() would ask name servers
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    except OSError:
        pass  # an old kernel: then ports are fewer
    sock.bind((source, 0))


def _check(sock: socket.socket, number: int) -> None:
    # reset: it was connected, and what it said before can still be read
    if number not in (0, errno.ECONNRESET):
        sock.close()
        raise OSError(number, os.strerror(number))


if TYPE_CHECKING:

    def _have_one_face(blocking: BlockingDriver, event: EventDriver) -> tuple[Driver, Driver]:
        return blocking, event
