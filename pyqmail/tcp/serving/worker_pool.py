"""Sessions in a few workers that stay: the listener's side of the hand-over (protocol/wires/handover_wire.py).

A seat outlives its worker.  What is queued in it has not been sent, so the worker knows nothing of it: when that ends,
its successor gets it.  What was sent is the worker's, and its sessions end with it.  A connection counts as on its way
until the worker says that it took it; a worker has no more than IN_FLIGHT of those, so that a stuck one keeps few.

A worker that has answered none of PINGS_UNANSWERED pings is stuck, and killed.  One that ended within _SOON_SECONDS is
replaced after a pause: it would end again.  Each worker has a resolver of its own, which ends with it.  One that ends
before is replaced after 1, 2, 4 ... seconds, ten at most; meanwhile a client is dropped if rules may ask for its name.

An error of the stream that is no hang-up (no memory, too many descriptors on their way) is no end: it is tried again
after a pause, and the queue waits (system/stream.py).
"""

import array
import collections
import os
import signal
import socket
import time

from pyqmail.base.backoff import Backoff
from pyqmail.base.failure import is_hang_up, reason
from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.loop import NOTHING, READ, WRITE
from pyqmail.system.processes import fork
from pyqmail.system.stream import Outgoing
from pyqmail.tcp.access.log_lines import complaint_line, log_is_full, say_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.tcp.serving.modes import PoolRegistry, WorkerRole

PING_SECONDS = 5.0
PINGS_UNANSWERED = 6  # a worker silent for so many is stuck
_SOON_SECONDS = 1.0  # one that ended sooner is not replaced at once
_LONG_SECONDS = 60.0  # a resolver that lasted so long is replaced as soon as the first time
_MAX_SECONDS = 1.0  # the longest pause before a worker is sent or asked something again: a client may wait for it
_PIECE = 65536
_LAST_SECONDS = 1.0  # with a worker that does not take what is still here


class WorkerSlot:
    """One worker as the listener knows it: its process, the stream to it, its sessions, and what waits to be sent.

    queue holds (frame, connection) or (frame, None).  on_way counts connections it has not taken yet, the
    queued ones included.
    """

    __slots__ = ("pid", "sock", "out", "sessions", "queue", "on_way", "unpacker", "unanswered", "since")
    __slots__ += ("resolver", "resolver_since", "resolver_pause", "pause", "reading", "is_reading")

    def __init__(self):
        self.pid = self.sock = self.out = self.resolver = None
        self.sessions, self.queue = set(), collections.deque()
        self.resolver_since, self.resolver_pause = 0.0, Backoff(_SOON_SECONDS)
        self.pause = Backoff(_SOON_SECONDS)  # until the next worker
        self.reading, self.is_reading = Backoff(max_seconds=_MAX_SECONDS), True
        self.on_way = self.unanswered = 0
        self.unpacker, self.since = wire.Unpacker(), time.monotonic()


class WorkerPool:
    """The serving mode (tcp/serving/modes.py) of count workers; role is what each of them does."""

    name = "worker pool"

    def __init__(self, server: "PoolRegistry", count: int, role: "WorkerRole") -> None:
        self._server, self._role, self._pings = server, role, 0
        self._seats = [WorkerSlot() for _ in range(count)]
        self._resolvers: dict[int, WorkerSlot] = {}

    def start(self) -> None:
        for seat in self._seats:
            self._begin(seat)
        self._server.loop.after(PING_SECONDS, self._beat)

    @property
    def has_room(self) -> bool:
        return any(map(self._can_take, self._seats))

    def workers(self) -> list[tuple[int, int]]:
        """Return (pid, sessions) of each worker there is."""
        return [(seat.pid, len(seat.sessions)) for seat in self._seats if seat.pid is not None]

    def announce(self, frame: bytes) -> None:
        """Send a frame to every worker; one that is still to be started knows already what it says."""
        for seat in self._seats:
            if seat.pid is not None:
                self._queue(seat, frame)

    def serve_connection(self, sock, client) -> None:
        number = self._server.number_for(client)
        self._server.register(number, client)
        seats = filter(self._can_take, self._seats)
        # one that does not answer is stuck or about to be killed: others first
        seat = min(seats, key=lambda seat: (seat.unanswered > 1, len(seat.sessions)))
        seat.sessions.add(number)
        seat.on_way += 1
        seat.queue.append((wire.connection(number, client.texts()), sock))

    def hand_over_batch(self) -> None:
        self._server.flush()  # the status line comes before the worker's
        for seat in self._seats:
            if seat.queue and seat.out is not None:
                seat.out.write()

    def child_ended(self, pid: int, wait_status: int) -> None:
        seat = next((seat for seat in self._seats if seat.pid == pid), None)
        if seat is not None:
            self._lost(seat, wait_status)
        elif pid in self._resolvers:
            seat = self._resolvers.pop(pid)
            if seat.resolver == pid:
                seat.resolver = None
                if time.monotonic() - seat.resolver_since > _LONG_SECONDS:
                    seat.resolver_pause.reset()
                self._server.loop.after(seat.resolver_pause.next_seconds(), lambda: self._begin_resolver(seat))

    def close_in_child(self) -> None:
        for seat in self._seats:
            if seat.sock is not None:
                seat.sock.close()
            for _, sock in seat.queue:
                if sock is not None:
                    sock.close()

    def hand_over_last(self) -> None:
        """Hand over what is still here, within reason; the workers finish once the stream ends."""
        for seat in self._seats:
            if seat.sock is not None and seat.queue:
                seat.sock.settimeout(_LAST_SECONDS)
                seat.out.ready()

    def signal_all(self, number: int) -> None:
        for pid, _ in self.workers():
            os.kill(pid, number)

    def _can_take(self, seat):
        return seat.pid is not None and seat.on_way < wire.IN_FLIGHT and len(seat.sessions) < self._role.max_sessions

    def _begin(self, seat):
        """Start a worker for a seat that has none; what is queued there goes to it."""
        if self._server.is_ending and not seat.queue:
            return
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._begin_later(seat, "unable to create socket", error)
            return
        ours.setblocking(False)

        def work():
            self._server.close_in_child()
            ours.close()
            return self._role.serve(theirs)

        self._server.flush()
        try:
            seat.pid = fork(work, self._role.words)
        except OSError as error:
            ours.close()
            theirs.close()
            self._begin_later(seat, "unable to fork", error)
            return
        theirs.close()
        self._use_stream(seat, ours)
        self._begin_resolver(seat)
        seat.out.write()
        self._server.adjust_accepting()

    def _use_stream(self, seat, sock):
        """Begin to talk over sock with the worker that has just been started."""
        seat.sock, seat.since = sock, time.monotonic()
        seat.unpacker, seat.unanswered, seat.is_reading = wire.Unpacker(), 0, True
        seat.out = Outgoing(
            self._server.loop,
            lambda: _send_some(seat),
            lambda _: self._watch(seat),
            lambda: None,  # it has ended: child_ended() comes
            max_seconds=_MAX_SECONDS,
        )
        self._watch(seat)

    def _begin_later(self, seat, text, error, begin=None):
        say_now(complaint_line(f"{text}: {reason(error)}"))
        work, pause = begin or self._begin, seat.resolver_pause if begin else seat.pause
        self._server.loop.after(pause.next_seconds(), lambda: work(seat))

    def _begin_resolver(self, seat):
        resolve = self._role.resolve
        if resolve is None or seat.pid is None or seat.resolver is not None:
            return
        try:
            for_worker, for_resolver = socket.socketpair()
        except OSError as error:
            self._begin_later(seat, "unable to create socket", error, self._begin_resolver)
            return

        def work():
            self._server.close_in_child()
            for_worker.close()
            return resolve(for_resolver)

        try:
            seat.resolver, seat.resolver_since = fork(work, ["pyresolve"]), time.monotonic()
            self._resolvers[seat.resolver] = seat
        except OSError as error:
            for_worker.close()
            self._begin_later(seat, "unable to fork", error, self._begin_resolver)
            return
        finally:
            for_resolver.close()
        seat.queue.appendleft((wire.pack(wire.RESOLVER, 0), for_worker))
        seat.out.write()

    def _lost(self, seat, status):
        """End all sessions the worker had; keep those it was never sent for its successor."""
        server, seat.pid = self._server, None  # the number may be another's from now on
        seat.out.close()
        server.loop.forget(seat.sock.fileno())
        self._receive(seat)  # what it said before it ended counts
        seat.sock.close()
        kept = [(frame, sock) for frame, sock in seat.queue if sock is not None and frame[5] == wire.CONNECTION]
        for frame, sock in seat.queue:
            if sock is not None and frame[5] != wire.CONNECTION:
                sock.close()
        waiting = {int.from_bytes(frame[6:10], "big") for frame, _ in kept}
        for number in sorted(seat.sessions - waiting):
            server.end_connection(number, status)
        seat.sessions, seat.queue, seat.on_way = waiting, collections.deque(kept), len(kept)
        seat.sock = seat.out = seat.resolver = None  # its resolver ends with the stream between them
        if server.is_ending:
            self._give_up(seat)
        elif time.monotonic() - seat.since < _SOON_SECONDS:
            server.loop.after(seat.pause.next_seconds(), lambda: self._begin(seat))
        else:
            seat.pause.reset()
            self._begin(seat)

    def _give_up(self, seat):
        """There will be no other worker for what waits here."""
        for _, sock in seat.queue:
            sock.close()
        for number in seat.sessions:
            self._server.uncount(number)
        seat.sessions, seat.queue, seat.on_way = set(), collections.deque(), 0

    def _ready(self, seat, events):
        if events & READ and not self._receive(seat):
            self._server.loop.forget(seat.sock.fileno())  # it is ending: child_ended() does the rest
            events = READ
        if events & WRITE and seat.out is not None:
            seat.out.ready()
        self._server.flush()
        self._server.adjust_accepting()

    def _receive(self, seat):
        """Take all that has come from a worker.  Returns False when no more can come, or what came makes no sense."""
        try:
            while True:
                data = seat.sock.recv(_PIECE)
                seat.reading.reset()
                for kind, number, body in seat.unpacker.receive(data):
                    self._heard(seat, kind, number, body)
                if len(data) < _PIECE:
                    return bool(data)
        except BlockingIOError:
            return True
        except OSError as error:
            if is_hang_up(error) or seat.pid is None:
                return False
            self._read_later(seat)
            return True
        except wire.MalformedFrame:
            _kill(seat)
            return False

    def _heard(self, seat, kind, number, body):
        if kind == wire.END:
            exit_code = wire.split_end(body)
            if number not in seat.sessions:
                raise wire.MalformedFrame("not a session of this worker")
            seat.sessions.discard(number)
            self._server.end_connection(number, exit_code << 8)
        elif kind == wire.ENDED:
            pid, wait_status = wire.split_ended(body)
            if number not in seat.sessions:
                raise wire.MalformedFrame("not a session of this worker")
            seat.sessions.discard(number)
            if pid:
                self._server.end_connection(number, wait_status, pid)
            else:
                self._server.uncount(number)
        elif kind == wire.STARTED:
            if number not in seat.sessions:
                raise wire.MalformedFrame("not a session of this worker")
            self._server.clients[number].number = wire.split_started(body)
        elif kind == wire.TAKEN:
            seat.on_way = max(0, seat.on_way - number)
        elif kind == wire.PONG:
            seat.unanswered = 0
        else:
            raise wire.MalformedFrame("not a word of a worker's")

    def _watch(self, seat):
        events = (READ if seat.is_reading else NOTHING) | (WRITE if seat.out.is_waiting else NOTHING)
        if events:
            self._server.loop.watch_surely(seat.sock.fileno(), events, lambda events: self._ready(seat, events))
        else:
            self._server.loop.forget(seat.sock.fileno())

    def _read_later(self, seat):
        """Read nothing from a worker for a moment: what the kernel lacks is not asked for again and again."""
        out, seat.is_reading = seat.out, False
        self._watch(seat)

        def read_again():
            if seat.out is out:  # not another worker's by now
                seat.is_reading = True
                self._watch(seat)

        self._server.loop.after(seat.reading.next_seconds(), read_again)

    def _beat(self):
        self._server.loop.after(PING_SECONDS, self._beat)
        self._pings += 1
        for seat in self._seats:
            if seat.pid is None or log_is_full():
                continue  # who waits for the log is not stuck
            if seat.unanswered >= PINGS_UNANSWERED:
                _kill(seat)
                continue
            seat.unanswered += 1
            self._queue(seat, wire.pack(wire.PING, self._pings & 0xFFFFFFFF))

    def _queue(self, seat, frame):
        seat.queue.append((frame, None))
        seat.out.write()


def _send_some(seat):
    """Send the front of a seat's queue in one message; returns whether more is queued.  Raises OSError."""
    queue = seat.queue
    if not queue:
        return False
    batch = [queue[index] for index in range(min(wire.BATCH, len(queue)))]
    data = b"".join(frame for frame, _ in batch)
    descriptors = array.array("i", [sock.fileno() for _, sock in batch if sock is not None])
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else []
    seat.sock.sendmsg([data], rights)  # one message of a few thousand bytes: it goes whole or not at all
    for _, sock in batch:
        queue.popleft()
        if sock is not None:
            sock.close()
    return bool(queue)


def _kill(seat):
    """Make an end of a worker that is stuck or babbles; child_ended() does the rest."""
    if seat.pid is not None:
        os.kill(seat.pid, signal.SIGKILL)
