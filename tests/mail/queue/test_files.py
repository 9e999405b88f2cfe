"""Names and states of the queue's files."""

import itertools

import pytest

from pyqmail.base.failure import Failure
from pyqmail.mail.queue.files import (
    FILES,
    STATES,
    STEPS,
    QueueNames,
    find_queue,
    hold_writer_lock,
    is_message_name,
    pull_trigger,
    state_of,
)

NAMES = QueueNames("/q", 23)
PATHS = [
    ("mess", "/q/mess/12/2385526"),
    ("info", "/q/info/12/2385526"),
    ("local", "/q/local/12/2385526"),
    ("remote", "/q/remote/12/2385526"),
    ("intd", "/q/intd/2385526"),
    ("todo", "/q/todo/2385526"),
    ("bounce", "/q/bounce/2385526"),
    ("below", "12/2385526"),
]


@pytest.mark.parametrize("name, path", PATHS)
def test_a_file_stands_where_the_originals_look(name, path):
    assert getattr(NAMES, name)(2385526) == path


ENTRIES = [
    *[(name, True) for name in ("0", "2385526", b"12")],
    *[(name, False) for name in ("", "+1", "1x", "١", ".", b"1_0")],
]


@pytest.mark.parametrize("name, is_one", ENTRIES)
def test_only_ascii_digits_are_a_message(name, is_one):
    assert is_message_name(name) == is_one


def test_a_combination_of_files_is_one_state_at_most():
    for present in itertools.product((False, True), repeat=len(FILES)):
        matching = [
            state
            for state, pattern in STATES.items()
            if all(mark == "?" or (mark == "+") == there for mark, there in zip(pattern, present, strict=True))
        ]
        assert len(matching) <= 1
        there = set(itertools.compress(FILES, present))
        assert state_of(there) == (matching[0] if matching else None)


@pytest.mark.parametrize("state, done", STEPS)
def test_a_step_changes_one_file_and_leads_to_the_next_state(state, done):
    act, _, name = done.partition(" ")
    at = FILES.index(name)
    before = STATES[state].replace("?", "-")
    if (state, done) == ("S4", "unlink todo"):
        before = "+-++---"  # info was made before, intd is removed just before
    after = before[:at] + ("-" if act == "unlink" else "+") + before[at + 1 :]
    assert state_of({n for n, mark in zip(FILES, before, strict=True) if mark == "+"}) == state
    assert state_of({n for n, mark in zip(FILES, after, strict=True) if mark == "+"}) == STEPS[state, done]


def test_the_split_is_counted_on_disk(home):
    assert find_queue(home.queue).split == 23


def test_a_queue_we_do_not_know_is_refused(home, tmp_path):
    with pytest.raises(Failure, match="file does not exist"):
        find_queue(str(tmp_path / "nowhere"))
    (tmp_path / "home/queue/todo/0").mkdir()
    with pytest.raises(Failure, match="todo is split"):
        find_queue(home.queue)


def test_the_state_is_seen_on_disk(home, tmp_path):
    names = find_queue(home.queue)
    assert names.state(50) == "S1"
    (tmp_path / "home/queue/mess/4/50").touch()
    assert names.state(50) == "S2"
    (tmp_path / "home/queue/info/4/50").touch()
    assert names.state(50) == "S5"
    (tmp_path / "home/queue/intd/50").touch()
    assert names.state(50) is None


def test_writers_share_the_lock_that_pyqueued_has_alone(home):
    import os

    names = find_queue(home.queue)
    first, second = hold_writer_lock(names, alone=False), hold_writer_lock(names, alone=False)
    assert hold_writer_lock(names, alone=True) is None
    os.close(first)
    os.close(second)
    alone = hold_writer_lock(names, alone=True)
    assert hold_writer_lock(names, alone=False) is None
    os.close(alone)


def test_the_trigger_wakes_who_listens_and_is_nothing_otherwise(home):
    import os

    names = find_queue(home.queue)
    pull_trigger(names)
    fd = os.open(names.trigger, os.O_RDONLY | os.O_NONBLOCK)
    pull_trigger(names)
    assert os.read(fd, 10) == b"\0"
    os.close(fd)
    os.unlink(names.trigger)
    pull_trigger(names)
