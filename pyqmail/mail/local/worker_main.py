"""Warm workers of pylspawn: forked, given up to one user, then delivery after delivery over a socket.

A worker must not differ from the fresh process that the original starts for each delivery.  So before anything of the
user is touched it has the user's group, groups and uid, no descriptor but its socket, and the umask and limits of a
program that was started for this delivery.  A delivery leaves nothing behind: the working directory is set back, and
variables go to programs only.  What a worker may need is imported before the fork, since the user may not be able to
read our installation.  The wire is protocol/wires/local_wire.py.
"""

import _signal as signal  # without its enums
import _socket as socket  # without its enums
import os
import pwd
import resource

from pyqmail.mail.local import users
from pyqmail.mail.local.delivery import Delivery, DeliveryRequest
from pyqmail.mail.local.delivery_batch import DeliveryBatch, FlushTogether
from pyqmail.mail.local.maildir import MaildirNames
from pyqmail.mail.queue import alone  # noqa: F401 before the fork: a user may not be able to read our installation
from pyqmail.mail.queue.client import QueueClient
from pyqmail.mail.spawners.server import Collected
from pyqmail.protocol.wires import local_wire
from pyqmail.system.channel import receive_with
from pyqmail.system.descriptors import arrange
from pyqmail.system.driver import BlockingDriver
from pyqmail.system.processes import exit_code, spawn
from pyqmail.system.retrying import retried, write_surely

SOCKET = 3
NO_MESSAGE = b"Unable to read message: process cannot open more files. (#4.3.0)\n"
CANNOT_RUN = (1, 126, 127)  # of an interpreter without its modules, a shell, env; qmail-getpw has none of them


def prepare_child(socket_fd: int, home, open_files: int) -> None:
    """Make a forked child fit for work: its descriptors, directory, umask, signals and limits.  Raises OSError."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    arrange({0: null, 1: null, 2: null, SOCKET: socket_fd})
    os.set_inheritable(SOCKET, False)
    limit_open_files(open_files)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o077)
    os.chdir(home.path)


def limit_open_files(soft: int) -> int:
    """Set the soft limit of open files, as far as the hard one allows; return what it was."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return before


def leave(path: str) -> None:
    """Leave a user's directory for path, or for the root: that path is out of his reach makes no delivery undone."""
    try:
        os.chdir(path)
    except OSError:
        os.chdir("/")


def give_up_to(uid: int, gid: int, root_allowed: bool) -> int:
    """Become uid with gid as the only group; return 0, otherwise the exit code that says why not."""
    try:
        if not (os.getuid() == os.geteuid() == uid and os.getuid()):
            if os.getuid() == 0:
                os.setgroups([gid])
                os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
    except (OSError, OverflowError):
        return users.BUG
    if os.getresuid() != (uid, uid, uid):
        return users.BUG
    return 0 if uid or root_allowed else users.ROOT


def serve_deliveries(home, default: bytes, environ) -> int:
    """Make deliveries until the socket ends.  environ is what programs inherit; default as for qmail-local."""
    names, queue_client, flush = MaildirNames(), QueueClient(BlockingDriver(), home), FlushTogether()

    def queue_at_home():
        os.chdir(home.path)
        return queue_client

    def deliver(sock, body, descriptors):
        messages = local_wire.split_deliver(body)
        outputs = [Output(sock, number) for number in range(len(messages))]

        def done(number, code):
            text = outputs[number].close()
            _answer(sock, local_wire.pack(local_wire.DONE, local_wire.code_body(code, text), number))

        def stored(numbers):
            _answer(sock, local_wire.stored([(number, outputs[number].close()) for number in numbers]))

        batch = DeliveryBatch(flush, done, stored)
        for number, (fields, output, fd) in enumerate(zip(messages, outputs, descriptors, strict=False)):
            request = DeliveryRequest(*fields, default)
            batch.add(number, Delivery(request, fd, environ, output, queue_at_home, names), output)
        batch.close()
        for number in range(len(descriptors), len(messages)):  # there was no descriptor to be had
            outputs[number].complain(NO_MESSAGE)
            done(number, 111)
        leave(home.path)

    return _serve(local_wire.DELIVER, deliver, local_wire.MAX_TOGETHER)


def serve_lookups(program: str | None, environ) -> int:
    """Look users up until the socket ends: by running program, None: in the password database."""

    def look_up(sock, body, descriptors):
        try:
            fields = run_getpw(program, body, environ) if program else _find(body).pack()
        except users.Unknown as unknown:
            _answer(sock, local_wire.pack(local_wire.ACCOUNT, local_wire.code_body(unknown.code)))
        else:
            _answer(sock, local_wire.pack(local_wire.ACCOUNT, local_wire.code_body(0, fields)))

    return _serve(local_wire.LOOKUP, look_up)


def run_getpw(program: str, local: bytes, environ) -> bytes:
    """Return what a program with qmail-getpw's interface prints.  Raises Unknown with its exit code, or 121, 118."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        pid = spawn([os.fsencode(program), local], environ, environ.get(b"PATH"), {1: theirs})
    except OSError:
        os.close(ours)
        raise users.Unknown(users.NO_GETPW) from None
    finally:
        os.close(theirs)
    fields = b""
    while len(fields) < local_wire.PACKET_LIMIT - 100 and (piece := retried(os.read, ours, 4096)):
        fields += piece
    os.close(ours)
    code = exit_code(os.waitpid(pid, 0)[1])
    if code in CANNOT_RUN:
        raise users.Unknown(users.NO_GETPW)
    if code != 0:
        raise users.Unknown(users.SYSTEM if code is None else code)
    return fields


class Output:
    """The output of a delivery: kept here until a program runs, in the spawner's pipe from then on, in its order."""

    def __init__(self, sock, number: int) -> None:
        self._sock, self._number, self._own = sock, number, Collected()
        self._pipe: int | None = None

    def say(self, text: bytes) -> None:
        if self._pipe is None:
            self._own.add(text)
            return
        try:
            write_surely(self._pipe, text)
        except OSError:
            pass  # the delivery is made, even if nobody reads about it

    complain = say

    def descriptors(self) -> tuple[int, int]:
        if self._pipe is None:
            retried(self._sock.send, local_wire.pack(local_wire.NEED, b"", self._number))
            packet, descriptors = retried(receive_with, self._sock, local_wire.PACKET_LIMIT, 1)
            if not packet or local_wire.unpack(packet)[0] != local_wire.OUTPUT:
                os._exit(111)  # the spawner has gone, and with it everybody who could get a report
            own = self._own.text
            self._own = Collected()
            self._pipe = descriptors[0] if descriptors else os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
            if own:
                self.say(own)
        return self._pipe, self._pipe

    def close(self) -> bytes:
        """Close the pipe; return what was not written to it."""
        if self._pipe is not None:
            os.close(self._pipe)
        return self._own.text


def _serve(expected, work, most_descriptors=1):
    sock = socket.socket(fileno=SOCKET)
    while True:
        packet, descriptors = retried(receive_with, sock, local_wire.PACKET_LIMIT, most_descriptors)
        if not packet:
            return 0
        kind, _, body = local_wire.unpack(packet)
        if kind != expected:
            return 111
        work(sock, body, descriptors)
        for fd in descriptors:
            os.close(fd)


def _answer(sock, packet):
    retried(sock.send, packet)  # must not be lost: a delivery that it reports would be made again


def _find(local):
    return users.find_in_passwd(local, pwd.getpwnam)
