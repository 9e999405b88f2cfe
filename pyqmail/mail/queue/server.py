"""What pyqueued does all day: batches, and the children that copy what came by descriptor.

Requests that are complete when the loop wakes form a batch: written, committed, made visible and answered
together.  A request by descriptors is read by a forked child, since a stranger's pipe need not end; it commits
the two files itself, and the message joins the next batch.  Each uid has a bound on connections and copies.
"""

import collections
import os
import signal
import time

from pyqmail.base.failure import reason
from pyqmail.mail.queue.admission import Origin, Refused, read_pieces
from pyqmail.mail.queue.connection import Connection
from pyqmail.protocol import queue_wire
from pyqmail.protocol.envelope import BadEnvelope, stored_part
from pyqmail.protocol.queue_wire import ANSWER
from pyqmail.system.credentials import peer_credentials
from pyqmail.system.descriptors import log, open_descriptors
from pyqmail.system.loop import READ
from pyqmail.system.processes import exit_code, fork

BATCH_MESSAGES = 200
BATCH_BYTES = 8 << 20
COPIES = 200
COPIES_OF_UID = 20
WAITING_COPIES_OF_UID = 500
CONNECTIONS_OF_UID = 200  # of a uid that is none of qmail's users
COPY_SECONDS = 86400
STOP_SECONDS = 10
QP_BLOCK = 10000

_RESERVED_DESCRIPTORS = 2 * BATCH_MESSAGES + 6 * COPIES + 64


class QueueNumbers:
    """Numbers for qp: each larger than all before, over restarts too, and above any pid.

    The first number not yet reserved stands in a file (the lock's); an empty one starts at the Unix time.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        text = os.pread(fd, 20, 0).strip()
        self._next = max(int(text) if text.isdigit() else 0, int(time.time()))
        self._reserved = self._next

    def take(self) -> int:
        """Raises OSError if the file cannot be written."""
        if self._next >= self._reserved:
            os.pwrite(self._fd, b"%019d\n" % (self._next + QP_BLOCK), 0)
            self._reserved = self._next + QP_BLOCK
        self._next += 1
        return self._next - 1


class _Request:
    __slots__ = ("connection", "number", "message", "envelope", "newcomer", "qp")

    def __init__(self, connection, number, message=b"", envelope=b""):
        self.connection, self.number, self.message, self.envelope = connection, number, message, envelope
        self.newcomer, self.qp = None, 0


class _Copy:
    """A request by descriptors: message and envelope still to be read."""

    __slots__ = ("request", "message_fd", "envelope_fd", "pid", "timer", "overdue")

    def __init__(self, request, message_fd, envelope_fd):
        self.request, self.message_fd, self.envelope_fd = request, message_fd, envelope_fd
        self.pid, self.timer, self.overdue = 0, None, False

    def close(self):
        os.close(self.message_fd)
        os.close(self.envelope_fd)


class QueueServer:
    """Serves one listening socket with one Admission.

    trusted: uids whose connections are not counted.  stop() ends loop.run() once nothing is under way.
    """

    def __init__(self, loop, listener, admission, numbers, trusted, most_connections):
        self._loop, self._listener, self._admission, self._numbers = loop, listener, admission, numbers
        self._trusted, self._most = trusted, most_connections
        self._connections, self._of_uid = set(), collections.Counter()
        self._pending, self._scheduled = collections.deque(), False
        self._copies, self._copying = set(), collections.Counter()
        self._waiting = {}  # uid -> deque of _Copy
        self._stopping = False
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, self._accept)

    def stop(self):
        """Accept nothing more, finish what has been taken, then stop the loop."""
        if self._stopping:
            return
        self._stopping = True
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        for connection in list(self._connections):
            connection.listen(False)
        for waiting in self._waiting.values():
            for copy in waiting:
                copy.close()
                self._answer(copy.request, 71)
        self._waiting.clear()
        self._loop.after(STOP_SECONDS, self._kill_copies)
        self._loop.soon(self._stop_if_done)

    # connections

    def _accept(self, _):
        if self._stopping:
            return  # it was ready in the turn that closed it
        for _ in range(64):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log(f"pyqueued: warning: unable to accept: {reason(error)}")
                return
            _, uid, _ = peer_credentials(sock)
            if uid not in self._trusted and self._of_uid[uid] >= CONNECTIONS_OF_UID:
                sock.close()
                continue
            self._of_uid[uid] += 1
            self._connections.add(Connection(self, self._loop, sock, uid))
            if len(self._connections) >= self._most:
                self._loop.forget(self._listener.fileno())
                return

    def lost(self, connection):
        """The connection is closed: what its client has not been told does not matter to anybody any more."""
        if len(self._connections) >= self._most and not self._stopping:
            self._loop.watch(self._listener.fileno(), READ, self._accept)
        self._connections.discard(connection)
        self._of_uid[connection.uid] -= 1
        if not self._of_uid[connection.uid]:
            del self._of_uid[connection.uid]
        for copy in self._copies:
            if copy.request.connection is connection:
                os.kill(copy.pid, signal.SIGKILL)
        waiting = self._waiting.get(connection.uid, ())
        for copy in [copy for copy in waiting if copy.request.connection is connection]:
            waiting.remove(copy)
            copy.close()

    def take_inline(self, connection, number, body):
        """Raises Malformed."""
        envelope, message = queue_wire.split_inline(body)
        self._add(_Request(connection, number, message, envelope))

    def take_descriptors(self, connection, number, message_fd, envelope_fd):
        copy = _Copy(_Request(connection, number), message_fd, envelope_fd)
        waiting = self._waiting.setdefault(connection.uid, collections.deque())
        if len(waiting) >= WAITING_COPIES_OF_UID:
            copy.close()
            self._answer(copy.request, 71)
            return
        waiting.append(copy)
        self._start_copies(connection.uid)

    # the batch

    def _add(self, request):
        self._pending.append(request)
        if not self._scheduled:
            self._scheduled = True
            self._loop.soon(self._batch)

    def _batch(self):
        self._scheduled = False
        batch, size = [], 0
        while self._pending and len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
            request = self._pending.popleft()
            batch.append(request)
            size += len(request.message)
        now = int(time.time())
        written = [request for request in batch if request.newcomer is not None or self._write(request, now)]
        if written:
            self._admission.settle([request.newcomer for request in written])
        for request in written:
            code = request.newcomer.exit_code
            if code:
                self._warn(request, code)
            self._answer(request, code)
        if self._pending:
            self._scheduled = True
            self._loop.after(0, self._batch)  # look at the sockets in between
        self._stop_if_done()

    def _write(self, request, now):
        """Write a request's files; False if that failed and it has been answered."""
        try:
            stored = stored_part(request.envelope)
        except BadEnvelope as bad:
            self._answer(request, bad.exit_code)
            return False
        origin = self._begin(request, now)
        if origin is None:
            return False
        try:
            self._admission.fill(request.newcomer, origin, request.message, stored)
        except Refused as refused:
            self._refuse(request, refused)
            return False
        return True

    def _begin(self, request, now):
        """Make the request's newcomer; returns its origin, None if that failed and it has been answered."""
        try:
            request.qp = self._numbers.take()
            request.newcomer = self._admission.begin()
        except Refused as refused:
            self._refuse(request, refused)
            return None
        except OSError as error:
            self._refuse(request, Refused(53, error))
            return None
        return Origin(request.connection.uid, request.qp, now)

    def _refuse(self, request, refused):
        if request.newcomer is not None:
            self._admission.refuse(request.newcomer, refused.exit_code)
        self._warn(request, refused.exit_code, refused.error)
        self._answer(request, refused.exit_code)

    def _warn(self, request, code, error=None):
        why = f": {reason(error)}" if error is not None else ""
        log(f"pyqueued: warning: unable to queue for uid {request.connection.uid}, exit code {code}{why}")

    def _answer(self, request, code):
        body = queue_wire.answer_body(code, 0 if code else request.qp)
        request.connection.send(queue_wire.pack(ANSWER, request.number, body))

    # copies

    def _start_copies(self, uid):
        waiting = self._waiting.get(uid)
        while waiting and self._copying[uid] < COPIES_OF_UID and len(self._copies) < COPIES:
            self._start_copy(waiting.popleft())
        if not waiting:
            self._waiting.pop(uid, None)

    def _start_copy(self, copy):
        request = copy.request
        origin = self._begin(request, int(time.time()))
        if origin is None:
            copy.close()
            return
        newcomer = request.newcomer

        def work():
            self._loop.abandon()
            _keep_only((2, newcomer.message_fd, copy.message_fd, copy.envelope_fd))
            try:
                self._admission.copy(newcomer, origin, read_pieces(copy.message_fd), read_pieces(copy.envelope_fd))
            except Refused as refused:
                if refused.error is not None and refused.exit_code != 54:
                    self._warn(request, refused.exit_code, refused.error)
                return refused.exit_code
            return 0

        try:
            copy.pid = fork(work)
            self._loop.on_exit(copy.pid, lambda status: self._copied(copy, status))
        except OSError as error:
            if copy.pid:
                os.kill(copy.pid, signal.SIGKILL)
                os.waitpid(copy.pid, 0)
            copy.close()
            self._refuse(request, Refused(51, error))
            return
        newcomer.close()
        copy.close()
        copy.timer = self._loop.after(COPY_SECONDS, lambda: self._overdue(copy))
        self._copies.add(copy)
        self._copying[origin.uid] += 1

    def _copied(self, copy, status):
        request = copy.request
        uid = request.connection.uid
        copy.timer.cancel()
        self._copies.discard(copy)
        self._copying[uid] -= 1
        if not self._copying[uid]:
            del self._copying[uid]
        code = exit_code(status)
        if code == 0:
            self._add(request)
        else:
            code = 52 if copy.overdue else 71 if self._stopping else 81 if code is None else code
            self._admission.refuse(request.newcomer, code)
            self._answer(request, code)
        for waiting_uid in (uid, *self._waiting):
            self._start_copies(waiting_uid)
        self._stop_if_done()

    def _overdue(self, copy):
        copy.overdue = True
        os.kill(copy.pid, signal.SIGKILL)

    def _kill_copies(self):
        for copy in self._copies:
            os.kill(copy.pid, signal.SIGKILL)

    def _stop_if_done(self):
        if self._stopping and not self._pending and not self._copies:
            for connection in list(self._connections):
                connection.flush()
                connection.close()
            self._loop.stop()


def most_connections(descriptor_limit: int) -> int:
    """Return how many connections leave enough descriptors for batches and copies."""
    return max(16, descriptor_limit - _RESERVED_DESCRIPTORS)


def _keep_only(kept):
    """Close every other descriptor: a copy that waits must hold neither a client's connection nor the lock."""
    for fd in open_descriptors():
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass
