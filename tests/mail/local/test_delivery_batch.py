"""Deliveries made together, with real Maildirs: each has its own end, and nothing is left in tmp/.

A call that fails raises what the kernel would have it raise; all others are real.
"""

import errno
import os

import pytest

from pyqmail.mail.local import maildir
from pyqmail.mail.local.delivery import Delivery, DeliveryRequest
from pyqmail.mail.local.delivery_batch import MAX_FILES, DeliveryBatch, FlushTogether
from pyqmail.mail.spawners.server import Collected

TROUBLE = maildir.TROUBLE + b"\n"
STORED = "stored"


class Said:
    def __init__(self):
        self.collected = Collected()
        self.say = self.complain = self.collected.add

    @property
    def text(self):
        return self.collected.text


class Place:
    """A user with a Maildir, and what becomes of deliveries: ends is {number: STORED or (exit code, text)}."""

    def __init__(self, path):
        self.home, self.ends, self.outputs, self.told = path / "home", {}, {}, []
        for folder in ("tmp", "new", "cur"):
            (self.home / "Maildir" / folder).mkdir(parents=True)
        self.names, self.path = maildir.MaildirNames(), path

    def deliver(self, *texts, default=b"./Maildir/", flush=None):
        """Deliver messages with these contents as one batch."""
        fds = []
        batch = DeliveryBatch(flush or FlushTogether(), self._done, self._stored)
        before, mask = os.getcwd(), os.umask(0o077)
        try:
            for number, text in enumerate(texts):
                (self.path / "message").write_bytes(text)
                fds.append(os.open(self.path / "message", os.O_RDONLY | os.O_CLOEXEC))
                os.unlink(self.path / "message")
                output = self.outputs[number] = Said()
                request = DeliveryRequest(b"joe", os.fsencode(self.home), b"joe", b"", b"", b"h", b"s@x", default)
                batch.add(number, Delivery(request, fds[-1], {}, output, None, self.names), output)
            batch.close()
        finally:
            os.umask(mask)
            os.chdir(before)
            for fd in fds:
                os.close(fd)
        return self.ends

    def new(self, box="Maildir"):
        """Return the contents below new/, in the order of their names' numbers."""
        names = sorted(os.listdir(self.home / box / "new"), key=lambda name: int(name.split("Q")[1].split(".")[0]))
        return [(self.home / box / "new" / name).read_bytes().partition(b"\n\n")[2] for name in names]

    def _done(self, number, code):
        assert number not in self.ends
        self.ends[number] = (code, self.outputs[number].text)
        self.told.append([number])

    def _stored(self, numbers):
        for number in numbers:
            assert number not in self.ends and self.outputs[number].text.startswith(b"did ")
            self.ends[number] = STORED
        self.told.append(numbers)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    assert os.listdir(made.home / "Maildir/tmp") == []


def mails(count):
    return [b"Subject: x\n\n%d" % number for number in range(count)]


def test_they_are_stored_together_and_in_their_order(place):
    assert place.deliver(*mails(20)) == dict.fromkeys(range(20), STORED)
    assert place.new() == [b"%d" % number for number in range(20)] and place.told == [list(range(20))]


def test_what_waits_is_bounded_in_files_and_in_bytes(place):
    count = MAX_FILES + 1
    assert place.deliver(*mails(count)) == dict.fromkeys(range(count), STORED)
    assert [len(numbers) for numbers in place.told] == [MAX_FILES, 1]
    place.ends, place.told = {}, []
    place.deliver(b"S: a\n\na", b"S: b\n\n" + bytes(5 << 20), b"S: c\n\nc")
    assert place.told == [[0, 1], [2]]


def test_several_maildirs_count_as_one_delivery(place):
    for folder in ("tmp", "new", "cur"):
        (place.home / "Other" / folder).mkdir(parents=True)
    assert place.deliver(*mails(3), default=b"./Maildir/\n#x\n./Other/") == dict.fromkeys(range(3), STORED)
    assert place.new() == place.new("Other") == [b"0", b"1", b"2"]
    assert place.outputs[0].text == b"did 2+0+0\n"


def test_a_loop_fails_alone(place):
    loop = b"Delivered-To: joe@h\n\nx"
    ends = place.deliver(*mails(2), loop, *mails(2))
    assert ends.pop(2)[0] == 100 and set(ends.values()) == {STORED} and len(place.new()) == 4


def test_a_program_or_mbox_comes_in_its_turn(place):
    ends = place.deliver(*mails(2), default=b"./Maildir/\n./Mailbox")
    assert ends == dict.fromkeys((0, 1), (0, b"did 2+0+0\n")) and len(place.new()) == 2
    assert (place.home / "Mailbox").read_bytes().count(b"From ") == 2


def test_a_maildir_that_vanishes_defers_each(place):
    os.rename(place.home / "Maildir/new", place.home / "gone")
    assert place.deliver(*mails(3)) == dict.fromkeys(range(3), (111, TROUBLE))
    os.rename(place.home / "gone", place.home / "Maildir/new")


def test_a_maildir_that_is_not_there(place):
    none = maildir.NO_DIRECTORY + b"\n"
    assert place.deliver(*mails(3), default=b"./None/") == dict.fromkeys(range(3), (111, none))


class Once:
    """A function of os that fails at one of its calls, as the kernel makes it fail."""

    def __init__(self, real, at, code):
        self._real, self._at, self._code, self.calls = real, at, code, 0

    def __call__(self, *arguments, **more):
        self.calls += 1
        if self.calls - 1 == self._at:
            raise OSError(self._code, os.strerror(self._code))
        return self._real(*arguments, **more)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("name, at, lost", [("fsync", n, [n]) for n in range(3)] + [("link", n, [n]) for n in range(3)])
def test_a_file_that_cannot_be_stored_is_deferred_alone(place, monkeypatch, name, at, lost, code):
    monkeypatch.setattr(maildir.os, name, Once(getattr(os, name), at, code))
    ends = place.deliver(*mails(3), flush=maildir.flush_each)
    monkeypatch.undo()
    assert [number for number, end in ends.items() if end == (111, TROUBLE)] == lost
    assert [number for number, end in sorted(ends.items()) if end == STORED] == [n for n in range(3) if n not in lost]
    assert place.new() == [b"%d" % n for n in range(3) if n not in lost]


def test_names_that_are_not_on_disk_are_no_success(place, monkeypatch):
    monkeypatch.setattr(maildir.os, "fsync", Once(os.fsync, 3, errno.EIO))
    assert place.deliver(*mails(3), flush=maildir.flush_each) == dict.fromkeys(range(3), (111, TROUBLE))
    monkeypatch.undo()
    assert len(place.new()) == 3  # they come twice: documented


def test_what_cannot_be_written_beside_others_is_tried_alone(place, monkeypatch):
    real, failing = maildir.write, [1, 2]

    def write(*arguments):
        if failing:
            failing.pop()
            raise maildir.NotDelivered(maildir.TROUBLE)
        return real(*arguments)

    place.deliver(b"S: x\n\n0")
    monkeypatch.setattr(maildir, "write", write)
    place.ends = {}
    assert place.deliver(*mails(2)) == {0: (111, TROUBLE), 1: STORED}


def test_the_order_of_steps_on_disk(place, monkeypatch):
    """No link before the file is flushed, no success before the names are: what a crash may leave follows from it."""
    steps = []

    def flush(fds):
        steps.append(("flush", len(fds)))
        return maildir.flush_each(fds)

    for name in ("link", "unlink"):
        real = getattr(os, name)
        monkeypatch.setattr(maildir.os, name, lambda *a, real=real, name=name: (steps.append(name), real(*a))[1])
    real_sync = maildir.sync_directory
    monkeypatch.setattr(maildir, "sync_directory", lambda *a, **k: (steps.append("names"), real_sync(*a, **k))[1])
    stored = place._stored
    place._stored = lambda numbers: (steps.append("told"), stored(numbers))
    place.deliver(*mails(3), flush=flush)
    monkeypatch.undo()
    steps = [step for step in steps if step != "unlink"]
    assert steps == [("flush", 3), "link", "link", "link", "names", "told"]


@pytest.mark.parametrize("target", [None, "/nonexistent", "new", "/dev/null", "/proc"])
def test_a_maildir_that_changes_under_a_batch_defers_it_and_leaves_nothing(place, target):
    """new/ is gone, or leads nowhere, to itself, to no folder, to another file system, before a file is linked."""
    box = place.home / "Maildir"

    def flush(fds):
        if (box / "new").is_dir():
            (box / "new").rmdir()
            if target is not None:
                (box / "new").symlink_to(target)
        return maildir.flush_each(fds)

    ends = place.deliver(*[b"a\n\n%d" % number for number in range(5)], flush=flush)
    assert ends == dict.fromkeys(range(5), (111, TROUBLE)) and os.listdir(box / "tmp") == []


def test_a_home_that_is_moved_under_a_batch_has_its_mail(place, tmp_path):
    def flush(fds):
        place.home.rename(tmp_path / "moved")
        return maildir.flush_each(fds)

    assert place.deliver(*[b"a\n\n%d" % number for number in range(5)], flush=flush) == dict.fromkeys(range(5), STORED)
    assert len(os.listdir(tmp_path / "moved/Maildir/new")) == 5
    (tmp_path / "moved").rename(place.home)
