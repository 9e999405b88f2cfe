"""A channel whose files cannot be read; deliveries from end to end are in tests/programs/test_pysend.py."""

import errno
import os

import pytest

from pyqmail.mail.destinations.old.immediate import Immediate
from pyqmail.mail.destinations.retry import REMOTE_CONSTANT, retry_time
from pyqmail.mail.manager.channel import Channel
from pyqmail.mail.manager.dispatch import Dispatch, Load
from pyqmail.mail.manager.marks import Marks
from pyqmail.mail.manager.passes import DirtyPasses, Files
from pyqmail.mail.queue.files import QueueNames


class Log(list):
    add_line = list.append


def remote_channel(names, log):
    """A channel whose engine starts nothing and whose loop is not turned.  log is a list of lines."""
    files, engine, dirty = Files(names), Immediate(20), DirtyPasses(None, None)
    dispatch = Dispatch("remote", engine, Load(engine), None, None, None, names, None, dirty, None)
    return Channel("remote", files, 604800, dispatch, Marks(files, log, None, dirty), dirty, None, log)


TROUBLE = b"warning: trouble reading remote/4/50; will try again later"


@pytest.mark.parametrize("spoil", [lambda path: None, os.mkdir], ids=["cannot be opened", "cannot be read"])
def test_a_pass_that_cannot_be_read_on_ends_and_is_tried_again(home, spoil):
    """With nothing running no report would end it, and the message would wait for a restart."""
    names, log = QueueNames(home.queue, 23), Log()
    channel = remote_channel(names, log)
    with open(names.info(50), "wb") as file:
        file.write(b"Fs@x\0")
    os.utime(names.info(50), (1000, 1000))
    with open(names.remote(50), "wb") as file:
        file.write(b"Ddone@far.example\0" * 3000 + b"Tlast@far.example\0")  # more than one slice
    channel.heap.push(0, 50)
    channel.open_passes(1100)
    os.rename(names.remote(50), names.mess(50))
    spoil(names.remote(50))
    for _ in range(3):
        channel.write_progress()
    due = retry_time(1000, 1100, REMOTE_CONSTANT)
    assert list(channel.heap.items()) == [(due, 50)] and not channel.is_dirty
    assert log.count(TROUBLE) == 1

    if os.path.isdir(names.remote(50)):
        os.rmdir(names.remote(50))
    os.rename(names.mess(50), names.remote(50))
    channel.open_passes(due)
    for _ in range(3):
        channel.write_progress()
    assert channel.dispatch.waiting == 1 and log.count(TROUBLE) == 1


class OnceUnwritable(Files):
    """Files whose first marks cannot be written, for a reason that may pass."""

    has_failed = False

    def write_marks(self, pass_):
        if not self.has_failed:
            self.has_failed = True
            raise OSError(errno.ENOMEM, "no memory")
        super().write_marks(pass_)


class KeptFiles:
    """The ends of messages, while no channel file can be removed."""

    def remove_channel_file(self, channel, number):
        return False


class LaterLoop(list):
    """Keeps what is to be called later: after(seconds, work) -> [work]."""

    def after(self, seconds, work):
        self.append(work)
        return work


def test_a_file_that_cannot_go_keeps_its_marks_though_they_cannot_be_written_at_once(home):
    """Otherwise the next pass would deliver again to all that it has."""
    names, log, later = QueueNames(home.queue, 23), Log(), LaterLoop()
    files, engine, dirty = OnceUnwritable(names), Immediate(20), DirtyPasses(later, lambda: None)
    dispatch = Dispatch("remote", engine, Load(engine), None, None, None, names, None, dirty, None)
    marks = Marks(files, log, later, dirty)
    channel = Channel("remote", files, 604800, dispatch, marks, dirty, KeptFiles(), log)
    with open(names.info(50), "wb") as file:
        file.write(b"Fs@x\0")
    with open(names.remote(50), "wb") as file:
        file.write(b"Tjoe@far.example\0")
    pass_, (recipient,) = files.open_pass("remote", 50, 1100, 604800)
    pass_.running, pass_.undone, pass_.marks = 0, 0, [recipient.offset]
    dirty.add(pass_)
    channel.write_progress()
    assert log == [b"warning: trouble marking remote/4/50; will try again later"]
    assert list(channel.heap.items()) == [] and not pass_.is_concluded
    later.pop()()
    channel.write_progress()
    with open(names.remote(50), "rb") as file:
        assert file.read() == b"Djoe@far.example\0"
    assert [number for _, number in channel.heap.items()] == [50] and pass_.is_concluded
