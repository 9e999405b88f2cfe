"""The space for messages that arrive: several processes on one file system, whose free space the tests know."""

import os
import signal

import pytest

from pyqmail.mail.queue import space
from pyqmail.mail.queue.client import MessageBuffer
from pyqmail.mail.queue.space import BufferSpace

MB = 1 << 20


class Disk:
    """A file system of so many bytes, of which only what is counted has been taken."""

    def __init__(self, size):
        self.size, self.slots = size, space._shared

    def free_bytes(self, fd):
        return self.size - sum(memoryview(os.pread(self.slots, 8192, 0)).cast("q"))

    def own(self):
        return BufferSpace(self.free_bytes)


@pytest.fixture
def disk(monkeypatch):
    """A Disk of 64 MB, the space of which is shared."""
    monkeypatch.setattr(space, "_shared", None)
    space.share()
    shared = space._shared
    yield Disk(64 * MB)
    os.close(shared)


class Others:
    """Processes that take space until they are ended."""

    def __init__(self, disk):
        self._disk, self._pids = disk, []

    def take(self, size):
        """Start one; returns whether it was given the space."""
        ours, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.write(theirs, b"%d" % self._disk.own().reserve(size, 0))
                signal.pause()
            finally:
                os._exit(0)
        self._pids.append(pid)
        os.close(theirs)
        with open(ours, "rb") as file:
            return file.read(1) == b"1"

    def end(self):
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._pids = []


@pytest.fixture
def others(disk):
    made = Others(disk)
    yield made
    made.end()


def test_a_quarter_of_what_is_free(disk):
    own = disk.own()
    assert own.reserve(16 * MB, 0) and not own.reserve(1, 0)
    own.release(MB)
    assert own.reserve(MB, 0) and not own.reserve(1, 0)


def test_the_limit_is_what_is_free_now(disk):
    own = disk.own()
    assert own.reserve(10 * MB, 0)
    disk.size = 44 * MB
    assert own.reserve(MB, 0) and not own.reserve(1, 0)
    disk.size = 64 * MB
    assert own.reserve(5 * MB, 0) and not own.reserve(1, 0)


def test_four_gigabytes_at_most(disk):
    disk.size, own = 1 << 40, disk.own()
    assert own.reserve(4 << 30, 0) and not own.reserve(1, 0)


def test_all_processes_together(disk, others):
    own = disk.own()
    assert others.take(6 * MB) and others.take(6 * MB)
    assert not own.reserve(5 * MB, 0) and own.reserve(4 * MB, 0)
    assert not others.take(1)


def test_what_a_process_had_is_free_once_it_has_ended_however_it_did(disk, others):
    own = disk.own()
    assert others.take(10 * MB) and not own.reserve(10 * MB, 0)
    others.end()
    assert own.reserve(16 * MB, 0) and not own.reserve(1, 0)


def test_many_processes_come_and_go(disk, others):
    for _ in range(5):
        assert [others.take(4 * MB) for _ in range(5)] == [True] * 4 + [False]
        others.end()


def test_without_a_parent_that_shares_it_a_process_counts_alone(disk, others, monkeypatch):
    assert others.take(16 * MB)
    monkeypatch.setattr(space, "_shared", None)
    own = disk.own()
    disk.slots = own._slots = space._new_slots()
    assert own.reserve(16 * MB, 0) and not own.reserve(1, 0)
    os.close(own._slots)


def test_a_spool_gives_back_what_it_had(disk):
    own = disk.own()
    for _ in range(3):
        spool = MessageBuffer(space=own)
        while not spool.failed:
            spool.write(bytes(MB))
        assert spool.is_refused and spool.size == 17 * MB
        spool.close()
        spool.close()
    assert own.reserve(16 * MB, 0)


def test_a_file_system_that_cannot_be_asked_has_no_room():
    assert not BufferSpace().reserve(1, 1_000_000)
