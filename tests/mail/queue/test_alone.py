"""Queueing one message without pyqueued: who may, its bounds, and what is missing."""

import os

import pytest

from pyqmail.mail.queue.alone import queue_alone
from pyqmail.mail.queue.files import find_queue, hold_writer_lock
from pyqmail.mail.queue.origin import Origin
from pyqmail.system.home import Home
from tests.mail.queue.memory_store import MemoryStore
from tests.processes import open_descriptors

ORIGIN = Origin(1024, 20513, 1795453397)
STREAM = b"Fsnd@orig.example\0Tann@mx.test\0Tok1@r.example\0\0"


@pytest.fixture
def names(home):
    return find_queue(home.queue)


def files(names):
    """Return everything that is in the queue but its lock folder."""
    found = (os.path.join(place, name) for place, _, inside in os.walk(names.queue) for name in inside)
    return sorted(path for path in found if "/lock/" not in path)


@pytest.fixture
def umask():
    """What a program that writes the queue alone does to its process is undone."""
    mask = os.umask(0o022)
    os.umask(mask)
    yield
    os.umask(mask)


def test_we_write_only_without_pyqueued(home, names, umask):
    lock = hold_writer_lock(names, alone=True)
    fd = os.memfd_create("message")
    assert queue_alone(home, ORIGIN, fd, STREAM) == 71
    assert files(names) == []
    os.close(lock)
    assert queue_alone(home, ORIGIN, fd, STREAM) == 0
    os.close(fd)
    assert len(files(names)) == 3


ALONE = [
    # localbytes, queueminfree, uid, bytes of the message -> exit code
    (100, 0, 1024, 100, 0),
    (100, 0, 1024, 101, 31),
    (100, 0, 0, 101, 0),
    (0, 0, 1024, 101, 0),
    (None, None, 1024, 101, 0),
]


@pytest.mark.parametrize("local_bytes, min_free, uid, size, code", ALONE)
def test_a_message_has_the_same_bounds(home, names, umask, local_bytes, min_free, uid, size, code):
    for name, value in (("localbytes", local_bytes), ("queueminfree", min_free)):
        if value is not None:
            with open(f"{home.control}/{name}", "w", encoding="ascii") as file:
                file.write(f"{value}\n")
    fd = os.memfd_create("message")
    os.write(fd, bytes(size))
    os.lseek(fd, 0, os.SEEK_SET)
    assert queue_alone(home, Origin(uid, 20513, 1795453397), fd, STREAM) == code
    os.close(fd)
    assert len(files(names)) == (0 if code else 3)


def test_without_room_nothing_is_written(home, names, umask):
    room = os.statvfs(home.queue)
    if room.f_bavail * room.f_frsize >= 2**32 - 1:
        pytest.skip("more than 4 GB are free here")
    with open(f"{home.control}/queueminfree", "w", encoding="ascii") as file:
        file.write(f"{2**32 - 1}\n")
    assert queue_alone(home, ORIGIN, 0, STREAM) == 53
    assert files(names) == []


def test_a_control_that_cannot_be_read_is_55(home, names, umask):
    os.mkdir(f"{home.control}/localbytes")
    assert queue_alone(home, ORIGIN, 0, STREAM) == 55
    assert files(names) == []


def test_without_home_or_queue(home, tmp_path):
    assert queue_alone(Home(str(tmp_path / "nowhere")), ORIGIN, 0, STREAM) == 61
    os.rename(home.queue, f"{home.path}/away")
    assert queue_alone(home, ORIGIN, 0, STREAM) == 62


def test_any_store_will_do(home, names, umask):
    """Also that it is closed: its number of descriptors is as before."""
    before = open_descriptors()
    for stream, code in ((STREAM, 0), (b"Fs@x\0", 54)):
        fd = os.memfd_create("message")
        os.write(fd, b"hello\n")
        os.lseek(fd, 0, os.SEEK_SET)
        assert queue_alone(home, ORIGIN, fd, stream, MemoryStore) == code
        os.close(fd)
    assert os.listdir("/proc/self/fd") == before
    assert len(files(names)) == 3
