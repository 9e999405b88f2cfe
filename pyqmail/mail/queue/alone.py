"""Queue one message without pyqueued: what pyqueue and a fallback of the queue's own programs do."""

import os

from pyqmail.base.failure import Failure, Temporary
from pyqmail.mail.queue.bounds import CONTROLS, Bounds, MessageRefused, read_bounds
from pyqmail.mail.queue.file_store import FileStore
from pyqmail.mail.queue.files import QueueNames, find_queue, hold_writer_lock
from pyqmail.mail.queue.origin import Origin, invokers, qmail_uids
from pyqmail.mail.queue.pieces import read_pieces
from pyqmail.mail.queue.store import NewMessage
from pyqmail.system.controls import Controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyqmail.mail.queue.store import Store
    from pyqmail.system.home import Home


def queue_alone(
    home: "Home",
    origin: Origin,
    message_fd: int,
    envelope: bytes,
    make_store: "Callable[[QueueNames, Mapping[int, bytes]], Store]" = FileStore,
) -> int:
    """Queue one message without pyqueued: only as the queue's user, and while no pyqueued lives.

    message_fd is read to its end, envelope is a whole stream.  make_store(names, known) returns the Store.  Returns
    qmail-queue's exit code.  Raises Temporary if one of qmail's users is missing.
    """
    if not os.path.isdir(home.path):
        return 61
    names = _own_queue(home)
    if names is None:
        return 62
    known, is_trusted = invokers(home), origin.uid in qmail_uids(home)
    os.umask(0o033)
    try:
        bounds = read_bounds(Controls(home.control, CONTROLS), is_trusted)
    except MessageRefused as refused:
        return refused.exit_code
    try:
        lock = hold_writer_lock(names, alone=False)
    except OSError:
        return 62
    if lock is None:
        return 71
    try:
        return _add_one(make_store(names, known), origin, message_fd, envelope, bounds)
    finally:
        os.close(lock)


def _own_queue(home: "Home") -> QueueNames | None:
    """Return the queue if it can be used, and is ours.  Raises Temporary if its user is missing."""
    try:
        names = find_queue(home.queue)
        queue_uid = home.uid("qmailq")
    except Failure:
        return None
    except LookupError:
        raise Temporary("unable to find user qmailq") from None
    return names if os.geteuid() == queue_uid else None


def _add_one(store: "Store", origin: Origin, message_fd: int, envelope: bytes, bounds: Bounds) -> int:
    try:
        store.prepare()
    except OSError:
        return 62
    try:
        staged = store.stage(bounds)
        try:
            store.write_staged(staged, origin, read_pieces(message_fd), (envelope,), bounds)
        except MessageRefused:
            store.discard(staged)
            raise
        return store.add([NewMessage(origin, staged=staged)])[0].exit_code
    except MessageRefused as refused:
        return refused.exit_code
    except OSError:
        return 62
    finally:
        store.close()
