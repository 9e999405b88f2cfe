"""Leftovers under a new message's number; the rest is in tests/programs/test_pysend.py."""

import os

import pytest

from pyqmail.mail.manager.channel_files import QueueFiles
from pyqmail.mail.manager.marks import OpenMessage
from pyqmail.mail.manager.materialize import UnsettledMessages
from pyqmail.mail.manager.todo import Todo
from pyqmail.mail.manager.todo_entry import TodoReader
from pyqmail.mail.queue.files import QueueNames
from pyqmail.mail.routing.rewrite import Rewriter
from pyqmail.system.loop import Loop


class Log(list):
    add_line = list.append


class StartScan:
    def note_new(self, number):
        pass


class Ends:
    def forget_message(self, number):
        pass


def made_todo(home, channel):
    """Todo, with one channel and a log that is a list of lines."""
    names, loop, log, ends = QueueNames(home.queue, 23), Loop(), Log(), Ends()
    channels, cleaner = {"local": channel}, Cleaner()
    unsettled = UnsettledMessages(loop, log, names, channels, ends, cleaner, None, None, lambda: None)
    reader = TodoReader(names, QueueFiles(names), log, Rewriter(b"here.example", [], [b"here.example"], {}))
    return Todo(loop, log, names, reader, unsettled, channels, ends, StartScan(), cleaner, lambda: None)


class Channel:
    """taken is (number, directories synced by then) of each message."""

    has_room = True

    def __init__(self, synced):
        self.taken, self._synced = [], synced

    def open_unsettled(self, unsettled, recipients):
        self.taken.append((unsettled.number, len(self._synced)))
        return OpenMessage(unsettled.number, "local")

    def forget_message(self, number):
        pass


class Cleaner:
    unanswered = 0


@pytest.fixture
def synced(monkeypatch):
    """(directory, names in it) for each that was synced; nothing less than a power failure tells it otherwise."""
    seen, fsync = [], os.fsync

    def look_and_sync(fd):
        seen.append((os.readlink(f"/proc/self/fd/{fd}"), os.listdir(fd)))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", look_and_sync)
    return seen


LEFTOVERS = [
    [],
    ["bounce/50"],
    ["info/4/50", "local/4/50", "remote/4/50", "bounce/50"],
]


@pytest.mark.parametrize("leftovers", LEFTOVERS)
def test_a_leftover_is_removed_for_good_before_its_number_is_used(home, leftovers, synced):
    """Else after a power failure this message has another one's recipients or bounce text."""
    channel = Channel(synced)
    for name, content in (
        ("mess/4/50", b"mail"),
        ("todo/50", b"u1\0p1\0Fs@x\0Tjoe@here.example\0"),
        *((name, b"Tother@far.example\0") for name in leftovers),
    ):
        with open(f"{home.queue}/{name}", "wb") as file:
            file.write(content)
    todo = made_todo(home, channel)
    todo.start()
    todo.stop()
    place = os.path.realpath(home.queue)
    assert sorted(synced) == sorted((f"{place}/{os.path.dirname(name)}", []) for name in leftovers)
    assert channel.taken == [(50, len(leftovers))]
