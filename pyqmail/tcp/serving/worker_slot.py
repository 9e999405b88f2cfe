"""A worker as the listener knows it: the stream to it, its sessions, and what waits to be sent.  See worker_pool.py."""

import array
import collections
import socket
import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_hang_up
from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.coroutines import NOTHING, READ, WRITE
from pyqmail.system.stream import Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.system.loop import Loop
    from pyqmail.tcp.access.connection import Connection

_FIRST_PAUSE_SECONDS = 1.0  # before a worker or a resolver is replaced
_MAX_PAUSE_SECONDS = 1.0  # before the stream is tried again: a client may wait for it
_PIECE_BYTES = 65536
_LAST_SECONDS = 1.0  # with a worker that does not take what is still here


class WorkerSlot:
    """A place for one worker; it outlives the worker.

    pid             of the worker; None: there is none
    sock, out       our end of the stream, and what goes out there; None: there is no worker
    sessions        the numbers of its connections, those in the queue included
    queue           (frame, what its descriptor is of: a connection, a stream to a resolver, or None), not sent yet
    on_way          how many connections it has not confirmed by TAKEN, those in the queue included
    unanswered      how many pings it has not answered
    since, pause    when it was started, in seconds of time.monotonic(); the pause before its successor is
    resolver        the pid of its resolver; None: there is none; resolver_since, resolver_pause likewise
    """

    __slots__ = (
        *("pid", "sock", "out", "sessions", "queue", "on_way", "unanswered", "since", "pause"),
        *("resolver", "resolver_since", "resolver_pause"),
        *("_loop", "_ready", "_unpacker", "_reading", "_is_reading"),
    )

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self.pid: int | None = None
        self.sock: Any = None  # a socket
        self.out: Any = None  # an Outgoing
        self.sessions: set[int] = set()
        self.queue: collections.deque[tuple[bytes, socket.socket | None]] = collections.deque()
        self.on_way = self.unanswered = 0
        self.since, self.pause = 0.0, Backoff(_FIRST_PAUSE_SECONDS)
        self.resolver: int | None = None
        self.resolver_since, self.resolver_pause = 0.0, Backoff(_FIRST_PAUSE_SECONDS)
        self._reading, self._is_reading = Backoff(max_seconds=_MAX_PAUSE_SECONDS), True

    def can_take(self, max_sessions: int) -> bool:
        """Return whether one more connection can be given to the worker."""
        return self.pid is not None and self.on_way < wire.IN_FLIGHT and len(self.sessions) < max_sessions

    def queue_connection(self, number: int, client: "Connection", sock: socket.socket) -> None:
        """Queue a connection; the caller sends it with others."""
        self.sessions.add(number)
        self.on_way += 1
        self.queue.append((wire.connection(number, client.texts()), sock))

    def send_frame(self, frame: bytes) -> None:
        """Send a frame without a descriptor, after what is queued."""
        self.queue.append((frame, None))
        self.send()

    def send_resolver(self, sock: socket.socket) -> None:
        """Send the worker the stream to its resolver before all that is queued: connections may need it."""
        self.queue.appendleft((wire.pack(wire.RESOLVER, 0), sock))
        self.send()

    def send(self) -> None:
        """Send what is queued, unless the stream is known to take nothing now."""
        if self.out is not None:
            self.out.write()

    def send_last(self) -> None:
        """Wait a moment for the stream to take what is queued: the listener ends."""
        if self.sock is not None and self.queue:
            self.sock.settimeout(_LAST_SECONDS)
            self.out.ready()

    def open_stream(self, pid: int, sock: socket.socket, ready: "Callable[[WorkerSlot, int], None]") -> None:
        """Use sock as the stream to a worker that has just been started.  ready(slot, events) is called for it."""
        sock.setblocking(False)
        self.pid, self.sock, self.since, self._ready = pid, sock, time.monotonic(), ready
        self._unpacker, self.unanswered, self._is_reading = wire.Unpacker(), 0, True
        self.out = Outgoing(
            self._loop,
            self._send_batch,
            lambda _: self._watch(),
            lambda: None,  # the worker has ended: it will be reaped
            max_seconds=_MAX_PAUSE_SECONDS,
        )
        self._watch()

    def receive(self, heard: "Callable[[WorkerSlot, int, int, bytes], None]") -> bool:
        """Call heard(slot, kind, number, body) for all that the worker has sent.

        Returns False once no more can come.  Raises MalformedFrame.
        """
        try:
            while True:
                data = self.sock.recv(_PIECE_BYTES)
                self._reading.reset()
                for kind, number, body in self._unpacker.receive(data):
                    heard(self, kind, number, body)
                if len(data) < _PIECE_BYTES:
                    return bool(data)
        except BlockingIOError:
            return True
        except OSError as error:
            if is_hang_up(error) or self.pid is None:
                return False
            self._read_later()
            return True

    def stop_reading(self) -> None:
        """Watch the stream no more: the worker is ending."""
        self._loop.forget(self.sock.fileno())

    def close_stream(self) -> list[int]:
        """The worker has ended: close the stream, and keep the connections that were never sent.

        Returns the numbers of its other sessions, sorted.
        """
        self.sock.close()
        self.sock = self.out = self.resolver = None  # the resolver ends with the stream between the two
        kept = [entry for entry in self.queue if entry[0][5] == wire.CONNECTION]
        for frame, sock in self.queue:
            if sock is not None and frame[5] != wire.CONNECTION:
                sock.close()
        unsent = {int.from_bytes(frame[6:10], "big") for frame, _ in kept}
        lost = sorted(self.sessions - unsent)
        self.sessions, self.queue, self.on_way = unsent, collections.deque(kept), len(kept)
        return lost

    def drop_unsent(self) -> set[int]:
        """Close the connections that are queued; return their numbers."""
        dropped = self.sessions
        self.close_queue()
        self.sessions, self.queue, self.on_way = set(), collections.deque(), 0
        return dropped

    def close_queue(self) -> None:
        """Close our copies of what is queued."""
        for _, sock in self.queue:
            if sock is not None:
                sock.close()

    def _send_batch(self):
        """Send the front of the queue in one message; return whether more is queued.  Raises OSError."""
        queue = self.queue
        if not queue:
            return False
        batch = [queue[index] for index in range(min(wire.BATCH, len(queue)))]
        data = b"".join(frame for frame, _ in batch)
        descriptors = array.array("i", [sock.fileno() for _, sock in batch if sock is not None])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
        self.sock.sendmsg([data], rights)  # one message of a few thousand bytes: it goes whole or not at all
        for _, sock in batch:
            queue.popleft()
            if sock is not None:
                sock.close()
        return bool(queue)

    def _watch(self):
        events = (READ if self._is_reading else NOTHING) | (WRITE if self.out.is_waiting else NOTHING)
        if events:
            self._loop.watch_surely(self.sock.fileno(), events, lambda events: self._ready(self, events))
        else:
            self._loop.forget(self.sock.fileno())

    def _read_later(self):
        """Read nothing for a moment: what the kernel lacks is not asked for again and again."""
        out, self._is_reading = self.out, False
        self._watch()

        def read_again():
            if self.out is out:  # not another worker's by now
                self._is_reading = True
                self._watch()

        self._loop.after(self._reading.next_seconds(), read_again)
