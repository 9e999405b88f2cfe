"""The store of the queue's files: inodes, what failures leave, and every place to crash; the rest: test_store.py.

Untested: a file system that loses what fsync promised; EIO from a real disk.
"""

import os
import resource
import sys

import pytest

from pyqmail.mail.queue.bounds import MessageRefused
from pyqmail.mail.queue.file_store import FileStore
from pyqmail.mail.queue.files import find_queue
from pyqmail.mail.queue.origin import Origin
from pyqmail.mail.queue.store import NewMessage
from pyqmail.protocol.envelope import stored_part
from pyqmail.system.fsync_batch import sync_in_turn

ORIGIN = Origin(1024, 20513, 1795453397)
STREAM = b"Fsnd@orig.example\0Tann@mx.test\0Tok1@r.example\0\0"
TODO = b"u1024\0p20513\0Fsnd@orig.example\0Tann@mx.test\0Tok1@r.example\0"
RECEIVED = b"Received: (qmail 20513 invoked by uid 1024); 23 Nov 2026 17:03:17 -0000\n"


@pytest.fixture
def names(home):
    return find_queue(home.queue)


@pytest.fixture
def store(names):
    made = FileStore(names, {})
    yield made
    made.close()


def content(path):
    with open(path, "rb") as file:
        return file.read()


def files(names):
    """Return everything that is in the queue but its lock folder."""
    found = (os.path.join(place, name) for place, _, inside in os.walk(names.queue) for name in inside)
    return sorted(path for path in found if "/lock/" not in path)


def admit(store, messages):
    return store.add([new(message) for message in messages])


def new(message, origin=ORIGIN):
    return NewMessage(origin, message, stored_part(STREAM))


MESSAGES = [b"", b"\n", b"Subject: x\n\nhello\n", b"no newline", bytes(range(256)), b"x" * 3_000_000]


@pytest.mark.parametrize("message", MESSAGES)
def test_the_files_have_the_bytes_of_the_originals(store, names, message):
    (verdict,) = admit(store, [message])
    number = verdict.number
    assert verdict.exit_code == 0
    assert content(names.mess(number)) == RECEIVED + message
    assert content(names.todo(number)) == TODO
    assert names.state(number) == "S4"
    assert os.stat(names.mess(number)).st_ino == number
    assert os.stat(names.mess(number)).st_nlink == 1
    assert os.path.samefile(names.todo(number), names.intd(number))
    assert files(names) == sorted([names.mess(number), names.intd(number), names.todo(number)])


def test_modes_are_those_of_umask_033(store, names):
    before = os.umask(0o033)
    try:
        (verdict,) = admit(store, [b"x"])
    finally:
        os.umask(before)
    assert os.stat(names.mess(verdict.number)).st_mode & 0o7777 == 0o644
    assert os.stat(names.todo(verdict.number)).st_mode & 0o7777 == 0o644


class Watching:
    """Syncs, and notes the states of all messages at each commit: what a power failure just after would leave."""

    def __init__(self, names):
        self.names, self.seen = names, []

    def __call__(self, files, directories):
        numbers = [int(name) for part in range(23) for name in os.listdir(f"{self.names.queue}/mess/{part}")]
        self.seen.append(sorted(self.names.state(number) for number in numbers))
        return sync_in_turn(files, directories)


def test_nothing_is_in_todo_before_the_files_are_committed(names):
    watching = Watching(names)
    admit(FileStore(names, {}, watching), [b"a", b"b", b"c"])
    assert watching.seen == [["S3"] * 3, ["S4"] * 3]


class Failing:
    """Says of some commits that some descriptors are not safe."""

    def __init__(self, unsafe):
        self.unsafe = list(unsafe)

    def __call__(self, files, directories):
        sync_in_turn(files, directories)
        return self.unsafe.pop(0)([*files], [*directories])


FAILING = [
    # what is not safe at the first, at the second commit         exit codes
    ([lambda f, d: {f[0]}, lambda f, d: set()], [53, 0]),  # the first message's file
    ([lambda f, d: {f[3]}, lambda f, d: set()], [0, 53]),  # the second one's envelope
    ([lambda f, d: set(d)], [53, 53]),  # the folders of mess
]


@pytest.mark.parametrize("unsafe, exit_codes", FAILING)
def test_what_could_not_be_committed_is_not_queued(names, unsafe, exit_codes):
    verdicts = admit(FileStore(names, {}, Failing(unsafe)), [b"a", b"b"])
    assert [verdict.exit_code for verdict in verdicts] == exit_codes
    assert [verdict.why for verdict in verdicts] == ["not safely on disk" if code else "" for code in exit_codes]
    assert [names.state(verdict.number) for verdict in verdicts] == ["S1" if code else "S4" for code in exit_codes]
    assert len(files(names)) == 3 * exit_codes.count(0)


def test_names_in_todo_that_are_not_safe_are_taken_back(names):
    """The numbers stay taken: the queue manager may have seen the messages."""
    verdicts = admit(FileStore(names, {}, Failing([lambda f, d: set(), lambda f, d: set(d)])), [b"a", b"b"])
    assert [(one.exit_code, one.why) for one in verdicts] == [(53, "not safely on disk")] * 2
    assert [names.state(verdict.number) for verdict in verdicts] == ["S3", "S3"]


def test_what_the_queue_manager_took_meanwhile_is_left_to_it(names):
    def take(files, directories):
        if not files:
            for name in os.listdir(f"{names.queue}/todo"):
                os.unlink(f"{names.queue}/intd/{name}")
                os.unlink(f"{names.queue}/todo/{name}")
            return set(directories)
        return set()

    (verdict,) = admit(FileStore(names, {}, take), [b"a"])
    assert verdict.exit_code == 53
    assert files(names) == [names.mess(verdict.number)]


def test_a_write_error_leaves_nothing(names):
    """A file size limit in a child stands for a full disk."""

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        return admit(FileStore(names, {}), [b"x" * 200_000])[0].exit_code

    assert in_child(work) == 53
    assert files(names) == []


MISSING = [("pid", 63), ("mess", 64), ("intd", 65), ("todo", 66)]


@pytest.mark.parametrize("folder, exit_code", MISSING)
def test_a_folder_that_is_missing_has_its_exit_code(names, folder, exit_code):
    store = FileStore(names, {})
    store.prepare()
    os.rename(f"{names.queue}/{folder}", f"{names.queue}/away")
    (verdict,) = admit(store, [b""])
    assert verdict.exit_code == exit_code
    assert verdict.why.startswith("file does not exist")
    assert files(names) == []


def test_a_number_that_is_taken_is_passed_over(store, names):
    """A copied queue: the next inode numbers are names of other messages."""
    probe = store.stage()
    store.discard(probe)
    taken = {probe.number}
    with open(names.mess(probe.number), "xb") as file:  # may itself get that inode; then nothing is in its way
        file.write(b"another message")
    verdict = store.stage()
    assert verdict.number not in taken or os.stat(names.mess(probe.number)).st_ino == verdict.number
    assert content(names.mess(probe.number)) == b"another message"
    assert os.listdir(f"{names.queue}/pid") == []


def test_an_intd_left_by_a_message_that_is_gone_is_no_obstacle(store, names):
    staged = store.stage()
    with open(names.intd(staged.number), "xb") as file:
        file.write(b"u1\0p1\0Fold\0")
    store.write_staged(staged, ORIGIN, (b"x",), (STREAM,))
    assert store.add([NewMessage(ORIGIN, staged=staged)])[0].exit_code == 0
    assert content(names.todo(staged.number)) == TODO


def test_a_todo_that_is_there_is_never_touched(store, names):
    staged = store.stage()
    for name in (names.intd(staged.number), names.todo(staged.number)):
        with open(name, "xb") as file:
            file.write(b"old")
    with pytest.raises(MessageRefused) as refused:
        store.write_staged(staged, ORIGIN, (b"x",), (STREAM,))
    assert refused.value.exit_code == 65
    assert content(names.todo(staged.number)) == b"old"


def test_a_crash_anywhere_leaves_a_state_of_the_table(names):
    """A child ends at its n-th operation on the file system, for every n.  Python tells of each beforehand."""
    counts, todo_seen = [], 0
    for crash_at in range(1000):

        def work(crash_at=crash_at):
            store = FileStore(names, {})
            store.prepare()
            left = [crash_at]

            def count(event, _):
                if event in ("open", "os.link", "os.remove", "os.rename"):
                    left[0] -= 1
                    if left[0] < 0:
                        os._exit(77)

            sys.addaudithook(count)
            verdicts = admit(store, [b"a" * 5000, b"b" * 5000, b"c" * 5000])
            return max(verdict.exit_code for verdict in verdicts)

        code = in_child(work)
        states = check_all(names)
        counts.append(len(states))
        todo_seen += states.count("S4")
        if code != 77:
            break
        for path in files(names):
            os.unlink(path)
    assert code == 0
    assert states == ["S4"] * 3
    assert crash_at >= 3 * 5 + 1  # open, link, unlink, open, link each
    assert todo_seen > 3


def check_all(names):
    """Return the states of all messages, each of the table; what is in todo is whole."""
    states = []
    for part in range(names.split):
        for name in os.listdir(f"{names.queue}/mess/{part}"):
            states.append(names.state(int(name)))
            if states[-1] == "S4":
                assert content(names.todo(int(name))) == TODO
                message = content(names.mess(int(name)))
                assert message.startswith(RECEIVED) and len(message) == len(RECEIVED) + 5000
    assert set(states) <= {"S2", "S3", "S4"}
    for folder in ("intd", "todo"):
        for name in os.listdir(f"{names.queue}/{folder}"):
            assert os.path.exists(names.mess(int(name)))
    return states


def in_child(work):
    pid = os.fork()
    if not pid:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
