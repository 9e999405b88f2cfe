"""What is done for orders: a user looked up, deliveries in a warm worker, a delivery in a process of its own.

Each order ends in one report, by finish() of LocalDeliveries (spawner.py).
"""

import os
from _collections import deque  # collections brings much that this has no use for

from pyqmail.base.backoff import Backoff
from pyqmail.mail.local import users, worker_main
from pyqmail.mail.local.worker_pool import fork_watched
from pyqmail.mail.spawners.server import NO_FORK, NO_PIPE, Collected, OrderRefused, report_text
from pyqmail.protocol.wires import local_wire
from pyqmail.protocol.wires.frames import MalformedFrame
from pyqmail.system.coroutines import READ
from pyqmail.system.descriptors import arrange
from pyqmail.system.processes import execute, exit_code, reset_signals

CRASHED = b"Zqmail-local crashed.\n"
OUT_OF_MEMORY = b"Zqmail-spawn out of memory. (#4.3.0)\n"
NOT_RUN = 120
FILES_BESIDE = 24  # descriptors of a worker beside messages and files
DEFERRALS = (111, 71, 74, 75)

# exit code of qmail-local or of what runs before it -> report, whatever was written.  Source: report() of qmail-lspawn
REPORTS = {
    users.BUG: b"ZInternal qmail-lspawn bug.\n",
    users.ROOT: b"ZNot allowed to perform deliveries as root.\n",
    users.NFS: b"ZNFS failure in qmail-local.\n",
    users.NO_ALIAS: b"ZUnable to find alias user!\n",
    users.CDB: b"ZTrouble reading users/cdb in qmail-lspawn.\n",
    users.SYSTEM: b"ZTemporary failure in qmail-lspawn.\n",
    119: b"ZOut of memory in qmail-lspawn.\n",
    NOT_RUN: b"ZUnable to run qmail-local.\n",
    users.NO_GETPW: b"ZUnable to run qmail-getpw.\n",
    # also the exit code of a shell or env that could not run it: no reason to bounce, as the original does at 126
    126: b"ZUnable to run qmail-local.\n",
    127: b"ZUnable to run qmail-local.\n",
}
NO_INTERPRETER = 1  # the exit code of an interpreter that does not find its own modules, or ours; pylocal never has it


def report_for(code: int | None, output: bytes) -> bytes:
    """Return the report for an exit code of qmail-local, None if a signal killed it, and what it wrote."""
    if code is None:
        return CRASHED
    if code in REPORTS:
        return REPORTS[code]
    return report_text(b"K" if code == 0 else b"Z" if code in DEFERRALS else b"D", output)


class LookupTask:
    """The task of finding an order's user in the password database."""

    def __init__(self, deliveries, order, local, domain) -> None:
        self._deliveries, self._order, self._local, self._domain = deliveries, order, local, domain

    def start(self, worker) -> bool:
        worker.send(local_wire.pack(local_wire.LOOKUP, self._local))
        return True

    def handle_answer(self, worker, kind, number, body) -> bool:
        if kind != local_wire.ACCOUNT:
            raise MalformedFrame("not an account")
        code, fields = local_wire.split_code(body)
        try:
            if code:
                raise users.Unknown(code)
            account = users.unpack(fields)
        except users.Unknown as unknown:
            self.refuse(report_for(unknown.code, b""))
        else:
            self._deliveries.start(self._order, account, self._local, self._domain)
        return True

    def worker_lost(self, code) -> None:
        self.refuse(report_for(users.SYSTEM if code in (None, 0, 111) else code, b""))

    def refuse(self, report) -> None:
        self._order.close_message()
        self._deliveries.finish(self._order, report)


class DeliveryTask:
    """A delivery in any process: its output, read to the end, and its exit code; one report when both are there."""

    def __init__(self, deliveries, order) -> None:
        self._deliveries, self._order = deliveries, order
        self._collected, self._pipe, self._code, self._has_ended = Collected(), None, None, False
        self._reading, self._is_stored = Backoff(), False

    def refuse(self, report) -> None:
        self.close_message()
        self._deliveries.finish(self._order, report)

    def open_message(self) -> bool:
        """Open the message if it is not open; return False if that is why it is refused."""
        try:
            if self._order.message is None:
                self._order.message = self._deliveries.messages.open(self._order.path)
        except OrderRefused as refused:
            self.refuse(refused.report)
            return False
        return True

    def close_message(self) -> None:
        self._order.close_message()

    def _make_pipe(self):
        """Return the end to write to.  Raises OSError."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        try:
            self._deliveries.loop.watch(ours, READ, lambda _: self._read())
        except OSError:
            os.close(ours)
            os.close(theirs)
            raise
        self._pipe = ours
        return theirs

    def _ended(self, code):
        self._code, self._has_ended = code, True
        if self._pipe is None:
            self._deliveries.finish(self._order, report_for(self._code, self._collected.text), self._is_stored)

    def _read(self):
        try:
            data = os.read(self._pipe, 65536)
        except BlockingIOError:
            return
        except OSError:
            self._read_later()
            return
        self._reading.reset()
        self._collected.add(data)
        if not data:
            self._close_pipe()
            if self._has_ended:
                self._ended(self._code)

    def _read_later(self):
        """Try again later: the output stays in the pipe, and a program must not be cut off for an error of ours."""
        self._deliveries.loop.forget(self._pipe)
        self._deliveries.loop.after(self._reading.next_seconds(), self._listen)

    def _listen(self):
        if self._pipe is None:
            return
        try:
            self._deliveries.loop.watch(self._pipe, READ, lambda _: self._read())
        except OSError:
            self._read_later()

    def _close_pipe(self):
        self._deliveries.loop.forget(self._pipe)
        os.close(self._pipe)
        self._pipe = None


class WorkerDelivery(DeliveryTask):
    """A delivery in a warm worker, alone or among others.  fields: as DELIVER has them."""

    def __init__(self, deliveries, order, fields) -> None:
        super().__init__(deliveries, order)
        self.fields, self.size = fields, len(fields)

    @property
    def message(self) -> int:
        return self._order.message

    @property
    def has_pipe(self) -> bool:
        return self._pipe is not None

    def end(self, code, text: bytes, is_stored: bool = False) -> None:
        """The worker is done with it: its exit code, None if it crashed, and what it wrote itself."""
        self._collected.add(text)
        self._is_stored = is_stored
        self._ended(code)

    def give_pipe(self, worker) -> None:
        """Give the worker somewhere to write."""
        theirs: tuple[int, ...] = ()
        try:
            theirs = (self._make_pipe(),)
        except OSError:
            pass
        self._send_pipe(worker, theirs, Backoff(0.02, 5.0))

    def _send_pipe(self, worker, theirs, backoff):
        """Give the worker its pipe; try again until that works or the worker ends: until then the worker waits."""
        try:
            if worker.is_there:
                worker.send(local_wire.pack(local_wire.OUTPUT), theirs)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the worker has ended, and the loop will report that
        except OSError:
            self._deliveries.loop.after(backoff.next_seconds(), lambda: self._send_pipe(worker, theirs, backoff))
            return
        for fd in theirs:
            os.close(fd)


class WorkerTask:
    """The task of making deliveries in a warm worker, all in one DELIVER.

    batch: whose they are, or None; it goes on once the worker is done with them, or they are refused.
    """

    def __init__(self, members, batch=None) -> None:
        self._members, self._batch = members, batch
        self._left: dict[int, WorkerDelivery] = {}  # number in DELIVER -> what the worker has not answered

    def start(self, worker) -> bool:
        self._members = [one for one in self._members if one.open_message()]
        if not self._members:
            self._end()
            return False
        body = b"".join(one.fields for one in self._members)
        worker.send(local_wire.pack(local_wire.DELIVER, body), [one.message for one in self._members])
        for one in self._members:
            one.close_message()
        self._left = dict(enumerate(self._members))
        return True

    def handle_answer(self, worker, kind, number, body) -> bool:
        if kind == local_wire.STORED:
            for one, text in local_wire.split_stored(body):
                self._answered(one).end(0, text, is_stored=True)
        elif kind == local_wire.DONE:
            code, text = local_wire.split_code(body)
            self._answered(number).end(code, text)
        elif kind == local_wire.NEED and number in self._left and not self._left[number].has_pipe:
            self._left[number].give_pipe(worker)
        else:
            raise MalformedFrame("not about a delivery")
        if self._left:
            return False
        self._end()
        return True

    def worker_lost(self, code) -> None:
        left, self._left = self._left, {}
        for one in left.values():
            one.end(code or None, b"")  # a worker that ends without an answer has not delivered, even if it exits 0
        self._end()

    def refuse(self, report) -> None:
        for one in self._members:
            one.refuse(report)
        self._end()

    def _answered(self, number):
        if number not in self._left:
            raise MalformedFrame("no such delivery")
        return self._left.pop(number)

    def _end(self):
        if self._batch is not None:
            self._batch.go_on()


class RecipientBatch:
    """The orders of one batch: to one recipient, in their order, and one task at a time.

    What has arrived when its turn comes, and has the very recipient of the first, goes to a worker together; a user is
    looked up once for all of them.  A batch that has no orders left is forgotten.
    """

    def __init__(self, deliveries, number: int) -> None:
        self._deliveries, self._number = deliveries, number
        self._waiting: deque = deque()
        self._current = None  # the order whose user is being found, or that has a process of its own
        self._is_busy = False

    def add(self, order) -> None:
        self._waiting.append(order)
        if not self._is_busy:
            self.go_on()

    def go_on(self) -> None:
        """Begin what waits, in the next turn of the loop: by then all orders that were written together are here."""
        self._is_busy = True
        self._deliveries.loop.soon(self._begin_next)

    def companions(self, order, fields, size: int) -> list[WorkerDelivery]:
        """Return the deliveries that go to a worker with that of order, behind it; size: bytes that has in DELIVER.

        fields: what all of them have in DELIVER before the sender.
        """
        found, self._current = list[WorkerDelivery](), None
        while self._waiting and self._waiting[0].recipient == order.recipient:
            try:
                mine = local_wire.message_fields(fields, self._waiting[0].sender)
            except MalformedFrame:
                break  # its turn comes, and it is refused
            size += len(mine)
            if size > local_wire.BODY_LIMIT or len(found) + 1 >= self._most():
                break
            found.append(WorkerDelivery(self._deliveries, self._waiting.popleft(), mine))
        return found

    def finished(self, order) -> None:
        """An order is reported: the next has its turn, if it was not handed to a worker."""
        if order is self._current:
            self._current = None
            self.go_on()

    def _begin_next(self):
        if self._waiting:
            self._current = self._waiting.popleft()
            self._deliveries.find_user(self._current)
        else:
            self._deliveries.forget_batch(self._number)

    def _most(self):
        """Return how many go together: the worker has a descriptor for each message, and as many for the files."""
        return max(1, min(local_wire.MAX_TOGETHER, (self._deliveries.open_files - FILES_BESIDE) // 2))


class ExecutedDelivery(DeliveryTask):
    """A delivery in a process of its own that becomes pylocal, found in PATH."""

    def __init__(self, deliveries, order, account, uid, gid, local, domain) -> None:
        super().__init__(deliveries, order)
        self._account, self._identity = account, (uid, gid)
        self._local, self._domain = local, domain

    def start(self) -> None:
        if not self.open_message():
            return
        try:
            theirs = self._make_pipe()
        except OSError:
            self.refuse(NO_PIPE)
            return
        try:
            fork_watched(
                self._deliveries.loop, lambda: self._run_child(theirs), lambda status: self._ended(_run_code(status))
            )
        except OSError:
            self._close_pipe()
            self.refuse(NO_FORK)
        else:
            self.close_message()
        finally:
            os.close(theirs)

    def _run_child(self, output):
        deliveries, account = self._deliveries, self._account
        deliveries.loop.abandon()
        worker_main.limit_open_files(deliveries.open_files)
        arrange({0: self._order.message, 1: output, 2: output})
        os.umask(0o077)
        os.chdir(deliveries.home.path)
        code = worker_main.give_up_to(*self._identity, deliveries.is_root_allowed())
        if code:
            return code
        words = [b"pylocal", b"--", account.user, account.home, self._local, account.dash, account.ext]
        words += [self._domain, self._order.sender, deliveries.default]
        reset_signals()
        execute(words, deliveries.environ, deliveries.environ.get(b"PATH"))
        return NOT_RUN


def _run_code(status):
    code = exit_code(status)
    return NOT_RUN if code == NO_INTERPRETER else code
