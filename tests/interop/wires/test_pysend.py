"""pysend with all of its peers here: spawners, cleaner and resolver, from the page alone."""

import fcntl
import os
import signal
import sys

import pytest

from tests.interop.wires.spoken import (
    DELIVER,
    HELLO,
    HOSTS,
    HOSTS_FOUND,
    MESSAGE,
    OPEN,
    READY,
    RECIPIENT,
    RESULT,
    ROOT,
    SENDER,
    WAITING,
    WIDTHS,
    Stream,
    frame,
    native,
    strings,
    texts_of,
)


class QueueManager:
    """A pysend of home; `ends` are (descriptor to write to, Stream) of each of its peers, in their order; `log`."""

    def __init__(self, home, peers, *options):
        theirs, self.ends, self._ours = {}, [], []
        log, theirs[0] = self._pipe()
        for at in range(peers):
            reports, our_reports = self._pipe()
            commands, our_commands = self._pipe()
            theirs[2 * at + 1], theirs[2 * at + 2] = our_commands, reports
            self.ends.append((our_reports, Stream(commands)))
        self.log = Stream(log)
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, f"{ROOT}/bin/pysend", *options],
            {"PATH": os.environ["PATH"], "PYQMAIL_HOME": home.path},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in theirs.items()],
        )
        for fd in theirs.values():
            os.close(fd)
            self._ours.remove(fd)

    def _pipe(self):
        """Return the two ends of a pipe, above all numbers that pysend's have."""
        ends = []
        for fd in os.pipe():
            ends.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20))
            os.close(fd)
        self._ours += ends
        return ends

    def ended(self):
        """Return the exit code, once it has said all."""
        while self.log.read_to(b"\n") != b"status: exiting\n":
            pass
        pid, self.pid = self.pid, None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def close(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        for fd in self._ours:
            os.close(fd)


@pytest.fixture
def manager(home):
    """manager(peers, *options) -> QueueManager."""
    started = []

    def start(*arguments):
        started.append(QueueManager(home, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


def queue_message(home, *recipients):
    """Queue a message as pyqmail-queue.5 has it; return its path below mess and its number."""
    first = f"{home.queue}/pid/new"
    with open(first, "wb") as file:
        file.write(MESSAGE)
        number = os.fstat(file.fileno()).st_ino
    os.rename(first, f"{home.queue}/mess/{number % 23}/{number}")
    with open(f"{home.queue}/intd/{number}", "wb") as file:
        file.write(b"u1000\0p77\0F" + SENDER + b"\0" + b"".join(b"T" + one + b"\0" for one in recipients))
    os.link(f"{home.queue}/intd/{number}", f"{home.queue}/todo/{number}")
    return b"%d/%d" % (number % 23, number), number


def answer_first_command(end):
    answers, commands = end
    assert commands.read_to(b"\0") == b"foop/0\0"
    os.write(answers, b"+")


def clean_for(home, end, number):
    """Be the cleaner until a message is gone."""
    answers, commands = end
    while (said := commands.read_to(b"\0")) != b"foop/%d\0" % number:
        assert said == b"todo/%d\0" % number
        os.unlink(f"{home.queue}/intd/{number}")
        os.unlink(f"{home.queue}/todo/{number}")
        os.write(answers, b"+")
    os.unlink(f"{home.queue}/mess/{number % 23}/{number}")
    os.write(answers, b"+")


@pytest.mark.parametrize("options, width", WIDTHS)
def test_pysend_speaks_the_stock_dialect(home, manager, options, width):
    path, number = queue_message(home, RECIPIENT, b"a@there.example")
    pysend = manager(3, *options)
    local, remote, cleaner = pysend.ends
    for reports, _ in (local, remote):
        os.write(reports, (1).to_bytes(width, "little"))
    answer_first_command(cleaner)
    for (reports, commands), recipient in ((local, RECIPIENT), (remote, b"a@there.example")):
        slot = commands.read(width)
        assert slot == bytes(width)
        assert [commands.read_to(b"\0") for _ in range(3)] == [path + b"\0", SENDER + b"\0", recipient + b"\0"]
        os.write(reports, slot + b"Kdone\n\0")
    clean_for(home, cleaner, number)
    os.kill(pysend.pid, signal.SIGTERM)
    assert pysend.ended() == 0


def test_pysend_speaks_the_native_dialect(home, manager):
    path, number = queue_message(home, RECIPIENT, b"a@there.example", b"b@there.example")
    pysend = manager(4, "--native")
    local, remote, cleaner, resolver = pysend.ends
    for reports, _ in (local, remote):
        os.write(reports, native(HELLO, 10))
    answer_first_command(cleaner)
    kind, question, body = resolver[1].frame()
    assert (kind, body) == (HOSTS, strings(b"there.example"))
    found = strings(b"300", b"0", b"10", b"mx.there.example", b"192.0.2.1")
    os.write(resolver[0], frame(HOSTS_FOUND, question, found))
    kind, delivery, body = local[1].native()
    _, _, slot, _ = texts_of(body)
    assert (kind, texts_of(body)) == (DELIVER, [path, SENDER, slot, RECIPIENT]) and delivery >> 31 == 1
    os.write(local[0], native(RESULT, delivery, strings(slot, b"Kdid 1+0+0\n")))
    kind, session, body = remote[1].native()
    texts = texts_of(body)
    assert (kind, texts[:5]) == (OPEN, [b"", b"", b"mx.there.example", b"192.0.2.1", b"25"])
    assert (texts[5:8], texts[9]) == ([b"10000", b"60000", b"1200000"], b"")  # a destination that is not known yet
    os.write(remote[0], native(WAITING, session))
    os.write(remote[0], native(READY, session, strings(b"mx.there.example", b"192.0.2.1", b"0", b"0", b"")))
    kind, about, body = remote[1].native()
    texts = texts_of(body)
    assert (kind, about, texts[:2]) == (DELIVER, session, [path, SENDER])
    assert sorted(texts[3::2]) == [b"a@there.example", b"b@there.example"]
    for delivery in texts[2::2]:
        report = strings(delivery, b"K192.0.2.1 accepted message.\n", b"0", b"0")
        os.write(remote[0], native(RESULT, session, report))
    clean_for(home, cleaner, number)
    os.kill(pysend.pid, signal.SIGTERM)
    assert pysend.ended() == 0
    assert all(commands.is_at_end() for _, commands in pysend.ends)


@pytest.mark.parametrize("data", [native(RESULT, 77, strings(b"1", b"Kok\n")), native(99, 1), b"no frame of this"])
def test_pysend_ends_at_nonsense_of_a_spawner(manager, data):
    pysend = manager(4, "--native")
    local, remote, _, _ = pysend.ends
    for reports, _ in (local, remote):
        os.write(reports, native(HELLO, 10))
    os.write(remote[0], data)
    assert pysend.ended() == 0
