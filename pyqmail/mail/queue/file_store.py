"""Writing new messages into the queue files, many at a time, durable before anybody is told.

A message is begun (S2), filled (S3) and settled (S4): its files are committed together with those of the whole
batch, only then todo/ID is linked, that name is committed too, and the trigger pulled once.  Whatever fails
takes its files with it: intd first, then mess.  Exit codes are qmail-queue's.
"""

import os
import select
import time

from pyqmail.base.dates import header_date
from pyqmail.base.failure import Failure, Temporary
from pyqmail.mail.queue.bounds import CONTROLS, Bounds, MessageRefused, bounded, read_bounds
from pyqmail.mail.queue.commit import ByFile
from pyqmail.mail.queue.files import QueueNames, find_queue, hold_writer_lock, pull_trigger
from pyqmail.protocol.envelope import BadEnvelope, EnvelopeReader, todo_head
from pyqmail.system.controls import Controls
from pyqmail.system.descriptors import write_all
from pyqmail.system.home import USERS

_PIECE = 262144
_UNSAFE = "not safely on disk"
_MAX_NAMES = 9


class Origin:
    """Who hands a message in: uid, the qp it goes by, the time in Unix seconds."""

    __slots__ = ("uid", "qp", "seconds")

    def __init__(self, uid: int, qp: int, seconds: int) -> None:
        self.uid, self.qp, self.seconds = uid, qp, seconds


class NewMessage:
    """A message that is not queued yet.

    message_fd and envelope_fd are -1 when closed; what is still open is committed with the batch.  exit_code is
    None until it is decided; why is what a log says of it.
    """

    __slots__ = ("number", "message_fd", "envelope_fd", "exit_code", "why")

    def __init__(self, number: int, message_fd: int) -> None:
        self.number, self.message_fd, self.envelope_fd = number, message_fd, -1
        self.exit_code, self.why = None, ""

    def files(self) -> list[int]:
        return [fd for fd in (self.message_fd, self.envelope_fd) if fd >= 0]

    def close(self) -> None:
        for fd in self.files():
            os.close(fd)
        self.message_fd = self.envelope_fd = -1


def invokers(home) -> dict[int, bytes]:
    """Return uid -> what the Received line says of it; any other uid is `by uid N`.

    Empty in a private home, where one user is everybody.  Raises Temporary if a user is missing.
    """
    if home.owner() is not None:
        return {}
    known = {}
    for user, words in (("alias", b"by alias"), ("qmaild", b"from network"), ("qmails", b"for bounce")):
        try:
            known.setdefault(home.uid(user), words)
        except LookupError:
            raise Temporary(f"unable to find user {user}") from None
    return known


def received_line(origin: Origin, known: dict[int, bytes]) -> bytes:
    """Return the first line of a queued message, its newline included."""
    who = known.get(origin.uid) or b"by uid %d" % origin.uid
    return b"Received: (qmail %d invoked %b); %b\n" % (origin.qp, who, header_date(origin.seconds))


_UNBOUNDED = Bounds()


class FileStore:
    """Writes messages into one queue.  known: see invokers().  Raises OSError if the queue cannot be opened."""

    def __init__(self, names: QueueNames, known: dict[int, bytes], commit=None) -> None:
        self._names, self._known, self._commit = names, known, commit or ByFile()
        self._sequence = 0
        self._parts = [_open_directory(f"{names.queue}/mess/{part}") for part in range(names.split)]
        self._todo = _open_directory(f"{names.queue}/todo")

    def close(self) -> None:
        for fd in (*self._parts, self._todo):
            os.close(fd)

    def begin(self, bounds: Bounds = _UNBOUNDED) -> NewMessage:
        """Make mess/ID: a new file, linked to the number its inode has.  Raises Refused (53, 63, 64)."""
        bounds.check_room(self._todo)
        names = []
        try:
            return self._begin(names)
        finally:
            for name in names:
                _unlink(name)

    def _begin(self, names):
        for _ in range(_MAX_NAMES):
            self._sequence += 1
            name = self._names.pid(f"{os.getpid()}.{int(time.time())}.{self._sequence}")
            try:
                fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                continue
            except OSError as error:
                raise MessageRefused(63, error) from None
            names.append(name)
            number = os.fstat(fd).st_ino
            try:
                os.link(name, self._names.mess(number))
            except OSError as error:
                os.close(fd)
                if not isinstance(error, FileExistsError):
                    raise MessageRefused(64, error) from None
                # A queue that was copied: another message has this number for its name.  The file keeps its
                # pid name meanwhile, so that the next one gets another inode.
                continue
            return NewMessage(number, fd)
        raise MessageRefused(64 if names else 63)

    def fill(self, newcomer: NewMessage, origin: Origin, message: bytes, stored: bytes) -> None:
        """Write the message and its envelope, stored being its records.  Raises Refused (53, 65)."""
        try:
            write_all(newcomer.message_fd, received_line(origin, self._known) + message)
            self.open_envelope(newcomer)
            write_all(newcomer.envelope_fd, todo_head(origin.uid, origin.qp) + stored)
        except OSError as error:
            raise MessageRefused(53, error) from None

    def copy(self, newcomer: NewMessage, origin: Origin, message, envelope, bounds: Bounds = _UNBOUNDED) -> None:
        """Write message and envelope stream as they come, both in pieces, and commit the two files.

        May take as long as whoever writes them.  Raises Refused (11, 31, 53, 54, 65, 91).
        """
        try:
            write_all(newcomer.message_fd, received_line(origin, self._known))
            for piece in bounded(message, bounds, newcomer.message_fd):
                write_all(newcomer.message_fd, piece)
            if newcomer.envelope_fd < 0:
                self.open_envelope(newcomer)
            write_all(newcomer.envelope_fd, todo_head(origin.uid, origin.qp))
            reader = EnvelopeReader()
            for piece in bounded(envelope, bounds, newcomer.envelope_fd):  # recipients need not end either
                write_all(newcomer.envelope_fd, reader.receive(piece))
                if reader.ended:
                    break
            reader.close()
        except BadEnvelope as bad:
            raise MessageRefused(bad.exit_code) from None
        except OSError as error:
            raise MessageRefused(53, error) from None
        if self._commit.commit(newcomer.files(), ()):
            raise MessageRefused(53, why=_UNSAFE)

    def settle(self, newcomers) -> None:
        """Commit what the newcomers' open files hold, queue them, and set each exit_code: 0, 53 or 66."""
        parts = {newcomer.number % self._names.split for newcomer in newcomers}
        files = [fd for newcomer in newcomers for fd in newcomer.files()]
        unsafe = self._commit.commit(files, [self._parts[part] for part in parts])
        linked = []
        for newcomer in newcomers:
            place = self._parts[newcomer.number % self._names.split]
            if unsafe and not unsafe.isdisjoint((*newcomer.files(), place)):
                self.refuse(newcomer, 53, _UNSAFE)
                continue
            newcomer.close()
            # todo is linked only now: until then a crash leaves nothing to deliver
            try:
                os.link(self._names.intd(newcomer.number), self._names.todo(newcomer.number))
            except OSError as error:
                self.refuse(newcomer, 66, MessageRefused(66, error).why)
                continue
            linked.append(newcomer)
        if not linked:
            return
        if self._commit.commit((), (self._todo,)):
            self._take_back(linked)
            return
        for newcomer in linked:
            newcomer.exit_code = 0
        pull_trigger(self._names)

    def refuse(self, newcomer: NewMessage, exit_code: int, why: str = "") -> None:
        """Give up a newcomer and remove its files, intd before mess."""
        newcomer.close()
        newcomer.exit_code, newcomer.why = exit_code, why
        _unlink(self._names.intd(newcomer.number))
        _unlink(self._names.mess(newcomer.number))

    def open_envelope(self, newcomer: NewMessage) -> None:
        """Make intd/ID.  Raises Refused (65)."""
        name = self._names.intd(newcomer.number)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                newcomer.envelope_fd = os.open(name, flags, 0o644)
            except FileExistsError:
                # The number is ours since mess/ID is: this was left by a message that is gone.
                if os.path.lexists(self._names.todo(newcomer.number)):
                    raise
                os.unlink(name)
                newcomer.envelope_fd = os.open(name, flags, 0o644)
        except OSError as error:
            raise MessageRefused(65, error) from None

    def _take_back(self, linked):
        """The names in todo are not safe: remove them, and no more.

        The queue manager may know the messages already: until it or its sweep removes mess/ID, nobody else can
        get the number.
        """
        for newcomer in linked:
            newcomer.exit_code, newcomer.why = 53, _UNSAFE
            try:
                os.unlink(self._names.todo(newcomer.number))
            except OSError:
                pass


def admit_alone(home, origin: Origin, message_fd: int, envelope: bytes) -> int:
    """Queue one message without pyqueued: only as the queue's user, and while no pyqueued lives.

    message_fd is read to its end, envelope is a whole stream.  Returns qmail-queue's exit code.  Raises Temporary if
    one of qmail's users is missing.
    """
    if not os.path.isdir(home.path):
        return 61
    try:
        names = find_queue(home.queue)
        queue_uid = home.uid("qmailq")
    except Failure:
        return 62
    except LookupError:
        raise Temporary("unable to find user qmailq") from None
    if os.geteuid() != queue_uid:
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
        admission = FileStore(names, known)
        try:
            return _admit(admission, origin, message_fd, envelope, bounds)
        finally:
            admission.close()
    except OSError:
        return 62
    finally:
        os.close(lock)


def _admit(admission, origin, message_fd, envelope, bounds):
    try:
        newcomer = admission.begin(bounds)
    except MessageRefused as refused:
        return refused.exit_code
    try:
        admission.copy(newcomer, origin, read_pieces(message_fd), (envelope,), bounds)
    except MessageRefused as refused:
        admission.refuse(newcomer, refused.exit_code)
    else:
        admission.settle([newcomer])
    return newcomer.exit_code


def qmail_uids(home, with_ourselves=True) -> set[int]:
    """Return the uids trusted with the queue: root, ourselves, and qmail's users; any other is a stranger's."""
    trusted = {0, os.geteuid()} if with_ourselves else {0}
    for user in USERS:
        try:
            trusted.add(home.uid(user))
        except LookupError:
            pass
    return trusted


def read_pieces(fd: int):
    """Yield what a descriptor has, to its end, waiting where it is non-blocking.  Raises Refused (54)."""
    while True:
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll()
            continue
        except OSError as error:
            raise MessageRefused(54, error) from None
        if not piece:
            return
        yield piece


def _open_directory(path):
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _unlink(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
