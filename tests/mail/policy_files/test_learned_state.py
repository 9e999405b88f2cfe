"""The state file: written by a child of its own, read at the start; on a real file system."""

import errno
import os
import signal

import pytest

from pyqmail.mail.destinations.state_file import SiteRecord, State
from pyqmail.mail.policy_files import learned_state
from pyqmail.mail.policy_files.learned_state import LearnedState
from pyqmail.system.loop import Loop
from tests.waiting import turn_until


class Engine:
    """names: the sites that it knows; restored: those that it was given, None if nobody has."""

    def __init__(self, *names):
        self.names, self.restored = list(names), None

    def snapshot(self, now):
        state = State(1_700_000_000)
        for name in self.names:
            record = SiteRecord(name)
            record.name, record.seen = name, 4_000_000_000
            state.add(record)
        return state

    def restore(self, state, now):
        self.restored = [record.name for record in state.sites]


class Setting:
    def __init__(self, folder, *names):
        self.loop, self.lines, self.engine = Loop(), [], Engine(*names)
        self.folder, self.path = str(folder), f"{folder}/destinations.state"
        self.learned = LearnedState(self.loop, self.folder, self.engine, self.lines.append)

    def is_written(self):
        return os.path.exists(self.path)


@pytest.fixture
def setting(tmp_path, monkeypatch):
    monkeypatch.setattr(learned_state, "SAVE_SECONDS", 0.01)
    return Setting(tmp_path / "var", b"a.example", b"b.example")


def test_what_was_learned_comes_back(setting, tmp_path):
    setting.learned.news()
    turn_until(setting.loop, setting.is_written)
    other = Setting(tmp_path / "var")
    other.learned.restore()
    assert other.engine.restored == [b"a.example", b"b.example"] and not other.lines
    turn_until(setting.loop, lambda: not setting.learned._is_writing)
    assert os.listdir(setting.folder) == ["destinations.state"] and os.stat(setting.path).st_mode & 0o777 == 0o600


def test_at_the_end_it_is_written_at_once(setting):
    setting.learned.news()
    setting.learned.save_now()
    assert setting.is_written() and not setting.lines


def test_nothing_new_is_not_written(setting):
    setting.learned.save_now()
    before = os.stat(setting.path).st_ino
    setting.learned.save_now()
    assert os.stat(setting.path).st_ino == before
    setting.engine.names.append(b"c.example")
    setting.learned.save_now()
    assert os.stat(setting.path).st_ino != before


def test_news_while_a_child_writes_is_written_later(setting):
    setting.learned.news()
    turn_until(setting.loop, lambda: setting.learned._is_writing)
    setting.engine.names.append(b"c.example")
    setting.learned.news()
    turn_until(setting.loop, lambda: setting.is_written() and b"c.example" in open(setting.path, "rb").read())


def test_without_a_file_nothing_is_restored(setting):
    setting.learned.restore()
    assert setting.engine.restored is None and not setting.lines


def test_a_file_that_was_cut_gives_what_is_whole_and_a_line(setting):
    setting.learned.save_now()
    os.truncate(setting.path, os.stat(setting.path).st_size - 30)
    setting.learned.restore()
    assert setting.engine.restored == [b"a.example"]
    assert setting.lines == [b"warning: var/destinations.state: it is cut short; the rest is used"]


def test_a_file_that_cannot_be_read_is_a_line(setting):
    os.mkdir(setting.path)
    setting.learned.restore()
    assert setting.lines == [b"warning: unable to read var/destinations.state: is a directory"]


def test_a_file_that_cannot_be_written_is_one_line_until_it_works(setting):
    os.mkdir(setting.path)
    line = b"warning: unable to write var/destinations.state: is a directory; trying again"
    for _ in range(2):
        setting.learned.save_now()
    setting.learned.news()
    turn_until(setting.loop, lambda: setting.learned._is_writing)
    turn_until(setting.loop, lambda: not setting.learned._is_writing)
    assert setting.lines == [line]
    os.rmdir(setting.path)
    setting.learned.save_now()
    os.unlink(setting.path)
    os.mkdir(setting.path)
    setting.learned.save_now()
    assert setting.lines == [line, line]


def test_a_child_that_cannot_be_had_is_a_line(setting, monkeypatch):
    def fork(work):
        raise OSError(errno.EAGAIN, "no process")

    monkeypatch.setattr(learned_state, "fork", fork)
    setting.learned.news()
    turn_until(setting.loop, lambda: setting.lines)
    assert b"unable to write var/destinations.state: " in setting.lines[0]


def test_a_child_that_is_killed_is_a_line(setting, monkeypatch):
    monkeypatch.setattr(setting.engine, "snapshot", lambda now: os.kill(os.getpid(), signal.SIGKILL))
    setting.learned.news()
    turn_until(setting.loop, lambda: setting.lines)
    assert setting.lines == [b"warning: unable to write var/destinations.state: killed by signal 9"]
    assert not setting.learned._is_writing and not setting.is_written()
