"""Leftovers under a new message's number, and how long a message is young; the rest: tests/programs/test_pysend.py."""

import os
import time

import pytest

from pyqmail.mail.manager.passes import Files, Pass
from pyqmail.mail.manager.todo import YOUNG_SECONDS, Todo, TodoMessage
from pyqmail.mail.queue.files import QueueNames
from pyqmail.mail.routing.rewrite import Rewriter
from pyqmail.system.loop import Loop


class Log(list):
    put = list.append


class StartScan:
    def note_new(self, number):
        pass


class Ends:
    def forget_message(self, number):
        pass


def made_todo(home, channel):
    """Todo, with one channel and a log that is a list of lines."""
    names = QueueNames(home.queue, 23)
    rewriting = Rewriter(b"here.example", [], [b"here.example"], {})
    parts = Loop(), Log(), names, Files(names), rewriting, 604800, {"local": channel}, Ends(), StartScan(), Cleaner()
    return Todo(*parts, None, lambda: None)


class Channel:
    """taken is (number, directories synced by then) of each pass."""

    has_room = True

    def __init__(self, synced):
        self.taken, self._synced = [], synced

    def add_recipients(self, pass_, recipients):
        self.taken.append((pass_.number, len(self._synced)))

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


class Watch:
    """What a message tells todo: when it is to be looked at, and that it has ended."""

    def __init__(self):
        self.dues, self.ended = [], []

    def watch_age(self, due):
        self.dues.append(due)

    def end(self, message):
        self.ended.append(message.number)


def young(record):
    """A young message of one local pass: (message, pass, its recipients, what it tells)."""
    watch = Watch()
    message = TodoMessage(watch, 50, b"s@x", 0, {"local": bytearray(record)})
    one = Pass(50, "local", b"s@x", 0, 0, 604800)
    message.passes.append(one)
    recipients = one.parse_slice(record)
    one.at_end = True
    return message, one, recipients, watch


def end(one, recipient, report):
    """A delivery ends: what channel.py does to the pass."""
    if report == b"D":
        one.paragraphs.append(b"<joe>:\n")
    if report != b"Z":
        one.marks.append(recipient.offset)
        one.undone -= 1
    one.running -= 1


@pytest.mark.parametrize("report", [b"K", b"D"])
def test_a_message_is_young_for_a_second_after_its_first_result_but_longer_before_it(report):
    message, one, recipients, watch = young(b"Tjoe@x\0Tann@x\0")
    message.touched(one)  # it was admitted: no result
    assert watch.dues == [] and message.due > time.monotonic() + YOUNG_SECONDS + 1
    end(one, recipients[0], report)
    message.touched(one)
    first = message.due
    assert watch.dues == [first] and first <= time.monotonic() + YOUNG_SECONDS
    end(one, recipients[1], report)
    message.touched(one)
    assert message.due == first and watch.dues == [first]
    assert watch.ended == ([50] if report == b"K" else [])  # a bounce text is put on disk when there are files


def test_a_deferral_of_all_is_a_result():
    message, one, recipients, watch = young(b"Tjoe@x\0")
    end(one, recipients[0], b"Z")
    message.touched(one)
    assert watch.dues == [message.due] and message.due <= time.monotonic() + YOUNG_SECONDS and not watch.ended


def test_what_could_not_be_settled_is_not_tried_again_before_its_time():
    message, one, recipients, watch = young(b"Tjoe@x\0Tann@x\0")
    for _ in range(8):
        message.try_later()  # each time after a longer pause
    end(one, recipients[0], b"K")
    message.touched(one)
    assert watch.dues == [] and message.due > time.monotonic() + 90
