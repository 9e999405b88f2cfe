"""Leftovers under a new message's number; preprocessing from end to end is in tests/programs/test_pysend.py."""

import os

import pytest

from pyqmail.mail.queue.files import QueueNames
from pyqmail.mail.sending.passes import Files
from pyqmail.mail.sending.preprocessing import Todo
from pyqmail.mail.sending.rewriting import Rewriting
from pyqmail.system.loop import Loop


class Log(list):
    put = list.append


class Office:
    """What todo asks of the queue manager.  log is a list of lines."""

    lifetime = 604800

    def __init__(self, home):
        self.loop, self.names, self.log = Loop(), QueueNames(home.queue, 23), Log()
        self.files = Files(self.names)
        self.rewriting = Rewriting(b"here.example", [], [b"here.example"], {})

    def seen(self, number):
        pass

    def settle_soon(self):
        pass


class Channel:
    """taken is (number, directories synced by then) of each pass."""

    has_room = True

    def __init__(self, synced):
        self.taken, self._synced = [], synced

    def admit(self, one, recipients):
        self.taken.append((one.number, len(self._synced)))


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
    todo = Todo(Office(home), {"local": channel}, Cleaner(), None)
    todo.start()
    todo.stop()
    place = os.path.realpath(home.queue)
    assert sorted(synced) == sorted((f"{place}/{os.path.dirname(name)}", []) for name in leftovers)
    assert channel.taken == [(50, len(leftovers))]
