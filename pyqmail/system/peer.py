"""The other end of a session's connection, over either driver (system/driver.py has what is promised).

Both kinds keep no input: what was not read is still in the kernel, so that a peer can be wrapped in another one at
any moment between two reads.
"""

import os
import select
import time

from pyqmail.base.failure import Temporary
from pyqmail.system.channel import Gone
from pyqmail.system.coroutines import TimedOut
from pyqmail.system.polling import is_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Peer(Protocol):
        """What a session may ask of a peer.

        timeout_seconds   how long read() and flush() wait for a byte to move
        flush_seconds     how long flush() takes at most; None: as long as some of it moves
        pause_seconds     how long read() waits before it reads, 0 not at all; for a client that only keeps us busy
        is_bulk           True while content comes, which costs little for each byte; False while commands come
        client_meter      in a worker, what counts this client over all of them (tcp/serving/client_meter.py); otherwise
                          None
        """

        timeout_seconds: float
        flush_seconds: float | None
        pause_seconds: float
        is_bulk: bool
        client_meter: Any

        def put(self, data: bytes) -> None:
            """Add data to what flush() sends."""

        async def flush(self) -> None:
            """Send all that was put.  Raises TimedOut, Gone."""

        async def read(self) -> bytes:
            """Return what comes next, b"" at the end.  Raises TimedOut, Gone."""

        def has_input(self) -> bool:
            """Return whether read() would return at once."""

        async def has_input_within(self, seconds: float) -> bool:
            """Return whether read() returns at once within so many seconds."""

        def close(self) -> None:
            """End the use of the connection; may be called again."""

        def fileno(self) -> int:
            """Return the descriptor that is read."""


READ_BYTES = 65536
QUANTUM_BYTES = 4096
TIMEOUT_SECONDS = 1200.0  # where nothing else is set
_NEVER = float("inf")


class Lost(Gone, Temporary):
    """The connection is lost to us since the kernel has no room to watch it."""

    def __init__(self, error: OSError) -> None:
        super().__init__("unable to watch connection", error)


class BlockingPeer:
    """Reads one descriptor and writes another, which may be the same; waits in the kernel, never suspends.

    is_owner: close() closes them.
    """

    is_bulk: bool = False  # the two are all the same here: no other session waits
    pause_seconds: float = 0
    flush_seconds: float | None = None
    client_meter: "Any" = None

    def __init__(
        self,
        read_fd: int = 0,
        write_fd: int = 1,
        timeout_seconds: float = TIMEOUT_SECONDS,
        is_owner: bool = False,
    ) -> None:
        self._read_fd, self._write_fd, self.timeout_seconds = read_fd, write_fd, timeout_seconds
        self._pieces: list[bytes] = []
        self._is_owner = is_owner

    def put(self, data: bytes) -> None:
        self._pieces.append(data)

    async def flush(self) -> None:
        data, self._pieces = memoryview(b"".join(self._pieces)), []
        until = _end_of(self.flush_seconds)
        while data:
            self._wait(self._write_fd, select.POLLOUT, until)
            try:
                data = data[os.write(self._write_fd, data[:READ_BYTES]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone(str(error)) from None

    async def read(self) -> bytes:
        while True:
            self._wait(self._read_fd, select.POLLIN)
            try:
                return os.read(self._read_fd, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone(str(error)) from None

    def has_input(self) -> bool:
        return is_readable(self._read_fd)

    async def has_input_within(self, seconds: float) -> bool:
        return is_readable(self._read_fd, seconds)

    def close(self) -> None:
        if self._is_owner:
            self._is_owner = False
            _close_both(self._read_fd, self._write_fd)

    def fileno(self) -> int:
        return self._read_fd

    def _wait(self, fd: int, events: int, until: float = _NEVER) -> None:
        poll = select.poll()
        poll.register(fd, events)
        if not poll.poll(_wait_seconds(self.timeout_seconds, until) * 1000):
            raise TimedOut


class EventPeer:
    """One of thousands in a loop: suspends its session where the kernel would make it wait.

    The descriptors, which may be the same, become non-blocking.  is_owner: close() closes them.
    """

    __slots__ = (
        *("timeout_seconds", "flush_seconds", "is_bulk", "pause_seconds", "client_meter"),
        *("_loop", "_read_fd", "_write_fd", "_pieces", "_is_open", "_is_owner"),
    )

    def __init__(
        self,
        loop: "Any",
        read_fd: int,
        write_fd: int,
        timeout_seconds: float = TIMEOUT_SECONDS,
        is_owner: bool = False,
    ) -> None:
        self._loop, self._read_fd, self._write_fd = loop, read_fd, write_fd
        self.timeout_seconds, self.is_bulk = timeout_seconds, False
        self.flush_seconds: float | None = None
        self.pause_seconds: float = 0
        self.client_meter: Any = None
        self._pieces: list[bytes] = []
        self._is_open, self._is_owner = True, is_owner
        os.set_blocking(read_fd, False)
        if write_fd != read_fd:
            os.set_blocking(write_fd, False)

    def put(self, data: bytes) -> None:
        self._pieces.append(data)

    async def flush(self) -> None:
        if not self._pieces:
            return
        data: bytes | memoryview = b"".join(self._pieces)
        self._pieces.clear()
        until: float | None = None
        while True:
            sent = self._write(data)
            if sent == len(data):
                break
            data = memoryview(data)[sent:]
            until = _end_of(self.flush_seconds) if until is None else until
            try:
                await self._loop.writable(self._write_fd, _wait_seconds(self.timeout_seconds, until))
            except OSError as error:
                raise Lost(error) from None
        if self._loop.turn_is_over():
            await self._loop.give_way()

    def _write(self, data: bytes | memoryview) -> int:
        """Return how many bytes the kernel took."""
        try:
            return os.write(self._write_fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Gone(str(error)) from None

    async def read(self) -> bytes:
        if self.pause_seconds:
            await self._loop.sleep(self.pause_seconds)
        while True:
            try:
                await self._loop.readable(self._read_fd, self.timeout_seconds)
            except OSError as error:
                raise Lost(error) from None
            try:
                return os.read(self._read_fd, READ_BYTES if self.is_bulk else QUANTUM_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone(str(error)) from None

    def has_input(self) -> bool:
        return is_readable(self._read_fd)

    async def has_input_within(self, seconds: float) -> bool:
        try:
            await self._loop.readable(self._read_fd, seconds)
        except TimedOut:
            return False
        except OSError as error:
            raise Lost(error) from None
        return True

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        for fd in {self._read_fd, self._write_fd}:
            self._loop.forget(fd)
        if self._is_owner:
            _close_both(self._read_fd, self._write_fd)

    def fileno(self) -> int:
        return self._read_fd


class WrappedPeer:
    """A peer in front of another one: a kind of its own changes what it is about, all else is the inner peer's.

    One that holds input back, as TLS does, must answer has_input() and has_input_within() for that, too.
    """

    __slots__ = ("_peer",)

    def __init__(self, peer: "Peer") -> None:
        self._peer = peer

    def put(self, data: bytes) -> None:
        self._peer.put(data)

    async def flush(self) -> None:
        await self._peer.flush()

    async def read(self) -> bytes:
        return await self._peer.read()

    def has_input(self) -> bool:
        return self._peer.has_input()

    async def has_input_within(self, seconds: float) -> bool:
        return await self._peer.has_input_within(seconds)

    def close(self) -> None:
        self._peer.close()

    def fileno(self) -> int:
        return self._peer.fileno()

    @property
    def timeout_seconds(self) -> float:
        return self._peer.timeout_seconds

    @timeout_seconds.setter
    def timeout_seconds(self, seconds: float) -> None:
        self._peer.timeout_seconds = seconds

    @property
    def flush_seconds(self) -> float | None:
        return self._peer.flush_seconds

    @flush_seconds.setter
    def flush_seconds(self, seconds: float | None) -> None:
        self._peer.flush_seconds = seconds

    @property
    def pause_seconds(self) -> float:
        return self._peer.pause_seconds

    @pause_seconds.setter
    def pause_seconds(self, seconds: float) -> None:
        self._peer.pause_seconds = seconds

    @property
    def is_bulk(self) -> bool:
        return self._peer.is_bulk

    @is_bulk.setter
    def is_bulk(self, is_bulk: bool) -> None:
        self._peer.is_bulk = is_bulk

    @property
    def client_meter(self) -> "Any":
        return self._peer.client_meter

    @client_meter.setter
    def client_meter(self, meter: "Any") -> None:
        self._peer.client_meter = meter


def _end_of(seconds: float | None) -> float:
    """Return when something that begins now and may take so many seconds is over, of time.monotonic()."""
    return _NEVER if seconds is None else time.monotonic() + seconds


def _wait_seconds(seconds: float, until: float) -> float:
    """Return how long to wait where seconds are the maximum, and `until` is the end."""
    return seconds if until == _NEVER else max(0.0, min(seconds, until - time.monotonic()))


def _close_both(read_fd: int, write_fd: int) -> None:
    for fd in {read_fd, write_fd}:
        os.close(fd)
