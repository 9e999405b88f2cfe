"""The local spawner: for each order find the user, have a worker of that user deliver, report how it ended.

    order --> users/cdb --+-- found ---------------------------------> a worker of that uid delivers --> report
                          +-- not there --> a worker of qmailp looks
                                            into the password database --^

Workers are forked when there is work for a user and end when there has been none for a few seconds; quick
deliveries share them, slow ones do not wait for each other (worker_pool.py).  With `execute_each` each
delivery is a process that becomes pylocal, as with the original.

What is kept true: every order gets exactly one report, and K only if a delivery has said so itself.  A delivery has two
ends, its exit code and the end of its output, and is reported once both are there: a program that it left behind may
still write.  Orders of a batch have one recipient: a worker gets those that are there, and makes them one after the
other or, where they go to Maildirs alone, together (delivery_batch.py); no second worker has any of them meanwhile.
The password database is read in a process of its own, since a look-up may take as long as a directory server does, and
as a user who can read nothing else.
"""

import os

from pyqmail.mail.local import users, worker_main
from pyqmail.mail.local.delivery_tasks import (
    OUT_OF_MEMORY,
    REPORTS,
    ExecutedDelivery,
    LookupTask,
    RecipientBatch,
    WorkerDelivery,
    WorkerTask,
    report_for,
)
from pyqmail.mail.local.worker_pool import WorkerPool
from pyqmail.mail.spawners.server import OrderRefused
from pyqmail.protocol.wires import local_wire
from pyqmail.protocol.wires.frames import MalformedFrame
from pyqmail.system.cdb import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyqmail.mail.spawners.server import Messages


class LocalDeliveries:
    """Makes the deliveries of a spawner.  report(number, text, is_stored) is called once for each deliver(order).

    is_stored: it went to Maildirs alone.  max_workers: how many deliveries there can be at once.  open_files: the limit
    that programs get.  messages opens the message of an order that has none open: one of a batch.
    """

    def __init__(self, loop, home, default, environ, execute_each, max_workers, open_files) -> None:
        self.loop, self.home, self.default, self.environ = loop, home, default, environ
        self.max_workers, self.open_files = max_workers, open_files
        self.report: Callable[[int, bytes, bool], object]  # set by the owner of the spawner
        self.messages: Messages  # so
        self._batches: dict[int, RecipientBatch] = {}
        self._execute_each = execute_each
        self._owner = home.owner()
        self._owner_gid = None if self._owner is None else home.gid("nofiles")
        self._assigned = UsersCdb(f"{home.users}/cdb")
        self._pools: dict[tuple[int, int] | None, WorkerPool] = {}

    def deliver(self, order) -> None:
        if not order.batch:
            self.find_user(order)
            return
        batch = self._batches.get(order.batch)
        if batch is None:
            batch = self._batches[order.batch] = RecipientBatch(self, order.batch)
        batch.add(order)

    def find_user(self, order) -> None:
        """Begin with an order: find out whose it is."""
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
        fields = account.user, account.home, local, account.dash, account.ext, domain
        try:
            members = [WorkerDelivery(self, order, local_wire.message_fields(fields, order.sender))]
        except MalformedFrame:
            self._refuse(order, OUT_OF_MEMORY)
            return
        batch = self._batches.get(order.batch)
        if batch is not None:
            members += batch.companions(order, fields, members[0].size)
        task = WorkerTask(members, batch)
        self._pool((uid, gid), lambda: self._work_for(uid, gid)).submit(task)

    def finish(self, order, report, is_stored=False) -> None:
        self.report(order.number, report, is_stored)
        batch = self._batches.get(order.batch)
        if batch is not None:
            batch.finished(order)

    def forget_batch(self, number) -> None:
        del self._batches[number]

    def close(self) -> None:
        """End all workers; none has anything to do."""
        for pool in self._pools.values():
            pool.close()

    def is_root_allowed(self) -> bool:
        return self._owner == 0

    def forget_pool(self, key) -> None:
        self._pools.pop(key, None)

    def _refuse(self, order, report):
        order.close_message()
        self.finish(order, report)

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
