"""The local spawner: for each order find the user, have a worker of that user deliver, report how it ended.

    order --> users/cdb --+-- found ---------------------------------> a worker of that uid delivers --> report
                          +-- not there --> a worker of qmailp looks
                                            into the password database --^

Workers are forked when there is work for a user and end when there has been none for a few seconds; quick
deliveries share them, slow ones do not wait for each other (worker_pool.py).  With `execute_each` each
delivery is a process that becomes pylocal, as with the original.

What is kept true: every order gets exactly one report, and K only if a delivery has said so itself.  A delivery has two
ends, its exit code and the end of its output, and is reported once both are there: a program that it left behind may
still write.  The password database is read in a process of its own, since a look-up may take as long as a
directory server does, and as a user who can read nothing else.
"""

import os

from pyqmail.base.backoff import Backoff
from pyqmail.mail.local import users, worker_main
from pyqmail.mail.local.worker_pool import WorkerPool, fork_watched
from pyqmail.mail.spawners.server import NO_FORK, NO_PIPE, Collected, OrderRefused, report_text
from pyqmail.protocol.wires import local_wire
from pyqmail.protocol.wires.frames import MalformedFrame
from pyqmail.system.cdb import Reader
from pyqmail.system.coroutines import READ
from pyqmail.system.descriptors import arrange
from pyqmail.system.processes import execute, exit_code, reset_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CRASHED = b"Zqmail-local crashed.\n"
OUT_OF_MEMORY = b"Zqmail-spawn out of memory. (#4.3.0)\n"
NOT_RUN = 120
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


class LocalDeliveries:
    """Makes the deliveries of a spawner.  report(number, text) is called once for each deliver(order).

    max_workers: how many deliveries there can be at once.  open_files: the limit that programs get.
    """

    def __init__(self, loop, home, default, environ, execute_each, max_workers, open_files) -> None:
        self.loop, self.home, self.default, self.environ = loop, home, default, environ
        self.max_workers, self.open_files = max_workers, open_files
        self.report: Callable[[int, bytes], object]  # set by the owner of the spawner
        self._execute_each = execute_each
        self._owner = home.owner()
        self._owner_gid = None if self._owner is None else home.gid("nofiles")
        self._assigned = UsersCdb(f"{home.users}/cdb")
        self._pools: dict[tuple[int, int] | None, WorkerPool] = {}

    def deliver(self, order) -> None:
        local, _, domain = order.recipient.rpartition(b"@")
        try:
            if not local:
                raise OrderRefused(b"K")
            account = self._assigned.find(local)
            if account is None and self._owner is not None:
                account = users.find_in_private_home(self.home, local)
        except users.Unknown as unknown:
            self._refuse(order, report_for(unknown.code, b""))
        except OrderRefused as refused:
            self._refuse(order, refused.report)
        except OSError:
            self._refuse(order, REPORTS[users.SYSTEM])
        else:
            if account is None:
                self._pool(None, self._look_up).submit(LookupTask(self, order, local, domain))
            else:
                self.start(order, account, local, domain)

    def start(self, order, account, local, domain) -> None:
        """Go on with an order whose user is known."""
        uid, gid = (account.uid, account.gid) if self._owner is None else (self._owner, self._owner_gid)
        if self._execute_each:
            ExecutedDelivery(self, order, account, uid, gid, local, domain).start()
            return
        fields = account.user, account.home, local, account.dash, account.ext, domain, order.sender
        try:
            packet = local_wire.deliver(*fields)
        except MalformedFrame:
            self._refuse(order, OUT_OF_MEMORY)
            return
        self._pool((uid, gid), lambda: self._work_for(uid, gid)).submit(WorkerDelivery(self, order, packet))

    def finish(self, order, report) -> None:
        self.report(order.number, report)

    def close(self) -> None:
        """End all workers; none has anything to do."""
        for pool in self._pools.values():
            pool.close()

    def is_root_allowed(self) -> bool:
        return self._owner == 0

    def forget_pool(self, key) -> None:
        self._pools.pop(key, None)

    def _refuse(self, order, report):
        os.close(order.message)
        self.report(order.number, report)

    def _pool(self, key, work):
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = WorkerPool(self, key, work)
        return pool

    def _work_for(self, uid, gid):
        """In a worker's process: become the user, then deliver until the socket ends."""
        code = worker_main.give_up_to(uid, gid, self.is_root_allowed())
        return code or worker_main.serve_deliveries(self.home, self.default, self.environ)

    def _look_up(self):
        """In a worker's process: become qmailp, then look users up until the socket ends."""
        if os.getuid() == 0:
            try:
                uid, gid = self.home.uid("qmailp"), self.home.gid("nofiles")
            except LookupError:
                return users.NO_GETPW
            code = worker_main.give_up_to(uid, gid, False)
            if code:
                return code
        return worker_main.serve_lookups("pygetpw" if self._execute_each else None, self.environ)


class UsersCdb:
    """users/cdb, opened again whenever the file has been replaced."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reader: Reader | None = None
        self._stamp: tuple[int, ...] | None = None

    def find(self, local: bytes):
        """Return the account of a local part; None if it has none or there is no users/cdb.  Raises Unknown."""
        try:
            seen = os.stat(self._path)
            stamp = seen.st_ino, seen.st_dev, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size
            if self._reader is None or stamp != self._stamp:
                self.close()
                self._reader, self._stamp = Reader(self._path), stamp
            return users.find_assigned(self._reader.get, local)
        except FileNotFoundError:
            self.close()
            return None
        except OSError:
            self.close()
            raise users.Unknown(users.CDB) from None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = self._stamp = None


class LookupTask:
    """The task of finding an order's user in the password database."""

    def __init__(self, deliveries, order, local, domain) -> None:
        self._deliveries, self._order, self._local, self._domain = deliveries, order, local, domain

    def start(self, worker) -> None:
        worker.send(local_wire.pack(local_wire.LOOKUP, self._local))

    def handle_answer(self, worker, kind, body) -> bool:
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
        os.close(self._order.message)
        self._deliveries.finish(self._order, report)


class DeliveryTask:
    """A delivery in any process: its output, read to the end, and its exit code; one report when both are there."""

    def __init__(self, deliveries, order) -> None:
        self._deliveries, self._order = deliveries, order
        self._collected, self._pipe, self._code, self._has_ended = Collected(), None, None, False
        self._reading = Backoff()

    def refuse(self, report) -> None:
        if self._order.message is not None:
            self._close_message()
        self._deliveries.finish(self._order, report)

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

    def _close_message(self):
        os.close(self._order.message)
        self._order.message = None

    def _ended(self, code):
        self._code, self._has_ended = code, True
        if self._pipe is None:
            self._deliveries.finish(self._order, report_for(self._code, self._collected.text))

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
    """The task of a delivery in a warm worker."""

    def __init__(self, deliveries, order, packet) -> None:
        super().__init__(deliveries, order)
        self._packet = packet

    def start(self, worker) -> None:
        worker.send(self._packet, (self._order.message,))
        self._close_message()

    def handle_answer(self, worker, kind, body) -> bool:
        if kind == local_wire.NEED and self._pipe is None:
            self._give_pipe(worker)
            return False
        if kind != local_wire.DONE:
            raise MalformedFrame("not the end of a delivery")
        code, text = local_wire.split_code(body)
        self._collected.add(text)
        self._ended(code)
        return True

    def worker_lost(self, code) -> None:
        self._ended(code or None)  # a worker that ends without an answer has not delivered, even if it exits 0

    def _give_pipe(self, worker):
        try:
            theirs = (self._make_pipe(),)
        except OSError:
            theirs = ()
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


class ExecutedDelivery(DeliveryTask):
    """A delivery in a process of its own that becomes pylocal, found in PATH."""

    def __init__(self, deliveries, order, account, uid, gid, local, domain) -> None:
        super().__init__(deliveries, order)
        self._account, self._identity = account, (uid, gid)
        self._local, self._domain = local, domain

    def start(self) -> None:
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
            self._close_message()
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
