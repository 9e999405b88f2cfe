"""A channel whose files cannot be read; deliveries from end to end are in tests/programs/test_pysend.py."""

import os
import time

import pytest

from pyqmail.mail.destinations.engine import Immediate
from pyqmail.mail.destinations.retry import REMOTE_CONSTANT, retry_time
from pyqmail.mail.manager.channel import Channel
from pyqmail.mail.manager.passes import Files
from pyqmail.mail.queue.files import QueueNames


class Office:
    """What a channel asks of the queue manager.  log is a list of lines."""

    clock, lifetime = staticmethod(time.monotonic), 604800

    def __init__(self, home):
        self.names = QueueNames(home.queue, 23)
        self.files, self.log = Files(self.names), Log()


class Log(list):
    put = list.append


TROUBLE = b"warning: trouble reading remote/4/50; will try again later"


@pytest.mark.parametrize("spoil", [lambda path: None, os.mkdir], ids=["cannot be opened", "cannot be read"])
def test_a_pass_that_cannot_be_read_on_ends_and_is_tried_again(home, spoil):
    """With nothing running no report would end it, and the message would wait for a restart."""
    office = Office(home)
    names, channel = office.names, Channel(office, "remote", Immediate(20), None)
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
        channel.settle()
    due = retry_time(1000, 1100, REMOTE_CONSTANT)
    assert list(channel.heap.items()) == [(due, 50)] and not channel.is_touched
    assert office.log.count(TROUBLE) == 1

    if os.path.isdir(names.remote(50)):
        os.rmdir(names.remote(50))
    os.rename(names.mess(50), names.remote(50))
    channel.open_passes(due)
    for _ in range(3):
        channel.settle()
    assert channel.waiting == 1 and office.log.count(TROUBLE) == 1
