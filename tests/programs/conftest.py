"""A queue with a real pysend in the middle: spawners are threads of the test, the cleaner is the real one."""

import os
import select
import signal
import socket
import sys
import threading
import time
from array import array

import pytest

from pyqmail.mail.queue.files import QueueNames, pull_trigger
from pyqmail.protocol import envelope
from pyqmail.protocol.wires import native_dialect as native
from pyqmail.protocol.wires import resolve_wire, stock_dialect
from pyqmail.system.processes import spawn
from tests.mail.queue import on_memory
from tests.waiting import until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = sys.executable
SECONDS = 60  # after which a test gives up


def inject(names, sender, recipients, content=b"hello\n", trigger=True, todo=None):
    """Put a message into the queue as qmail-queue does; returns its number."""
    first = f"{names.queue}/pid/{os.getpid()}.{time.monotonic_ns()}"
    with open(first, "wb") as file:
        file.write(content)
    number = os.stat(first).st_ino
    os.link(first, names.mess(number))
    os.unlink(first)
    records = b"".join(b"T" + recipient + b"\0" for recipient in recipients)
    stored = envelope.todo_head(1000, 77) + b"F" + sender + b"\0" + records if todo is None else todo
    with open(names.intd(number), "wb") as file:
        file.write(stored)
    os.link(names.intd(number), names.todo(number))
    if trigger:
        pull_trigger(names)
    return number


def preprocessed(names, sender, local=(), remote=(), age=0, due=None, content=b"hello\n"):
    """Put a message into the queue as qmail-send leaves it; local and remote are whole records; returns its number."""
    number = inject(names, sender, [], content, trigger=False)
    os.unlink(names.intd(number))
    os.unlink(names.todo(number))
    birth = int(time.time()) - age
    with open(names.info(number), "wb") as file:
        file.write(b"F" + sender + b"\0")
    os.utime(names.info(number), (birth, birth))
    for path, records in ((names.local(number), local), (names.remote(number), remote)):
        if records:
            with open(path, "wb") as file:
                file.write(b"".join(record + b"\0" for record in records))
            stamp = birth if due is None else due
            os.utime(path, (stamp, stamp))
    return number


class Log:
    """Lines from a pipe, as they come."""

    def __init__(self, fd):
        self.lines, self._fd = [], fd
        self._news = threading.Condition()
        self._reading = threading.Event()
        self._reading.set()
        self.ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        with os.fdopen(self._fd, "rb") as file:
            for line in file:
                self._reading.wait()
                with self._news:
                    self.lines.append(line.rstrip(b"\n"))
                    self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()

    def pause(self):
        """Read no more, until go_on()."""
        self._reading.clear()

    def go_on(self):
        self._reading.set()

    def finish(self):
        """Wait until whoever writes has gone."""
        self.go_on()
        with self._news:
            assert self._news.wait_for(lambda: self.ended, SECONDS), self.lines

    def wait(self, *wanted, count=1):
        """Wait until each wanted line has come count times."""
        with self._news:
            came = self._news.wait_for(
                lambda: all(self.lines.count(line) >= count for line in wanted) or self.ended, SECONDS
            )
        assert came and all(self.lines.count(line) >= count for line in wanted), (wanted, self.lines)

    def wait_some(self, piece):
        """Wait for a line that contains piece; returns it."""
        with self._news:
            self._news.wait_for(lambda: any(piece in line for line in self.lines) or self.ended, SECONDS)
            found = [line for line in self.lines if piece in line]
        assert found, (piece, self.lines)
        return found[0]


class Fake:
    """A spawner in the test: answer(recipient) returns a report, or None to give none until release()."""

    def __init__(self, answer):
        self.answer, self.orders, self.held, self.is_lost = answer, [], [], False
        self._news = threading.Condition()
        theirs_in, self.commands = os.pipe()
        self.reports, theirs_out = os.pipe()
        self.ours = theirs_in, theirs_out

    def start(self):
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def say(self, data):
        try:
            os.write(self.ours[1], data)
        except OSError:
            pass

    def ordered(self, count):
        """Wait until so many deliveries were ordered."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.orders) >= count, SECONDS), self.orders

    def release(self, report=b"Kok\n"):
        held, self.held = self.held, []
        for one in held:
            self.report(one, report)

    def _take(self, number, path, sender, recipient):
        report = self.answer(recipient)
        with self._news:
            self.orders.append((number, path, sender, recipient))
            if report is None:
                self.held.append(number)
            self._news.notify_all()
        if report is not None:
            self.report(number, report)

    def _work(self):
        while data := os.read(self.ours[0], 65536):
            self.receive(data)
        self.lose()

    def lose(self):
        """Die."""
        if not self.is_lost:
            self.is_lost = True
            os.close(self.ours[1])


class FakeStock(Fake):
    def __init__(self, answer, limit=120, width=stock_dialect.NARROW):
        super().__init__(answer)
        self._width, self._commands = width, stock_dialect.StockCommands(width)
        self.say(stock_dialect.hello(limit, width))

    def report(self, slot, text):
        self.say(stock_dialect.report(slot, text, self._width))

    def receive(self, data):
        for command in self._commands.receive(data):
            self._take(*command)


class FakeNative(Fake):
    """Local if it is never told to OPEN.  greet(host) returns None to be ready, else (kind, report) of its address.

    Where it returns SILENT, the session connects until greet_all(), and is WAITING.
    opened has (host, address, port) of each OPEN and MORE.
    """

    SILENT = "silent"

    def __init__(self, answer, limit=1000, greet=lambda host: None):
        super().__init__(answer)
        self._unpacker, self._greet = native.Unpacker(), greet
        self._sessions, self.opened, self.delivers, self._silent, self._has_opened = {}, [], [], [], False
        self.say(native.pack(native.HELLO, limit))

    def greet_all(self):
        """All that connect have greeted, at once."""
        silent, self._silent = self._silent, []
        self.say(b"".join(native.ready(*session) for session in silent))

    def report(self, delivery, text):
        session = self._sessions.get(delivery)
        counts = () if session is None else (0, 0)
        self.say(native.result(delivery if session is None else session, delivery, text, *counts))

    def receive(self, data):
        for kind, number, body in self._unpacker.receive(data):
            if kind in (native.OPEN, native.MORE):
                self._has_opened = True
                self._open(number, native.split_place(body))
            elif kind == native.CLOSE:
                self._silent = [session for session in self._silent if session[0] != number]
                self.say(native.closed(number))
            else:
                path, sender, pairs = native.split_deliver(body)
                self.delivers.append([recipient for _, recipient in pairs])
                for delivery, recipient in pairs:
                    if self._has_opened:
                        self._sessions[delivery] = number
                    self._take(delivery, path, sender, recipient)

    def _open(self, number, place):
        host, address = place["host"], place["address"]
        self.opened.append((host, address, place["port"]))
        refusal = self._greet(host)
        if refusal == self.SILENT:
            self._silent.append((number, host, address))
            self.say(native.pack(native.WAITING, number))
        elif refusal is None:
            self.say(native.ready(number, host, address))
        else:
            kind, report = refusal
            self.say(native.failure(kind, number, "connect", 111, host, address, report))


class FakeResolver(Fake):
    """answer(name) returns (kind, body), or None to be silent."""

    def __init__(self, answer):
        super().__init__(answer)
        self._unpacker = resolve_wire.Unpacker()

    def receive(self, data):
        for kind, number, body in self._unpacker.receive(data):
            name = body[:-1]
            self.orders.append((kind, name))
            found = self.answer(name)
            if found is not None:
                self.say(resolve_wire.pack(found[0], number, found[1]))


class FakeCleaner(Fake):
    """Removes at once, but answers a command for which answer(command) gives None only on release()."""

    def __init__(self, names, answer):
        super().__init__(answer)
        self._names, self._data = names, b""

    def report(self, _, text):
        self.say(text)

    def receive(self, data):
        *commands, self._data = (self._data + data).split(b"\0")
        for command in commands:
            kind, number = command.split(b"/")
            last = self._names.todo if kind == b"todo" else self._names.mess
            for path in (self._names.intd(int(number)), last(int(number))):
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    pass
            self._take(command, b"", b"", command)


class FakeStarter:
    """pystart's process that starts parts again; killed has the (part, generation) that are not wanted any more."""

    def __init__(self):
        self._sock, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def give_socket(self):
        """Return the descriptor for the queue manager."""
        return self._theirs.detach()

    def lose(self, part, generation, status, seconds):
        """Say that a part has ended."""
        self._sock.send(b"%d %d %d %d" % (part, generation, status, seconds))

    def replace(self, part, generation, fake):
        """Give a fake in place of a part."""
        packet = b"%d %d" % (part, generation)
        self._sock.sendmsg(
            [packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fake.commands, fake.reports]))]
        )
        os.close(fake.commands)
        os.close(fake.reports)
        fake.start()

    def next_killed(self):
        """Return (part, generation) of the next one that is to be killed."""
        self._sock.settimeout(SECONDS)
        return tuple(map(int, self._sock.recv(100).split()))

    def end(self):
        self._sock.close()


class Rig:
    """start() a pysend on the home; stop() ends it and returns its exit code."""

    stock, native, resolver, cleaner = FakeStock, FakeNative, FakeResolver, FakeCleaner

    def __init__(self, home):
        self.home, self.names = home, QueueNames(home.queue, 23)
        self.environ = {
            b"PATH": os.environb[b"PATH"],
            b"PYQMAIL_HOME": home.path.encode(),
        }
        self._pids, self.prefix = [], []  # prefix: words before pysend's
        self.is_on_memory = False  # pysend's store is the one in memory (tests/mail/queue/on_memory.py)

    def inject(self, *arguments, **more):
        return inject(self.names, *arguments, **more)

    def preprocessed(self, *arguments, **more):
        return preprocessed(self.names, *arguments, **more)

    def control(self, name, content):
        with open(f"{self.home.control}/{name}", "wb") as file:
            file.write(content)

    def start(self, local=None, remote=None, options=(), resolver=None, more=(), clean=True, log=None, starter=None):
        """log is a descriptor that pysend's log goes to instead of a pipe that is read.

        clean: True for a real pyclean, False for none, or a FakeCleaner.
        """
        self.local = local or FakeStock(lambda recipient: b"Kdid 1+0+0\n")
        self.remote = remote or FakeStock(lambda recipient: b"K192.0.2.1 accepted message.\n")
        log_read, log_write = os.pipe()
        descriptors = {0: log_write if log is None else log}
        fakes, cleaner = [(1, self.local), (3, self.remote)], ()
        if isinstance(clean, FakeCleaner):
            fakes.append((5, clean))
        else:
            clean_in, descriptors[5] = os.pipe()
            descriptors[6], clean_out = os.pipe()
            cleaner = clean_in, clean_out
        if resolver is not None:
            fakes.append((7, resolver))
        fakes += [(9 + 2 * index, one) for index, one in enumerate(more)]
        for number, fake in fakes:
            descriptors[number], descriptors[number + 1] = fake.commands, fake.reports
        if starter is not None:
            descriptors[9 + 2 * len(more)] = starter.give_socket()
            options = [*options, "--starter", str(9 + 2 * len(more))]
        self.pid = self._run("pysend", options, descriptors, self.prefix)
        self.clean_pid = self._run("pyclean", (), {0: cleaner[0], 1: cleaner[1], 2: 2}) if clean is True else None
        for fd in {*cleaner, log_write, *descriptors.values()}:
            os.close(fd)
        for _, fake in fakes:
            fake.start()
        self.log = Log(log_read)
        return self

    def _run(self, name, options, descriptors, prefix=()):
        for fd in list(descriptors.values()):
            if fd > 2:
                os.set_inheritable(fd, False)
        words = [PYTHON, f"{ROOT}/bin/{name}"]
        if self.is_on_memory and name == "pysend":
            words = on_memory.command(PYTHON, name)
        pid = spawn([*prefix, *words, *options], self.environ, None, descriptors)
        self._pids.append(pid)
        return pid

    def signal(self, number):
        os.kill(self.pid, number)

    def wait(self):
        """Return the exit code of pysend."""
        status = self._reap(self.pid)
        self.log.finish()
        return os.waitstatus_to_exitcode(status)

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        self.signal(signal.SIGKILL)
        self._reap(self.pid)
        self._reap(self.clean_pid)

    def _reap(self, pid):
        fd = os.pidfd_open(pid)
        try:
            ready, _, _ = select.select([fd], [], [], SECONDS)
            if not ready:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise AssertionError(f"process {pid} did not end: {self.log.lines}")
        finally:
            os.close(fd)
        self._pids.remove(pid)
        return os.waitpid(pid, 0)[1]

    def clear(self):
        for pid in list(self._pids):
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass

    def gone(self, number):
        """Wait until a message has left the queue."""
        until(lambda: self.names.state(number) == "S1", lambda: str(self.log.lines))


@pytest.fixture
def rig(home, request):
    """A Rig on a private home; everything it started is gone afterwards.

    A test marked on_both_stores has it once with the store of the queue's files, once with the one in memory.
    """
    one = Rig(home)
    one.is_on_memory = getattr(request, "param", "files") == "memory"
    yield one
    one.clear()
