"""Files to disk while the loop goes on: on a real file system, with and without the kernel's queue."""

import os
import subprocess
import sys

import pytest

from pyqmail.system import background_sync, fsync_batch
from pyqmail.system.background_sync import BackgroundSync
from pyqmail.system.loop import Loop
from tests.waiting import turn_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEEDS_QUEUE = pytest.mark.skipif(os.uname().machine not in fsync_batch._CALLS, reason="numbers of this machine's calls")


class Setting:
    """A loop and a BackgroundSync; ended has what then() was given, in its order."""

    def __init__(self, folder):
        self.loop, self.ended, self._folder, self._opened = Loop(), [], folder, []
        self.disk = BackgroundSync(self.loop)

    def files(self, count):
        """Return descriptors of new files with something in them."""
        for _ in range(count):
            path = self._folder / str(len(self._opened))
            self._opened.append(os.open(path, os.O_WRONLY | os.O_CREAT))
            os.write(self._opened[-1], b"x" * 2000)
        return self._opened[len(self._opened) - count :]

    def directory(self):
        self._opened.append(os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY))
        return self._opened[-1]

    def sync(self, files, directories=()):
        self.disk.sync(files, directories, self.ended.append)

    def wait(self, count):
        turn_until(self.loop, lambda: len(self.ended) >= count)
        return self.ended

    def close(self):
        assert self.disk.is_idle
        self.disk.close()
        for fd in self._opened:
            os.close(fd)


@pytest.fixture(params=["queue", "one by one"])
def setting(request, tmp_path, monkeypatch):
    if request.param != "queue":
        monkeypatch.setattr(fsync_batch, "_CALLS", {})
    one = Setting(tmp_path)
    assert (one.disk._queue is None) == (request.param != "queue")
    yield one
    one.close()


@pytest.mark.parametrize("count", [0, 1, 2, 20, 600])
def test_all_are_on_disk_and_that_is_told_later(setting, count):
    setting.sync(setting.files(count), [setting.directory()])
    assert not setting.ended and not setting.disk.is_idle
    assert setting.wait(1) == [set()] and setting.disk.is_idle


def test_directories_alone_and_nothing_at_all(setting):
    setting.sync((), [setting.directory()])
    setting.sync((), ())
    assert setting.wait(2) == [set(), set()]


@pytest.mark.parametrize("place", [0, 3, 7])
def test_what_cannot_be_synced_is_told_to_whose_it_is(setting, place):
    reading, writing = os.pipe()
    fds = setting.files(7)
    setting.sync([*fds[:place], writing, *fds[place:]])
    setting.sync(setting.files(3))
    assert sorted(map(len, setting.wait(2))) == [0, 1] and {writing} in setting.ended
    os.close(reading)
    os.close(writing)


def test_many_jobs_at_once_end_each_with_its_own(setting):
    """More files than the kernel has places for, in jobs of all sizes, some with a directory."""
    directory = setting.directory()
    for count in range(60):
        setting.sync(setting.files(count % 13), [directory] if count % 2 else ())
    assert setting.wait(60) == [set()] * 60


def test_directories_come_after_all_files_of_their_job(setting, monkeypatch):
    """What is not ended yet when a directory begins: nothing of the same job."""
    seen, ended = [], BackgroundSync._ended

    def note(self, fd, job, is_on_disk):
        seen.append(fd)
        ended(self, fd, job, is_on_disk)

    monkeypatch.setattr(BackgroundSync, "_ended", note)
    files, directory = setting.files(9), setting.directory()
    setting.sync(files, [directory])
    setting.wait(1)
    assert sorted(seen[:-1]) == sorted(files) and seen[-1] == directory


def test_one_turn_syncs_for_a_limited_time_where_there_is_no_queue(tmp_path, monkeypatch):
    monkeypatch.setattr(fsync_batch, "_CALLS", {})
    monkeypatch.setattr(background_sync, "_SLICE_SECONDS", 0)
    setting, turns = Setting(tmp_path), []
    setting.sync(setting.files(5))
    while not setting.ended:
        turns.append(setting.loop.turn(1))
    assert len(turns) >= 5
    setting.close()


SCRIPT = """
import os, signal, sys
from pyqmail.system.background_sync import BackgroundSync
from pyqmail.system.loop import Loop
signal.signal(signal.SIGUSR1, lambda *_: None)
loop, ended = Loop(), []
disk = BackgroundSync(loop)
fds = [os.open(f"{sys.argv[1]}/{number}", os.O_WRONLY | os.O_CREAT) for number in range(5)]
for turn in range(2):
    for fd in fds:
        os.write(fd, b"x" * 2000)
    disk.sync(fds, (), ended.append)
    while len(ended) <= turn:
        loop.turn(10)
    print(len(ended[-1]), disk._queue is not None)
"""
REFUSALS = [
    # what fails                                 files that were lost in each turn, and whether it goes on so
    ("io_setup:error=ENOSYS",                    b"0 False\n0 False\n"),
    ("eventfd2:error=EMFILE",                    b"0 False\n0 False\n"),
    ("io_submit:error=EPERM",                    b"0 True\n0 True\n"),
    ("io_submit:error=EAGAIN:when=1",            b"0 True\n0 True\n"),
    ("io_submit:retval=0:when=1",                b"0 True\n0 True\n"),
    ("io_getevents:error=EINTR:when=1..3",       b"0 True\n0 True\n"),
    ("io_getevents:error=EINVAL:when=1",         b"5 False\n0 False\n"),
]  # fmt: skip


@NEEDS_QUEUE
@pytest.mark.parametrize("how, said", REFUSALS, ids=[how for how, _ in REFUSALS])
def test_a_kernel_that_refuses(tmp_path, faults, how, said):
    command = [*faults.prefix(how), sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env={"PYTHONPATH": ROOT}, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, said), done.stderr
