"""A few workers that stay, each with many sessions: the listener's side of the hand-over.

The other side is worker.py, or spawn_helper.py; the wire between them is protocol/wires/handover_wire.py.  The pool has
a fixed number of slots (worker_slot.py).  A slot outlives its worker, since it holds what no worker has yet:

             fork                       the worker is reaped
    EMPTY ---------> RUNNING -----------------------------------------+
      ^                                                               |
      +---------------------------------------------------------------+
        its successor: at once if the worker lived _SOON_SECONDS; otherwise, or if no socket or no process can be had,
        after a growing pause

What is kept true

1. From serve_connection() to its end the number of a connection is in `sessions` of exactly one slot, and in
   `server.clients`.  So the limit, the status and the log agree, whatever dies.
2. What is in the `queue` of a slot has not been sent: the worker knows nothing of it.  What was sent is not in the
   queue.  The kernel takes a message whole or not at all, so nothing is in between.

Who owns the descriptor of a connection

    in the queue            the listener alone
    sendmsg() succeeded     the message in the kernel; the listener closes its copy at once
    recvmsg() in worker     the worker: a session, or the program that a helper starts
    the worker dies         nobody: the kernel closes it, even if the message was never read; the client sees the end

When a session counts as ended

Its worker says so (END, or ENDED from a helper), or the worker is reaped.  All that the worker wrote before its death
is read first; a session without an END then ends with the wait status of the worker.  A hang-up of the stream ends no
session: it only means that a wait status will come.  END means that the worker has closed the connection.

What clients may do over time

A session asks (ASK) before each thing that a limit of its client counts, and waits; the listener counts for all workers
(tcp/access/client_events.py), and answers when it has heard all that came with the question.  So no limit is passed by
two workers at once.  What a worker has been granted stays counted when it ends.  A session that is not limited asks
nothing.  An answer for each session at most is on its way, since each waits for its own.

What a crash costs

The sessions that were sent to that worker, and no others: 1/count of them.  Queued connections stay, and the successor
gets them; their clients notice a delay.  While the listener ends, no successor is started, and queued connections are
dropped.  A helper's death ends its connections here, though their programs go on.

The order of the hand-over

The status line of a connection is written before its frame is sent, so before any line of the worker.  The queue is
sent in order, and descriptors come in the order of their frames, at most BATCH in one message.  A resolver goes to the
front: connections may have to ask it.  Limits and pings go to the end, and never overtake a connection.

Back-pressure

    has_room is False    each worker has max_sessions, or IN_FLIGHT connections without a TAKEN.  The listener stops
                         accepting, and clients wait in the backlog.  IN_FLIGHT also limits what a stuck worker keeps
    the stream is full   the queue waits until the stream can be written (system/stream.py)
    any other error      for example no memory, or too many descriptors in flight: tried again after a pause

A connection goes to the worker that has the fewest, among those that answer.

A worker that is stuck

Each worker is pinged every PING_SECONDS, and answers when its loop turns.  One that leaves PINGS_UNANSWERED pings
unanswered is killed, which is a crash as above.  While the log is full no worker is pinged: one that waits for the log
is not stuck.  A worker that sends anything but messages is killed, too.

Resolvers

With a role that looks up names, each worker has a resolver of its own, a child of the listener.  It ends when the
worker closes the stream between them.  One that ends before is replaced after 1, 2, 4 ... seconds, ten at most;
meanwhile clients are dropped if rules may ask for their names, and other clients have none.
"""

import os
import signal
import socket
import time

from pyqmail.base.failure import reason
from pyqmail.protocol.wires import handover_wire as wire
from pyqmail.system.coroutines import READ, WRITE
from pyqmail.system.processes import fork
from pyqmail.tcp.access.client_events import ClientEvents
from pyqmail.tcp.access.log_lines import complaint_line, log_is_full, say_now
from pyqmail.tcp.serving.worker_slot import WorkerSlot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyqmail.tcp.access.connection import Connection
    from pyqmail.tcp.serving.modes import PoolRegistry, WorkerRole

PING_SECONDS = 5.0
PINGS_UNANSWERED = 6
_SOON_SECONDS = 1.0  # a worker that ended sooner is not replaced at once: its successor might end as well
_LONG_SECONDS = 60.0  # a resolver that lasted so long is replaced as soon as the first time


class WorkerPool:
    """The serving mode (tcp/serving/modes.py) of count workers; role is what each of them does."""

    name = "worker pool"

    def __init__(self, server: "PoolRegistry", count: int, role: "WorkerRole") -> None:
        self._server, self._role, self._pings = server, role, 0
        self._slots = [WorkerSlot(server.loop) for _ in range(count)]
        self._resolvers: dict[int, WorkerSlot] = {}
        self._events = ClientEvents()

    def start(self) -> None:
        for slot in self._slots:
            self._start_worker(slot)
        self._server.loop.after(PING_SECONDS, self._beat)

    @property
    def has_room(self) -> bool:
        most = self._role.max_sessions
        for slot in self._slots:  # asked for each connection: faster than any()  # noqa: SIM110
            if slot.can_take(most):
                return True
        return False

    def serve_connection(self, sock: socket.socket, client: "Connection") -> None:
        """Queue the connection for the worker that has the fewest; hand_over_batch() sends it."""
        number = self._server.number_for(client)
        self._server.register(number, client)
        most = self._role.max_sessions
        slots = [slot for slot in self._slots if slot.can_take(most)]
        # one that does not answer is stuck or about to be killed: others first
        slot = min(slots, key=lambda slot: (slot.unanswered > 1, len(slot.sessions)))
        slot.queue_connection(number, client, sock)

    def hand_over_batch(self) -> None:
        self._server.flush()  # the status line comes before the worker's
        for slot in self._slots:
            if slot.queue:
                slot.send()

    def child_ended(self, pid: int, wait_status: int) -> None:
        slot = next((slot for slot in self._slots if slot.pid == pid), None)
        if slot is not None:
            self._worker_ended(slot, wait_status)
        elif pid in self._resolvers:
            self._resolver_ended(self._resolvers.pop(pid), pid)

    def close_in_child(self) -> None:
        for slot in self._slots:
            if slot.sock is not None:
                slot.sock.close()
            slot.close_queue()

    def hand_over_last(self) -> None:
        """Hand over what is still here, within reason; the workers finish once the stream ends."""
        for slot in self._slots:
            slot.send_last()

    def workers(self) -> list[tuple[int, int]]:
        return [(slot.pid, len(slot.sessions)) for slot in self._slots if slot.pid is not None]

    def limited_clients(self) -> list[tuple[str, str, int, int]]:
        return self._events.limited()

    def announce(self, frame: bytes) -> None:
        """Send a frame to every worker; one that is still to be started will know what it says."""
        for slot in self._slots:
            if slot.pid is not None:
                slot.send_frame(frame)

    def signal_all(self, number: int) -> None:
        for pid, _ in self.workers():
            os.kill(pid, number)

    def _start_worker(self, slot):
        """Start a worker for a slot that has none; what is queued there goes to it."""
        if self._server.is_ending and not slot.queue:
            return
        started = self._fork(self._role.serve, self._role.words, slot.pause, lambda: self._start_worker(slot))
        if started is not None:
            slot.open_stream(*started, self._ready)
            self._start_resolver(slot)
            slot.send()
            self._server.adjust_accepting()

    def _start_resolver(self, slot):
        """Start a resolver for a worker that has none."""
        resolve = self._role.resolve
        if resolve is None or slot.pid is None or slot.resolver is not None:
            return
        started = self._fork(resolve, ["pyresolve"], slot.resolver_pause, lambda: self._start_resolver(slot))
        if started is not None:
            slot.resolver, sock = started
            slot.resolver_since = time.monotonic()
            self._resolvers[slot.resolver] = slot
            slot.send_resolver(sock)

    def _fork(self, run, words, pause, again):
        """Fork a child that returns run(its end of a stream).  Returns (its pid, our end).

        If that fails, reports why, has again() called after a pause, and returns None.
        """

        def try_later(text, error):
            say_now(complaint_line(f"{text}: {reason(error)}"))
            self._server.loop.after(pause.next_seconds(), again)

        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            return try_later("unable to create socket", error)

        def work():
            self._server.close_in_child()
            ours.close()
            return run(theirs)

        self._server.flush()
        try:
            return fork(work, words), ours
        except OSError as error:
            ours.close()
            return try_later("unable to fork", error)
        finally:
            theirs.close()

    def _worker_ended(self, slot, wait_status):
        """End the sessions that the worker had, and start its successor."""
        server, slot.pid = self._server, None  # the number may be another's from now on
        slot.out.close()
        slot.stop_reading()
        self._receive(slot)  # what it said before it ended counts
        for number in slot.close_stream():
            server.end_connection(number, wait_status)
        if server.is_ending:
            for number in slot.drop_unsent():
                server.uncount(number)
        elif time.monotonic() - slot.since < _SOON_SECONDS:
            server.loop.after(slot.pause.next_seconds(), lambda: self._start_worker(slot))
        else:
            slot.pause.reset()
            self._start_worker(slot)

    def _resolver_ended(self, slot, pid):
        if slot.resolver == pid:
            slot.resolver = None
            if time.monotonic() - slot.resolver_since > _LONG_SECONDS:
                slot.resolver_pause.reset()
            self._server.loop.after(slot.resolver_pause.next_seconds(), lambda: self._start_resolver(slot))

    def _ready(self, slot, events):
        if events & READ and not self._receive(slot):
            slot.stop_reading()  # it is ending: child_ended() does the rest
            events = READ
        if slot.queue:
            slot.send()  # answers
        if events & WRITE and slot.out is not None:
            slot.out.ready()
        self._server.flush()
        self._server.adjust_accepting()

    def _receive(self, slot):
        """Act on all that has come from a worker.  Returns False if no more can come, or what came makes no sense."""
        try:
            return slot.receive(self._heard)
        except wire.MalformedFrame:
            _kill(slot)
            return False

    def _heard(self, slot, kind, number, body):
        if kind == wire.TAKEN:
            slot.on_way = max(0, slot.on_way - number)
        elif kind == wire.PONG:
            slot.unanswered = 0
        elif number not in slot.sessions:
            raise wire.MalformedFrame("not a session of this worker")
        elif kind == wire.END:
            self._session_ended(slot, number, wire.split_end(body) << 8)
        elif kind == wire.ENDED:
            pid, wait_status = wire.split_ended(body)
            self._session_ended(slot, number, wait_status, pid)
        elif kind == wire.STARTED:
            self._server.clients[number].number = wire.split_started(body)
        elif kind == wire.ASK:
            serial, name, limit, seconds = wire.split_ask(body)
            is_admitted = self._events.admit(self._server.clients[number], name, limit, seconds)
            slot.queue.append((wire.answer(number, serial, is_admitted), None))
        elif kind == wire.ABOVE:
            self._events.note_refusal(self._server.clients[number], wire.split_above(body))
        else:
            raise wire.MalformedFrame("not a message of a worker")

    def _session_ended(self, slot, number, wait_status, pid=None):
        """Count a session out; pid: the process that served it, 0 if none could be had, None if there is none."""
        slot.sessions.discard(number)
        if pid == 0:
            self._server.uncount(number)
        else:
            self._server.end_connection(number, wait_status, pid)

    def _beat(self):
        self._server.loop.after(PING_SECONDS, self._beat)
        self._pings += 1
        self._events.forget_old()
        for slot in self._slots:
            if slot.pid is None or log_is_full():
                continue
            if slot.unanswered >= PINGS_UNANSWERED:
                _kill(slot)
                continue
            slot.unanswered += 1
            slot.send_frame(wire.pack(wire.PING, self._pings & 0xFFFFFFFF))


def _kill(slot):
    """Kill a worker that is stuck or sends nonsense; child_ended() does the rest."""
    if slot.pid is not None:
        os.kill(slot.pid, signal.SIGKILL)
