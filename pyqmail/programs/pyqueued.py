"""Queue messages for all local programs: the one process that writes new mail into the queue.

Runs as the queue's user and listens on run/pyqueued below the qmail home.  A client sends message and envelope inline,
or passes two descriptors as qmail-queue has them, and is answered with qmail-queue's exit code and the qp.  Requests
that arrive together share one disk flush.  A message is acknowledged only once it and its names are on disk.

A uid that is not one of qmail's users is a stranger.  Each connection of a stranger has a process of its own, which may
wait for the data.  All strangers together have at most 200 connections (with few descriptors, a quarter of their
number); then the uid with most connections gives one up to a uid that has fewer.  A stranger has at most 20 messages by
descriptors at a time; no more than 2 descriptors may arrive without their request.  A frame has to be complete after 30
seconds.  A message of a stranger has at most control/localbytes bytes, otherwise the exit code is 31.

Below control/queueminfree free bytes, or 1 % of free inodes, nothing is queued: the exit code is 53, for which pysmtpd
replies 452.  Both control files are checked for each message.

pyqueued never waits for its log: up to 64 KB of unread lines are kept, further ones are dropped and counted.  Of
warnings with the same reason one is written in a second, the others are counted.

Linux ignores setuid on scripts; this is why there is a service where the original has a setuid program.  The Received
line and the queue have the uid that the kernel reports for the client.

TERM: accepted requests are finished and answered, then it exits.  Only one pyqueued runs for a queue: it holds
queue/lock/pyqueued, which also has the next qp.
"""

import gc
import os
import resource
import signal
import socket

from pyqmail.base.failure import Temporary
from pyqmail.mail.queue.bounds import CONTROLS, MessageRefused, read_bounds
from pyqmail.mail.queue.file_store import FileStore
from pyqmail.mail.queue.files import find_queue, hold_writer_lock
from pyqmail.mail.queue.origin import invokers, qmail_uids
from pyqmail.mail.queue_server.numbers import QueueNumbers
from pyqmail.mail.queue_server.server import Capacity, QueueServer
from pyqmail.system.bounded_log import BoundedLog
from pyqmail.system.command_line import Program
from pyqmail.system.controls import Controls
from pyqmail.system.descriptors import open_standard_descriptors
from pyqmail.system.fsync_batch import FsyncBatch
from pyqmail.system.home import find_home
from pyqmail.system.loop import Loop
from pyqmail.system.privileges import drop_to, forbid_new_privileges

PROGRAM = Program(
    name="pyqueued",
    summary="write new mail into the queue for other programs",
    controls=CONTROLS,
    controls_count={"others": "from the next message on"},
    environment=["PYQMAIL_HOME"],
    exits={0: "ended by TERM", 111: "could not start"},
    see=["pyqueue(8)", "pyqmail-queue(5)", "pyqmail-wires(5)"],
)
_MAX_PATH = 107  # bytes of a UNIX socket's path
_BACKLOG = 4096


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, serve)


def serve(call) -> int:
    open_standard_descriptors()
    home = find_home(call.environ)
    names = find_queue(home.queue)
    flusher = FsyncBatch()  # what it loads, the queue's user need not be able to read
    forbid_new_privileges()
    become_queue_user(home)
    known = invokers(home)
    os.umask(0o033)
    lock = lock_queue(names)
    try:
        store, numbers = FileStore(names, known, flusher.sync), QueueNumbers(lock)
        store.prepare()
    except OSError as error:
        raise Temporary(f"unable to use {names.queue}", error) from None
    listener = listen(home.queue_socket)
    loop, capacity = Loop(), Capacity(raise_limit())
    log = BoundedLog(loop, PROGRAM.label)
    controls = Controls(home.control, CONTROLS, complain=log.warn)
    say_odd_numbers(controls)
    server = QueueServer(loop, listener, store, numbers, controls, log, qmail_uids(home), capacity)
    loop.on_signal(signal.SIGTERM, server.stop)
    log.say("status: listening")
    gc.freeze()  # what a forked process does not look at it need not copy
    loop.run()
    try:
        os.unlink(home.queue_socket)
    except OSError:
        pass
    return 0


def lock_queue(names) -> int:
    """Return the descriptor that holds the lock of the one writer.  Raises Temporary."""
    try:
        lock = hold_writer_lock(names, alone=True)
    except OSError as error:
        raise Temporary(f"unable to open {names.writer_lock}", error) from None
    if lock is None:
        raise Temporary(f"unable to lock {names.writer_lock}: another process writes this queue")
    return lock


def say_odd_numbers(controls) -> None:
    """Complain of them at the start, not with the first message; what cannot be read now may be there then."""
    try:
        read_bounds(controls, is_trusted=False)
    except MessageRefused:
        pass


def become_queue_user(home) -> None:
    """Run as the queue's user; only root can change to it.  Raises Temporary."""
    try:
        uid, gid = home.uid("qmailq"), home.gid("qmail")
    except LookupError as missing:
        raise Temporary(f"unable to find user or group {missing}") from None
    if os.geteuid() == uid:
        return
    try:
        make_run(home, uid, gid)
        drop_to(uid, gid, [])
    except OSError as error:
        raise Temporary(f"unable to run as uid {uid}, whose queue this is", error) from None


def make_run(home, uid: int, gid: int) -> None:
    """Make the folder for the socket, which the original's installer does not know.  Raises OSError."""
    try:
        os.mkdir(home.run, 0o755)
    except OSError:
        return  # it is there; if it cannot be made, listening will say so
    fd = os.open(home.run, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(fd, uid, gid)
    finally:
        os.close(fd)


def listen(path: str) -> socket.socket:
    """Return the listening socket at path, for everybody.  Raises Temporary.

    Only with the writer's lock held: what stands there is then nobody's any more.
    """
    if len(os.fsencode(path)) > _MAX_PATH:
        raise Temporary(f"unable to listen on {path}: a socket's path has at most {_MAX_PATH} bytes")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    mask = os.umask(0o111)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise Temporary(f"unable to listen on {path}", error) from None
    finally:
        os.umask(mask)
    return listener


def raise_limit() -> int:
    """Take as many descriptors as we may; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
