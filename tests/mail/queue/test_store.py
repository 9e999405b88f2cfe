"""What every store promises (pyqmail/mail/queue/store.py), on the store of the queue's files and on one in memory."""

import os

import pytest

from pyqmail.mail.queue.bounds import Bounds, MessageRefused
from pyqmail.mail.queue.files import find_queue
from pyqmail.mail.queue.origin import Origin
from pyqmail.mail.queue.store import NewMessage, PreprocessedMessage
from pyqmail.protocol.envelope import stored_part
from tests.mail.queue.memory_store import Crash, MemoryStore
from tests.mail.queue.stores import STORES

ORIGIN = Origin(1024, 20513, 1795453397)
STREAM = b"Fsnd@orig.example\0Tann@mx.test\0Tok1@r.example\0\0"
TODO = b"u1024\0p20513\0Fsnd@orig.example\0Tann@mx.test\0Tok1@r.example\0"
RECEIVED = b"Received: (qmail 20513 invoked by uid 1024); 23 Nov 2026 17:03:17 -0000\n"
NO_ROOM = Bounds(free_bytes=1 << 62)


@pytest.fixture
def names(home):
    return find_queue(home.queue)


@pytest.fixture(params=STORES)
def make(request, names):
    """make(at_commit=None, refuses=False) -> a store on the queue `names`."""
    made = []

    def make_store(**what):
        made.append(STORES[request.param](names, **what))
        return made[-1]

    yield make_store
    for store in made:
        store.close()


def content(path):
    with open(path, "rb") as file:
        return file.read()


def listed(names, *folders):
    """Return the files below these folders of the queue."""
    places = (os.walk(f"{names.queue}/{folder}") for folder in folders)
    return sorted(f"{where}/{name}" for place in places for where, _, inside in place for name in inside)


def new(message, bounds=None):
    return NewMessage(ORIGIN, message, stored_part(STREAM), bounds or Bounds())


MESSAGES = [b"", b"\n", b"Subject: x\n\nhello\n", b"no newline", bytes(range(256)), b"x" * 3_000_000]


@pytest.mark.parametrize("message", MESSAGES)
def test_what_is_queued_has_the_bytes_of_the_originals(make, names, message):
    (verdict,) = make().add([new(message)])
    assert (verdict.exit_code, verdict.why) == (0, "")
    assert content(names.mess(verdict.number)) == RECEIVED + message
    assert content(names.todo(verdict.number)) == TODO
    assert names.state(verdict.number) == "S4"


def test_each_message_has_its_verdict_in_its_place_and_a_number_of_its_own(make, names):
    batch = [new(b"%d" % n, NO_ROOM if n % 3 == 1 else None) for n in range(10)]
    verdicts = make().add(batch)
    assert [verdict.exit_code for verdict in verdicts] == [0, 53, 0, 0, 53, 0, 0, 53, 0, 0]
    queued = {n: verdict.number for n, verdict in enumerate(verdicts) if not verdict.exit_code}
    assert len(set(queued.values())) == 7
    assert all(content(names.mess(number)) == RECEIVED + b"%d" % n for n, number in queued.items())
    assert len(listed(names, "mess")) == len(listed(names, "todo")) == 7
    assert verdicts[1].why.startswith("less than ")


def test_an_empty_batch_is_nothing(make, names):
    assert make().add([]) == []


def test_a_batch_wakes_the_queue_manager_once(make, names):
    fd = os.open(names.trigger, os.O_RDONLY | os.O_NONBLOCK)
    verdicts = make().add([new(b"%d" % n) for n in range(50)])
    assert {verdict.exit_code for verdict in verdicts} == {0}
    assert os.read(fd, 100) == b"\0"
    os.close(fd)


@pytest.mark.parametrize("with_envelope", [False, True])
def test_what_is_staged_is_queued_with_the_batch(make, names, with_envelope):
    store = make()
    staged = store.stage(with_envelope=with_envelope)
    stream = (STREAM[at : at + 5] for at in range(0, len(STREAM), 5))
    store.write_staged(staged, ORIGIN, (b"hel", b"lo\n"), stream)
    assert listed(names, "todo") == []
    verdicts = store.add([new(b"a"), NewMessage(ORIGIN, staged=staged), new(b"b")])
    assert [verdict.exit_code for verdict in verdicts] == [0, 0, 0]
    assert verdicts[1].number == staged.number
    assert content(names.mess(staged.number)) == RECEIVED + b"hello\n"
    assert content(names.todo(staged.number)) == TODO


def test_what_is_staged_may_be_written_by_another_process(make, names):
    store = make()
    staged = store.stage(with_envelope=True)
    pid = os.fork()
    if not pid:
        code = 99
        try:
            store.write_staged(staged, ORIGIN, (b"from a child",), (STREAM,))
            code = 0
        finally:
            os._exit(code)
    staged.close()  # the child has them
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [verdict.exit_code for verdict in store.add([NewMessage(ORIGIN, staged=staged)])] == [0]
    assert content(names.mess(staged.number)) == RECEIVED + b"from a child"


REFUSED = [
    # envelope stream                       bounds                    exit code
    (b"Fa\0Tb\0", Bounds(), 54),
    (b"Xa\0\0", Bounds(), 91),
    (b"F" + b"x" * 1003 + b"\0\0", Bounds(), 11),
    (STREAM, Bounds(message_bytes=3), 31),
]


@pytest.mark.parametrize("stream, bounds, exit_code", REFUSED)
def test_what_is_refused_while_it_is_written_leaves_nothing(make, names, stream, bounds, exit_code):
    store = make()
    staged = store.stage(bounds)
    with pytest.raises(MessageRefused) as refused:
        store.write_staged(staged, ORIGIN, (b"four",), (stream,), bounds)
    assert refused.value.exit_code == exit_code
    store.discard(staged)
    assert listed(names, "mess", "intd", "todo", "pid") == []


def test_without_room_nothing_is_staged(make, names):
    with pytest.raises(MessageRefused) as refused:
        make().stage(NO_ROOM)
    assert refused.value.exit_code == 53
    assert listed(names, "mess", "intd", "todo", "pid") == []


def test_nothing_is_in_todo_before_the_commit(make, names):
    seen = []
    store = make(at_commit=lambda: seen.append(listed(names, "todo")))
    store.add([new(b"a"), new(b"b")])
    assert seen == [[]] and len(listed(names, "todo")) == 2


def test_what_cannot_be_committed_is_not_queued_and_leaves_nothing(make, names):
    verdicts = make(refuses=True).add([new(b"a"), new(b"b")])
    assert [(verdict.exit_code, verdict.why) for verdict in verdicts] == [(53, "not safely on disk")] * 2
    assert listed(names, "mess", "intd", "todo", "pid") == []


def test_a_crash_before_the_commit_leaves_nothing_to_deliver(make, names):
    def crash():
        raise Crash

    store = make(at_commit=crash)
    with pytest.raises(Crash):
        store.add([new(b"a"), new(b"b")])
    assert listed(names, "todo") == []


# what is the queue manager's

PREPROCESSED = [
    PreprocessedMessage(50, b"s@x", 1000, [("local", b"Tjoe@h\0Dann@h\0", 1000), ("remote", b"Tr@far\0", 2000)]),
    PreprocessedMessage(51, b"", 1001, [("local", b"Djoe@h\0", 1001)]),
]


def materialized(store):
    told = []
    store.materialize(PREPROCESSED, told.append)
    (failed,) = told
    return failed


def test_sender_and_recipients_become_files(make, names):
    assert materialized(make()) == {}
    assert content(names.info(50)) == b"Fs@x\0" and content(names.info(51)) == b"F\0"
    assert content(names.local(50)) == b"Tjoe@h\0Dann@h\0" and content(names.remote(50)) == b"Tr@far\0"
    assert not os.path.exists(names.local(51))  # nobody is left
    times = [os.stat(path).st_mtime for path in (names.info(50), names.local(50), names.remote(50), names.info(51))]
    assert times == [1000, 1000, 2000, 1001]


def test_those_that_cannot_be_committed_are_reported(make, names):
    assert set(materialized(make(refuses=True))) == {50, 51}


# the store in memory has a step that the files have not: what is committed and not yet visible

CRASHES = [("stage", 0), ("write", 0), ("commit", 0), ("show", 2)]


@pytest.mark.parametrize("step, queued", CRASHES)
def test_after_a_crash_all_of_a_batch_is_there_or_nothing(names, step, queued):
    def crash():
        raise Crash

    store = MemoryStore(names)
    store.at[step] = [lambda: None, crash] if step in ("stage", "write") else [crash]
    with pytest.raises(Crash):
        store.add([new(b"a"), new(b"b")])
    assert listed(names, "mess", "intd", "todo") == []
    MemoryStore(names, committed=store.committed).show()
    assert len(listed(names, "todo")) == queued


def test_a_memory_store_shows_no_info_before_its_commit(names):
    seen, store = [], MemoryStore(names)
    store.at["commit"] = [lambda: seen.append(listed(names, "info", "local", "remote"))]
    materialized(store)
    assert seen == [[]] and len(listed(names, "info")) == 2
