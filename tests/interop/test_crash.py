"""The queue manager dies, or the power fails, at each of its operations on the queue in turn; then it starts again.

pysend and pyclean are real and run in forked children; there, and only there, `Shim` stands between them and the
file system: it counts, tells of what changed the queue, and ends the process.  The spawners, the resolver and the
queue's writer are played here.  What must hold: each recipient is delivered to at least once, or stands in a bounce;
then nothing is left but what the sweep removes.

A loss of power is a model, not a disk: a file's content lasts from its fsync on, its name from that of its directory,
and what was not synced may have happened or not.  Untested: a write that was torn; two losses of power in a row.
"""

import errno
import functools
import os
import random
import select
import signal
import socket
import time

import pytest

from pyqmail.mail.manager import channel as channels
from pyqmail.mail.manager import completion, materialize
from pyqmail.mail.queue.file_store import FileStore
from pyqmail.mail.queue.files import QueueNames, state_of
from pyqmail.mail.queue.origin import Origin
from pyqmail.mail.queue.store import NewMessage
from pyqmail.programs import pyclean, pysend
from pyqmail.protocol import envelope
from pyqmail.protocol.wires import native_dialect, queue_wire, resolve_wire, stock_dialect
from pyqmail.system import fsync_batch
from pyqmail.system.descriptors import arrange
from pyqmail.system.home import Home

# what a process imports by itself only once it needs it
from pyqmail.mail.routing import lookup  # noqa: F401 isort: skip
from pyqmail.mail.spawners import native_client  # noqa: F401 isort: skip
from pyqmail.system import interfaces  # noqa: F401 isort: skip
from tests.waiting import STEP_SECONDS, until

DIED = 137
SPLIT = 3
RECORD = 30  # the descriptor that is told of operations
SECONDS = 20
FOLDERS = ("mess", "intd", "todo", "info", "local", "remote", "bounce")


class Shim:
    """In a child: counts what changes the queue, tells of it, and dies just before or just after the die_at-th."""

    def __init__(self, queue, die_at=None, after=False):
        self._queue, self._die_at, self._after, self._count = queue + "/", die_at, after, 0
        self._files = {}  # descriptor -> (path, inode, is directory)
        self._open, self._write, self._pwrite, self._close = os.open, os.write, os.pwrite, os.close

    def install(self):
        for name in ("open", "close", "write", "pwrite", "unlink", "link", "utime", "ftruncate", "fsync", "fdatasync"):
            setattr(os, name, functools.partial(getattr(self, "do_" + name), getattr(os, name)))

    def do_open(self, real, path, flags, *rest, **more):
        where = self._place(path)
        is_new = where is not None and flags & os.O_CREAT and not os.path.lexists(self._queue + where)
        if not is_new:
            fd = real(path, flags, *rest, **more)
        else:
            work = functools.partial(real, path, flags, *rest, **more)
            fd = self._change(work, lambda fd: ("create", where, os.fstat(fd).st_ino))
        if where is not None:
            self._files[fd] = where, os.fstat(fd).st_ino, bool(flags & os.O_DIRECTORY)
        return fd

    def do_close(self, real, fd):
        self._files.pop(fd, None)
        real(fd)

    def do_write(self, real, fd, data):
        if fd not in self._files:
            return real(fd, data)
        inode, at = self._files[fd][1], os.fstat(fd).st_size
        return self._change(lambda: real(fd, data), lambda _: ("write", inode, at, bytes(data)))

    def do_pwrite(self, real, fd, data, offset):
        if fd not in self._files:
            return real(fd, data, offset)
        inode = self._files[fd][1]
        return self._change(lambda: real(fd, data, offset), lambda _: ("write", inode, offset, bytes(data)))

    def do_ftruncate(self, real, fd, size):
        raise AssertionError("nothing fails here, so nothing is cut")

    def do_unlink(self, real, path, **more):
        where = self._place(path)
        if where is None or not os.path.lexists(self._queue + where):
            return real(path, **more)
        return self._change(lambda: real(path, **more), None, ("unlink", where))

    def do_link(self, real, source, target, **more):
        change = ("link", self._place(source), self._place(target))
        return self._change(lambda: real(source, target, **more), lambda _: change)

    def do_utime(self, real, path, times):
        inode = os.stat(path).st_ino
        return self._change(lambda: real(path, times), lambda _: ("utime", inode, times[1]))

    def do_fsync(self, real, fd):
        if fd not in self._files:
            return None
        where, inode, is_directory = self._files[fd]
        # not done: it changes nothing for who is killed, and takes its time
        return self._change(lambda: None, lambda _: ("sync names", where) if is_directory else ("sync", inode))

    do_fdatasync = do_fsync

    def _place(self, path):
        """Return where in the queue a path leads, `todo/5`, None for anything else."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None
        whole = os.path.abspath(os.fsdecode(path))
        where = whole[len(self._queue) :] if whole.startswith(self._queue) else "lock"
        return None if where.startswith("lock") else where

    def _change(self, work, told, first=None):
        self._count += 1
        if self._count == self._die_at and not self._after:
            os._exit(DIED)
        if first is not None:
            self._tell(first)  # an unlink may last from now on
        result = work()
        if first is None:
            self._tell(told(result))
        if self._count == self._die_at:
            os._exit(DIED)
        return result

    def _tell(self, change):
        self._write(RECORD, repr(change).encode() + b"\n")


class Refusing(Shim):
    """The first attempt to remove each channel file fails."""

    def __init__(self, queue):
        super().__init__(queue)
        self._refused = set()

    def install(self):
        super().install()
        channels.TROUBLE_SECONDS = completion.TROUBLE_SECONDS = 0

    def do_unlink(self, real, path, **more):
        where = self._place(path) or ""
        if where.startswith(("local/", "remote/")) and os.path.exists(path) and where not in self._refused:
            self._refused.add(where)
            raise OSError(errno.EIO, "refused")
        return super().do_unlink(real, path, **more)


class World:
    """A private home with a queue, what was delivered and bounced so far, and the record of all that happened."""

    def __init__(self, place):
        for folder in ("control", "users", "alias", "run", "queue"):
            os.makedirs(f"{place}/{folder}")
        self.home = Home(str(place))
        self.names = QueueNames(self.home.queue, SPLIT)
        for folder in ("pid", "lock", "intd", "todo", "bounce"):
            os.mkdir(f"{self.home.queue}/{folder}")
        for folder in ("mess", "info", "local", "remote"):
            for part in range(SPLIT):
                os.makedirs(f"{self.home.queue}/{folder}/{part}")
        for path, content in (("private", b""), ("control/me", b"here.example\n"), ("queue/lock/sendmutex", b"")):
            write(f"{place}/{path}", content)
        os.mkfifo(self.names.trigger)
        self.delivered, self.bounces, self.tries = [], [], {}
        self.record = os.open(f"{place}/record", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def note(self, *event):
        os.write(self.record, repr(event).encode() + b"\n")

    def events(self):
        with open(f"{self.home.path}/record", "rb") as file:
            return [eval(line) for line in file]  # noqa: S307 our own repr()

    def files(self):
        """Return {path below the queue: content} of all but lock/ and pid/."""
        found = {}
        for folder in FOLDERS:
            for place, _, inside in os.walk(f"{self.home.queue}/{folder}"):
                for name in inside:
                    try:
                        with open(f"{place}/{name}", "rb") as file:
                            found[f"{place}/{name}"[len(self.home.queue) + 1 :]] = file.read()
                    except FileNotFoundError:
                        pass  # just removed
        return found

    def inject(self, sender, recipients):
        first = f"{self.home.queue}/pid/{time.monotonic_ns()}"
        write(first, b"the message\n")
        number = os.stat(first).st_ino
        os.rename(first, self.names.mess(number))
        records = b"".join(b"T" + recipient + b"\0" for recipient in recipients)
        write(self.names.intd(number), envelope.todo_head(1000, 77) + b"F" + sender + b"\0" + records)
        os.link(self.names.intd(number), self.names.todo(number))
        return number

    def is_done(self):
        """Return whether no message is S4 or S5 any more."""
        return not any(inside for name in ("todo", "info") for _, _, inside in os.walk(f"{self.home.queue}/{name}"))


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


# what the mail of the test is, and what becomes of it

DELIVERED = [b"held@here.example", b"late@far.example", b"quick@here.example", b"quick@far.example", b"old@far.example"]
FAILED = [b"no1@here.example", b"no2@far.example", b"no3@here.example"]


def fill(world):
    """Put in: mail that lasts, defers and fails; mail that ends unsettled; a bounce that fails; mail that is S5."""
    held = world.inject(b"s@x", [b"held@here.example", b"no1@here.example", b"late@far.example", b"no2@far.example"])
    world.inject(b"s@x", [b"quick@here.example", b"quick@far.example"])
    world.inject(b"", [b"no3@here.example"])
    old = world.inject(b"s@x", [])
    os.unlink(world.names.intd(old))
    os.unlink(world.names.todo(old))
    write(world.names.info(old), b"Fs@x\0")
    write(world.names.remote(old), b"Dearlier@far.example\0Told@far.example\0")
    return held


def keeps_its_promise(world):
    """Return what is missing: recipients that were neither delivered to nor bounced."""
    text = b"".join(message for _, message in world.bounces)
    missing = [recipient for recipient in DELIVERED if recipient not in world.delivered]
    return missing + [recipient for recipient in FAILED if b"<%b>:\nno such user\n\n" % recipient not in text]


def check_bounces(world):
    for stream, message in world.bounces:
        assert stream == (b"F#@[]\0Tpostmaster@here.example\0\0" if b"no3@" in message else b"F\0Ts@x\0\0")
        assert message.endswith(b"the message\n")
        assert not any(b"<%b>" % recipient in message for recipient in DELIVERED)


class Peer:
    """One of those pysend talks to: takes its orders from a pipe, reports into another."""

    def __init__(self, stage, receive, hello=b""):
        theirs_in, self.commands = os.pipe()
        self.reports, self._out = os.pipe()
        self.fd, self._receive = theirs_in, receive
        stage.peers.append(self)
        self.say(hello)

    def say(self, data):
        try:
            os.write(self._out, data)
        except BrokenPipeError:
            pass

    def ready(self):
        data = os.read(self.fd, 65536)
        if data:
            self._receive(data)
        return bool(data)

    def given(self):
        os.close(self.commands)
        os.close(self.reports)

    def close(self):
        os.close(self.fd)
        os.close(self._out)


class Stage:
    """One life of pysend and pyclean in a world, with everybody they talk to.

    held is the number of the message whose recipient `held` is not reported before todo has gone.
    """

    def __init__(self, world, is_native, held, send=None, clean=None):
        self.world, self.held, self._held = world, held, []
        self.peers, self._clients, self.log, self._deferrals = [], {}, b"", -1
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.path.exists(world.home.queue_socket):
            os.unlink(world.home.queue_socket)
        self._sock.bind(world.home.queue_socket)
        self._sock.listen(5)
        make = self._native if is_native else self._stock
        local, remote = make(True), make(False)
        self._resolver = self._make_resolver() if is_native else None
        clean_in, clean_commands = os.pipe()
        clean_answers, clean_out = os.pipe()
        self._log_fd, log = os.pipe()
        descriptors = {0: log, 1: local.commands, 2: local.reports, 3: remote.commands, 4: remote.reports}
        descriptors.update({5: clean_commands, 6: clean_answers})
        if is_native:
            descriptors.update({7: self._resolver.commands, 8: self._resolver.reports})
        words = ["pysend", "--native"] if is_native else ["pysend"]
        self.pid = self._fork(pysend.main, words, descriptors, send)
        self.clean_pid = self._fork(pyclean.main, ["pyclean"], {0: clean_in, 1: clean_out, 2: log}, clean)
        for fd in (clean_in, clean_commands, clean_answers, clean_out, log):
            os.close(fd)
        for peer in self.peers:
            peer.given()

    def play(self, is_enough):
        """Go on until pysend ends; tell it to once is_enough().  Returns its exit code."""
        ended = os.pidfd_open(self.pid)
        poll, by_fd = select.poll(), {self._log_fd: self._read_log, self._sock.fileno(): self._accept}
        by_fd.update({peer.fd: peer.ready for peer in self.peers})
        self._poll, self._by_fd = poll, by_fd
        for fd in (ended, *by_fd):
            poll.register(fd, select.POLLIN)
        limit, is_told = time.monotonic() + SECONDS, False
        try:
            while True:
                for fd, _ in poll.poll(5):
                    if fd == ended:
                        return self.end()
                    if not by_fd[fd]():
                        poll.unregister(fd)
                self._release()
                if not is_told and is_enough():
                    is_told = True
                    os.kill(self.pid, signal.SIGTERM)
                if time.monotonic() > limit:
                    os.kill(self.pid, signal.SIGKILL)
                    self.end()
                    raise AssertionError(f"not done: {self.world.files()}\n{self.log.decode()}")
        finally:
            os.close(ended)

    def end(self):
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._deferrals = float("inf")  # it hears no signal any more
        while self._read_log():
            pass  # until pyclean has ended too
        os.waitpid(self.clean_pid, 0)
        for peer in self.peers:
            peer.close()
        for client, _ in self._clients.values():
            client.close()
        self._sock.close()
        os.close(self._log_fd)
        return code

    def _read_log(self):
        data = os.read(self._log_fd, 65536)
        self.log += data
        if b"status:" in self.log and self.log.count(b": deferral: ") > self._deferrals:
            self._deferrals = self.log.count(b": deferral: ")
            os.kill(self.pid, signal.SIGALRM)  # what was deferred, in this life or the one before, is due at once
        return bool(data)

    def _fork(self, main, words, descriptors, shim):
        pid = os.fork()
        if pid:
            return pid
        code = 99
        try:
            arrange({**descriptors, RECORD: self.world.record})
            os.environb[b"PYQMAIL_HOME"] = self.world.home.path.encode()
            os.environb.pop(b"QMAILQUEUE", None)
            signal.set_wakeup_fd(-1)
            fsync_batch._CALLS = {}  # one fsync after the other, so that each is seen
            materialize.UNSETTLED_SECONDS = materialize.WAITING_SECONDS = 0.03
            (shim or Shim(self.world.home.queue)).install()
            code = main(words)
        finally:
            os._exit(code)

    # deliveries

    def _answer(self, recipient, report):
        """Report what the mail of the test says of a recipient."""
        world = self.world
        world.tries[recipient] = world.tries.get(recipient, 0) + 1
        if recipient in FAILED:
            report(b"Dno such user\n")
        elif recipient.startswith(b"late") and world.tries[recipient] == 1:
            report(b"Zlater\n")
        elif recipient.startswith(b"held"):
            self._held.append(report)
        else:
            assert recipient in DELIVERED, recipient
            self._deliver(recipient, report)

    def _deliver(self, recipient, report):
        self.world.delivered.append(recipient)
        self.world.note("delivered", recipient)
        report(b"Kok\n")

    def _release(self):
        if self._held and (b"alert" in self.log or not os.path.exists(self.world.names.todo(self.held))):
            held, self._held = self._held, []
            for report in held:
                self._deliver(b"held@here.example", report)

    def _stock(self, _):
        commands = stock_dialect.StockCommands()

        def receive(data):
            for slot, _, _, recipient in commands.receive(data):
                self._answer(recipient, lambda text, slot=slot: peer.say(stock_dialect.report(slot, text)))

        peer = Peer(self, receive, stock_dialect.hello(100))
        return peer

    def _native(self, is_local):
        unpacker = native_dialect.Unpacker()

        def receive(data):
            for kind, number, body in unpacker.receive(data):
                if kind == native_dialect.OPEN:
                    peer.say(native_dialect.ready(number, b"mx.far.example", b"192.0.2.7"))
                elif kind == native_dialect.CLOSE:
                    peer.say(native_dialect.closed(number))
                else:
                    for delivery, recipient in native_dialect.split_deliver(body)[2]:
                        say = functools.partial(native_dialect.result, number, delivery)
                        counts = () if peer.is_local else (0, 0)
                        self._answer(recipient, lambda text, say=say, counts=counts: peer.say(say(text, *counts)))

        peer = Peer(self, receive, native_dialect.pack(native_dialect.HELLO, 100))
        peer.is_local = is_local
        return peer

    def _make_resolver(self):
        unpacker = resolve_wire.Unpacker()
        found = resolve_wire.hosts_body(3600, False, [(10, b"mx.far.example", b"192.0.2.7")])

        def receive(data):
            for _, number, _ in unpacker.receive(data):
                peer.say(resolve_wire.pack(resolve_wire.HOSTS_FOUND, number, found))

        peer = Peer(self, receive)
        return peer

    # bounces

    def _accept(self):
        client, _ = self._sock.accept()
        self._clients[client.fileno()] = client, queue_wire.Unpacker()
        self._by_fd[client.fileno()] = functools.partial(self._take_bounce, client.fileno())
        self._poll.register(client.fileno(), select.POLLIN)
        return True

    def _take_bounce(self, fd):
        client, unpacker = self._clients[fd]
        try:
            data = client.recv(65536)
        except ConnectionResetError:
            return False  # it died, with an answer unread
        for _, number, body in unpacker.receive(data):
            self.world.bounces.append(queue_wire.split_inline(body))
            self.world.note("bounced", *self.world.bounces[-1])
            try:
                client.sendall(queue_wire.pack(queue_wire.ANSWER, number, queue_wire.answer_body(0, 4711)))
            except BrokenPipeError:
                pass
        return bool(data)


DIALECTS = pytest.mark.parametrize("is_native", [False, True], ids=["stock", "native"])


@DIALECTS
def test_nobody_dies(tmp_path, is_native):
    world = World(tmp_path / "home")
    stage = Stage(world, is_native, fill(world))
    assert stage.play(world.is_done) == 0, stage.log.decode()
    assert keeps_its_promise(world) == [] and world.files() == {}
    check_bounces(world)
    assert sorted(world.delivered) == sorted(DELIVERED) and len(world.bounces) == 2
    assert {event[0] for event in world.events()} >= {"create", "write", "sync", "sync names", "unlink", "utime"}


def test_a_channel_file_that_cannot_be_removed_keeps_its_marks(tmp_path):
    world = World(tmp_path / "home")
    stage = Stage(world, False, fill(world), send=Refusing(world.home.queue))
    assert stage.play(world.is_done) == 0, stage.log.decode()
    assert b"warning: unable to unlink remote/" in stage.log
    assert sorted(world.delivered) == sorted(DELIVERED) and len(world.bounces) == 2 and world.files() == {}


def die_everywhere(tmp_path, is_native, who, after, points):
    """Let one process die at each point, then start again; returns how many points there were."""
    for die_at in points:
        world = World(tmp_path / str(die_at))
        held = fill(world)
        code = Stage(world, is_native, held, **{who: Shim(world.home.queue, die_at, after)}).play(world.is_done)
        lives = 1
        while not world.is_done() and lives < 3:
            assert Stage(world, is_native, held).play(world.is_done) == 0
            lives += 1
        assert keeps_its_promise(world) == [], (die_at, world.events())
        check_bounces(world)
        left = world.files()
        for number in {path.rpartition("/")[2] for path in left}:
            state = state_of({path.split("/")[0] for path in left if path.endswith("/" + number)})
            assert state in ("S2", "S3"), (die_at, left)
        assert lives <= 2, die_at
        if code == 0 and lives == 1 and not left:
            return die_at
    return None


@DIALECTS
@pytest.mark.parametrize("who", ["send", "clean"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_one_dies_at_a_tenth_of_all_operations(tmp_path, is_native, who, moment):
    """The long test takes all of them."""
    first = 1 + ["send", "clean"].index(who) + 3 * is_native + 5 * (moment == "after")
    die_everywhere(tmp_path, is_native, who, moment == "after", range(first, 100, 10))


@pytest.mark.long
@DIALECTS
@pytest.mark.parametrize("who", ["send", "clean"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_one_dies_at_each_operation(tmp_path, is_native, who, moment):
    count = die_everywhere(tmp_path, is_native, who, moment == "after", range(1, 1000))
    assert count > (40 if who == "send" else 8)


@pytest.mark.long
@DIALECTS
def test_two_die_one_after_the_other(tmp_path, is_native):
    dice = random.Random(1)
    for attempt in range(100):
        world = World(tmp_path / str(attempt))
        held, points = fill(world), (dice.randrange(1, 70), dice.randrange(1, 70))
        for die_at in (*points, None):
            if not world.is_done():
                Stage(world, is_native, held, send=Shim(world.home.queue, die_at)).play(world.is_done)
        assert world.is_done() and keeps_its_promise(world) == [], points
        check_bounces(world)


def test_a_cleaner_that_is_left_with_commands_is_waited_for(tmp_path):
    """pysend is killed while pyclean has still to remove todo; the next one begins only after that."""
    world = World(tmp_path / "home")
    held = fill(world)
    first = Stage(world, True, held)
    poll = select.poll()
    poll.register(first.peers[0].fd, select.POLLIN)
    assert poll.poll(SECONDS * 1000)  # both have begun
    os.kill(first.clean_pid, signal.SIGSTOP)

    def serve(seconds):
        by_fd = {peer.fd: peer for peer in first.peers}
        for fd in select.select(by_fd, [], [], STEP_SECONDS)[0]:
            by_fd[fd].ready()

    until(lambda: os.path.exists(world.names.info(held)), wait=serve)
    os.kill(first.pid, signal.SIGKILL)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # its lock goes with it
    second = Stage(world, True, held)

    is_continued = []

    def go_on():
        if is_continued:
            return world.is_done()
        assert b"new msg" not in second.log
        if is_waiting_for_a_lock(second.clean_pid):
            is_continued.append(os.kill(first.clean_pid, signal.SIGCONT))
        return False

    assert second.play(go_on) == 0
    first.end()
    assert is_continued and keeps_its_promise(world) == []


def is_waiting_for_a_lock(pid):
    with open("/proc/locks") as file:
        return any("->" in line and f" {pid} " in line for line in file)


# the power fails


class Disk:
    """What of a record of operations is on disk.  early says of an operation whether it lasts without a sync."""

    def __init__(self, early):
        self._early = early
        self._names, self._contents, self._times = {}, {}, {}
        self.names, self.contents, self.times = {}, {}, {}  # what lasts
        self._births = {}  # inode number -> how many files have had it: a name that lasts may be that of an earlier one

    def put(self, path, inode, content):
        """A file that is on disk since long."""
        for names, contents in ((self._names, self._contents), (self.names, self.contents)):
            names[path], contents[self._file(inode)] = self._file(inode), content

    def _file(self, inode):
        return inode, self._births.get(inode, 0)

    def apply(self, operation):
        kind, *rest = operation
        is_early = self._early(kind)
        if kind == "create":
            path, inode = rest
            self._births[inode] = self._births.get(inode, 0) + 1
            self._names[path], self._contents[self._file(inode)] = self._file(inode), b""
            if is_early:
                self.names[path] = self._file(inode)
        elif kind == "link":
            self._names[rest[1]] = self._names[rest[0]]
            if is_early:
                self.names[rest[1]] = self._names[rest[0]]
        elif kind == "unlink":
            self._names.pop(rest[0], None)
            if is_early:
                self.names.pop(rest[0], None)
        elif kind == "write":
            inode, at, data = self._file(rest[0]), *rest[1:]
            for contents in (self._contents, self.contents) if is_early else (self._contents,):
                whole = contents.get(inode, b"")
                if at <= len(whole):
                    contents[inode] = whole[:at] + data + whole[at + len(data) :]
        elif kind == "utime":
            self._times[self._file(rest[0])] = rest[1]
        elif kind == "sync":
            file = self._file(rest[0])
            self.contents[file], self.times[file] = self._contents[file], self._times.get(file)
        elif kind == "sync names":
            elsewhere = {path: file for path, file in self.names.items() if os.path.dirname(path) != rest[0]}
            inside = {path: file for path, file in self._names.items() if os.path.dirname(path) == rest[0]}
            self.names = {**elsewhere, **inside}

    def file_at(self, path):
        """Return the inode number that a path has for those who run, None if nothing is there."""
        return self._names.get(path, (None,))[0]

    def content_at(self, path):
        return self._contents[self._names[path]]

    def files(self):
        """Return what lasts: path -> (content, mtime or None)."""
        return {path: (self.contents.get(inode, b""), self.times.get(inode)) for path, inode in self.names.items()}


def _sometimes():
    dice = random.Random(17)
    return lambda kind: dice.random() < 0.5


LASTING = {
    "only what was synced": lambda: lambda kind: False,
    "unlinks and writes first": lambda: lambda kind: kind in ("unlink", "write"),
    "names first": lambda: lambda kind: kind in ("create", "link", "unlink"),
    "anything": _sometimes,
}


@pytest.fixture(scope="module", params=[False, True], ids=["stock", "native"])
def whole_run(request, tmp_path_factory):
    """(is_native, files at the start with their inodes, number held back, the record) of a run without trouble."""
    world = World(tmp_path_factory.mktemp("run") / "home")
    held = fill(world)
    start = {path: (os.stat(f"{world.home.queue}/{path}").st_ino, content) for path, content in world.files().items()}
    assert Stage(world, request.param, held).play(world.is_done) == 0
    return request.param, start, held, world.events()


@pytest.mark.parametrize("lasting", LASTING)
def test_todo_goes_only_after_what_replaces_it_and_marks_after_bounce_texts(whole_run, lasting):
    """The order, looked at directly."""
    _, start, held, events = whole_run
    disk = Disk(LASTING[lasting]())
    for path, (inode, content) in start.items():
        disk.put(path, inode, content)
    part, seen, gone, told = held % SPLIT, 0, False, set()
    for event in events:
        if event[0] in ("delivered", "bounced"):
            continue
        if event == ("unlink", f"todo/{held}"):
            seen, gone = seen + 1, True
            files = disk.files()
            assert files[f"info/{part}/{held}"][0] == b"Fs@x\0" and files[f"info/{part}/{held}"][1]
            recipients = [
                record[1:]
                for channel in ("local", "remote")
                for record in files[f"{channel}/{part}/{held}"][0].split(b"\0")[:-1]
            ]
            assert sorted(recipients) == sorted(DELIVERED[:2] + FAILED[:2])
        if gone and event[0] in ("write", "unlink"):
            bounce, _ = disk.files().get(f"bounce/{held}", (b"", None))
            told |= {recipient for recipient in FAILED if b"<%b>" % recipient in bounce}
            for channel, recipient in (("local", FAILED[0]), ("remote", FAILED[1])):
                is_mark = event[0] == "write" and event[3] == b"D"
                if (
                    is_mark
                    and _record_at(disk, channel, held, event) == recipient
                    or event == ("unlink", f"{channel}/{part}/{held}")
                ):
                    seen += 1
                    assert recipient in told, event
        disk.apply(event)
    assert seen >= 3


def _record_at(disk, channel, number, event):
    path = f"{channel}/{number % SPLIT}/{number}"
    if disk.file_at(path) != event[1]:
        return None
    return disk.content_at(path)[event[2] :].split(b"\0")[0][1:]


def _after_power_loss(place, whole_run, lasting, at):
    """Start again with what is left of the disk after `at` events."""
    is_native, start, held, events = whole_run
    world, disk = World(place), Disk(LASTING[lasting]())
    for path, (inode, content) in start.items():
        disk.put(path, inode, content)
    for event in events[:at]:
        if event[0] == "delivered":
            world.delivered.append(event[1])
            world.tries[event[1]] = 9
        elif event[0] == "bounced":
            world.bounces.append(event[1:])
        else:
            disk.apply(event)
    for path, (content, stamp) in disk.files().items():
        write(f"{world.home.queue}/{path}", content)
        if stamp is not None:
            os.utime(f"{world.home.queue}/{path}", (stamp, stamp))
    is_whole = lasting != "anything"  # else mess may have gone before todo: that one is never done

    def is_enough():
        return not keeps_its_promise(world) and (world.is_done() or not is_whole)

    if not is_enough():
        assert Stage(world, is_native, held).play(is_enough) == 0
    assert keeps_its_promise(world) == []


@pytest.mark.parametrize("lasting", LASTING)
def test_the_power_fails_at_a_tenth_of_all_operations(tmp_path, whole_run, lasting):
    """The long test takes all of them."""
    for at in range(list(LASTING).index(lasting) * 2, len(whole_run[3]), 10):
        _after_power_loss(tmp_path / str(at), whole_run, lasting, at)


@pytest.mark.long
@pytest.mark.parametrize("lasting", LASTING)
def test_the_power_fails_at_each_operation(tmp_path, whole_run, lasting):
    for at in range(len(whole_run[3]) + 1):
        _after_power_loss(tmp_path / str(at), whole_run, lasting, at)


# the queue's writer

STREAM = b"Fs@x\0Ta@here.example\0\0"
ORIGIN = Origin(1000, 77, 1795453397)


@pytest.mark.parametrize("lasting", LASTING)
@pytest.mark.parametrize("way", ["inline", "copied"])
def test_what_is_acknowledged_is_on_disk_and_what_is_in_todo_is_whole(tmp_path, way, lasting):
    world = World(tmp_path / "home")

    def admit():
        arrange({RECORD: world.record})
        Shim(world.home.queue).install()
        store, batch = FileStore(world.names, {}), []
        for message in (b"one\n", b"two\n", b"three\n"):
            batch.append(NewMessage(ORIGIN, message, STREAM[:-1]))
            if way == "copied":
                staged = store.stage()
                store.write_staged(staged, ORIGIN, (message,), (STREAM,))
                staged.close()
                batch[-1] = NewMessage(ORIGIN, staged=staged)
        for verdict in store.add(batch):
            assert verdict.exit_code == 0
            os.write(RECORD, repr(("acknowledged", verdict.number)).encode() + b"\n")

    pid = os.fork()
    if not pid:
        code = 99
        try:
            admit()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    disk, acknowledged = Disk(LASTING[lasting]()), set()
    for event in world.events():
        if event[0] == "acknowledged":
            acknowledged.add(event[1])
        else:
            disk.apply(event)
        files = disk.files()
        todo = {int(path[5:]) for path in files if path.startswith("todo/")}
        assert todo >= acknowledged
        for number in todo:
            assert files[f"todo/{number}"][0] == envelope.todo_head(1000, 77) + STREAM[:-1]
            assert files[f"mess/{number % SPLIT}/{number}"][0].split(b"\n")[1] in (b"one", b"two", b"three")
    assert len(acknowledged) == 3
