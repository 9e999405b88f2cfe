"""pyqueued's server: requests become batches, and answers follow when a batch is on disk.

The way of a request:

    client of qmail's ---- inline ------> _prepare --------------------------+
                      |                                                      v
                      +--- descriptors -> wait for a turn -> stage -> copy -> pending -> batch -> store.add -> answers
    stranger's process -- asks ---------> wait for a turn -> stage -> copy ---^

Batches.  Requests that are complete when the loop wakes form a batch.  The store writes all of them, commits them
together and makes them visible; only then are they answered.  No timer waits for more requests: while one batch waits
for the disk, the next requests arrive in the sockets, and they are the next batch.  So a single client has the latency
of one message, and under load the waiting for the disk is shared.  A batch has at most BATCH_MESSAGES and a little
over BATCH_BYTES; between two batches the loop looks at the sockets.

Who waits for whom.  During store.add() the whole process waits for the disk: that is the purpose.  Nothing else here
may wait.  A descriptor that a client passes need not end, so a forked child reads it (message_copy.py) and puts what it
has staged on disk by itself; the message then joins the next batch, which only makes it visible.  A stranger's
connection could hold up whoever reads or closes it, so it has a process of its own (stranger_connections.py).  That
process writes what is staged here, and is told the verdict.  Only connections of qmail's users are read by this loop:
they pass descriptors of their own.

What is kept true:

- A request is answered exactly once, with 0 only after the store's verdict.  A connection that ends takes its waiting
  copies with it; what is in `pending` is queued all the same: at worst its sender tries again, and it arrives twice.
- Each thing has a bound for each uid and for all: copies that run and that wait, connections, strangers (Capacity).
  A number of descriptors follows from them, so clients cannot use up what the next batch needs.
- stop() accepts nothing more, and the loop ends when nothing is pending, no copy runs and no stranger is being served;
  after STOP_SECONDS the copies are killed, and their clients told 71.
"""

import collections
import errno
import os
import time

from pyqmail.base.failure import is_lack, reason
from pyqmail.mail.queue.bounds import MessageRefused, read_bounds
from pyqmail.mail.queue.origin import Origin
from pyqmail.mail.queue.store import NewMessage
from pyqmail.mail.queue_server.connection import MAX_UNCLAIMED, Connection
from pyqmail.mail.queue_server.message_copy import Copier
from pyqmail.mail.queue_server.stranger_connections import STRANGERS, StrangerConnections
from pyqmail.mail.queue_server.turns import Turn, Turns
from pyqmail.protocol.envelope import BadEnvelope, stored_part
from pyqmail.protocol.wires import queue_wire
from pyqmail.system.coroutines import READ
from pyqmail.system.credentials import peer_credentials

BATCH_MESSAGES = 200
BATCH_BYTES = 8 << 20
COPIES = 200
COPIES_OF_UID = 20
WAITING_COPIES = 3500
WAITING_COPIES_OF_UID = 500
STOP_SECONDS = 10
DEAF_SECONDS = 0.1  # without a descriptor nobody is accepted for so long

_ACCEPTS = 64  # in a turn of the loop
_UNKNOWN_UID = 0xFFFFFFFF
_OTHER_DESCRIPTORS = 64  # the directories of mess, the log, what is open for a moment


class Capacity:
    """How much goes on at once, so that so many descriptors suffice whatever clients do.

    strangers hold a channel each, a batch two files for each message, a copy what tells of its end and what it
    reports, one that waits its two descriptors, a connection its socket and what is unclaimed.
    """

    def __init__(self, descriptors: int) -> None:
        share = max(1, descriptors // 16)
        self.strangers = min(STRANGERS, max(1, descriptors // 4))
        self.batch, self.copies = min(BATCH_MESSAGES, share), min(COPIES, share)
        self.waiting = min(WAITING_COPIES, share)
        used = _OTHER_DESCRIPTORS + self.strangers + 2 * (self.batch + self.copies + self.waiting)
        self.connections = max(4, (descriptors - used) // (1 + MAX_UNCLAIMED))


class _Request:
    """What a client asks for: its message and envelope as they came, then new: the NewMessage that the store gets."""

    __slots__ = ("connection", "number", "message", "envelope", "new")

    def __init__(self, connection, number, message=b"", envelope=b""):
        self.connection, self.number, self.message, self.envelope = connection, number, message, envelope
        self.new = None


class _Copy:
    """A request by descriptors: message and envelope still to be read."""

    __slots__ = ("request", "message_fd", "envelope_fd", "turn", "copier")

    def __init__(self, request, message_fd, envelope_fd):
        self.request, self.message_fd, self.envelope_fd = request, message_fd, envelope_fd
        self.turn = self.copier = None

    def close(self):
        os.close(self.message_fd)
        os.close(self.envelope_fd)


class QueueServer:
    """Serves one listening socket with one Store.

    trusted: the uids of qmail's users; any other is a stranger's.  controls has localbytes and queueminfree.  log is a
    BoundedLog.  stop() ends loop.run() once nothing is under way.
    """

    def __init__(self, loop, listener, store, numbers, controls, log, trusted, capacity):
        self._loop, self._listener, self._store, self._numbers = loop, listener, store, numbers
        self._controls, self._log, self._trusted, self._capacity = controls, log, trusted, capacity
        self._connections, self._copies = set(), set()
        self._pending, self._scheduled = collections.deque(), False
        self._copy_turns = Turns(COPIES_OF_UID, capacity.copies)
        self._is_listening = self._is_pausing = self._is_deaf = self._stopping = self._stopped = False
        self._strangers = StrangerConnections(loop, self, store, log, capacity.strangers)
        listener.setblocking(False)
        self.listen_again()

    def stop(self):
        """Accept nothing more, finish what has been taken, then stop the loop."""
        if self._stopping:
            return
        self._stopping = True
        self._listen()
        self._strangers.dispose((self._listener,))  # in whose backlog strangers may be
        for connection in list(self._connections):
            connection.listen(False)
        for copy in [copy for copy in self._copies if copy.copier is None]:
            self._give_up(copy)
            self._answer(copy.request, 71)
        self._strangers.stop()
        self._loop.after(STOP_SECONDS, self._kill_copies)
        self._loop.soon(self.stop_if_done)

    # connections

    def listen_again(self):
        """Go on accepting, if nothing else is in the way."""
        self._is_pausing = False
        self._listen()

    def _listen(self):
        is_full = len(self._connections) >= self._capacity.connections or self._strangers.is_full
        wanted = not (is_full or self._stopping or self._is_pausing)
        if wanted == self._is_listening:
            return
        self._is_listening = wanted
        if wanted:
            self._loop.watch_surely(self._listener.fileno(), READ, self._accept)
        else:
            self._loop.forget(self._listener.fileno())

    def _accept(self, _):
        for _ in range(_ACCEPTS):
            if not self._is_listening:
                break
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                self._unable_to_accept(error)
                break
            self._is_deaf = False
            self._take(sock)
            self._listen()
        self._strangers.dispose()

    def _take(self, sock):
        try:
            _, uid, _ = peer_credentials(sock)
        except OSError:
            uid = _UNKNOWN_UID
        if uid in self._trusted:
            self._connections.add(Connection(self, self._loop, sock, uid))
        else:
            self._strangers.take(sock, uid)

    def _unable_to_accept(self, error):
        if error.errno in (errno.ECONNABORTED, errno.EINTR):
            return
        if not self._is_deaf:
            self._log.warn(f"unable to accept: {reason(error)}", "accept")
        self._is_deaf = is_lack(error)
        self._is_pausing = True
        self._listen()
        self._loop.after(DEAF_SECONDS, self.listen_again)

    def receiving(self, connection):
        """A part of a frame has come."""

    def dropped(self, connection, why):
        self._log.warn(f"connection of uid {connection.uid} dropped: {why}", ("dropped", why))

    def lost(self, connection):
        """The connection is closed: what its client has not been told does not matter to anybody any more."""
        self._connections.discard(connection)
        self._listen()
        for copy in [copy for copy in self._copies if copy.request.connection is connection]:
            if copy.copier is None:
                self._give_up(copy)
            else:
                copy.copier.kill()

    def take_inline(self, connection, number, body):
        """Raises Malformed."""
        envelope, message = queue_wire.split_inline(body)
        self.queue(_Request(connection, number, message, envelope))

    def take_descriptors(self, connection, number, message_fd, envelope_fd):
        copy = _Copy(_Request(connection, number), message_fd, envelope_fd)
        turns, uid = self._copy_turns, connection.uid
        if turns.waiting(uid) >= WAITING_COPIES_OF_UID or turns.waiting() >= self._capacity.waiting:
            copy.close()
            self._answer(copy.request, 71)
            return
        self._copies.add(copy)
        copy.turn = Turn(turns, uid, lambda: self._start_copy(copy))
        copy.turn.ask()

    # what strangers' processes have written

    def open_request(self, link, number):
        """Return a request whose message is staged, both descriptors open; None if it was answered instead."""
        request = _Request(link, number)
        try:
            self._name(request, int(time.time()), is_trusted=False)
            request.new.staged = self._store.stage(request.new.bounds, with_envelope=True)
        except MessageRefused as refused:
            self._refuse(request, refused)
            return None
        return request

    def fail(self, request, code, why=""):
        """Give up a request that has not been queued."""
        self._store.discard(request.new.staged)
        if why:
            self._warn(request, code, why)
        self._answer(request, code)

    # the batch

    def queue(self, request):
        """Queue a request with the next batch: its message and envelope, or what is staged and on disk."""
        self._pending.append(request)
        if not self._scheduled:
            self._scheduled = True
            self._loop.soon(self._batch)

    def _batch(self):
        self._scheduled = False
        now, batch, size = int(time.time()), [], 0
        while self._pending and len(batch) < self._capacity.batch and size < BATCH_BYTES:
            request = self._pending.popleft()
            size += len(request.message)
            if request.new is not None or self._prepare(request, now):
                batch.append(request)
        for request, verdict in zip(batch, self._store.add([request.new for request in batch]), strict=True):
            if verdict.exit_code:
                self._warn(request, verdict.exit_code, verdict.why)
            self._answer(request, verdict.exit_code)
        if self._pending:
            self._scheduled = True
            self._loop.after(0, self._batch)  # look at the sockets in between
        self.stop_if_done()

    def _prepare(self, request, now):
        """Make the NewMessage of a request inline; False if that failed and it has been answered."""
        try:
            records = stored_part(request.envelope)
        except BadEnvelope as bad:
            self._answer(request, bad.exit_code)
            return False
        try:
            self._name(request, now, is_trusted=True)
        except MessageRefused as refused:
            self._refuse(request, refused)
            return False
        request.new.message, request.new.envelope = request.message, records
        return True

    def _name(self, request, now, is_trusted):
        """Give a request its NewMessage: origin with a new qp, and bounds.  Raises MessageRefused (53, 55)."""
        bounds = read_bounds(self._controls, is_trusted)
        try:
            origin = Origin(request.connection.uid, self._numbers.take(), now)
        except OSError as error:
            raise MessageRefused(53, error) from None
        request.new = NewMessage(origin, bounds=bounds)

    def _refuse(self, request, refused):
        """Answer a request of which the store has nothing."""
        self._warn(request, refused.exit_code, refused.why)
        self._answer(request, refused.exit_code)

    def _warn(self, request, code, why=""):
        line = f"unable to queue for uid {request.connection.uid}, exit code {code}"
        self._log.warn(f"{line}: {why}" if why else line, (code, why))

    def _answer(self, request, code):
        request.connection.answer(request.number, code, 0 if code else request.new.origin.qp)

    # copies

    def _start_copy(self, copy):
        request = copy.request
        try:
            self._name(request, int(time.time()), is_trusted=True)
            request.new.staged = self._store.stage(request.new.bounds)
            copy.copier = self._copier(copy)
        except MessageRefused as refused:
            self._give_up(copy)
            self._refuse(request, refused)

    def _copier(self, copy):
        def done(code, why):
            self._copied(copy, code, why)

        new, descriptors = copy.request.new, (copy.message_fd, copy.envelope_fd)
        try:
            return Copier(self._loop, self._store, new.staged, new.origin, new.bounds, *descriptors, done)
        except OSError as error:
            self._store.discard(new.staged)
            raise MessageRefused(51, error) from None

    def _give_up(self, copy):
        """Forget a copy that has not begun."""
        self._copies.discard(copy)
        copy.close()
        copy.turn.give_back()

    def _copied(self, copy, code, why):
        self._copies.discard(copy)
        copy.turn.give_back()
        if code == 0:
            self.queue(copy.request)
        else:
            self.fail(copy.request, code or (71 if self._stopping else 81), why)
        self.stop_if_done()

    def _kill_copies(self):
        for copy in self._copies:
            copy.copier.kill()
        self._strangers.kill()

    def stop_if_done(self):
        if self._stopping and not self._stopped and not self._pending and not self._copies and self._strangers.is_idle:
            self._stopped = True
            for connection in list(self._connections):
                connection.flush()
                connection.close()
            self._strangers.close()
            self._loop.stop()
