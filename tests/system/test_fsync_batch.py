"""Many files to disk at once: on a real file system, and where the kernel refuses, which is strace's doing."""

import os
import subprocess
import sys

import pytest

from pyqmail.system import fsync_batch
from pyqmail.system.fsync_batch import FsyncBatch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEEDS_QUEUE = pytest.mark.skipif(os.uname().machine not in fsync_batch._CALLS, reason="numbers of this machine's calls")


@pytest.fixture
def files(tmp_path):
    """files(count) -> descriptors of new files with something in them."""
    opened = []

    def make(count):
        for number in range(count):
            opened.append(os.open(tmp_path / str(number), os.O_WRONLY | os.O_CREAT))
            os.write(opened[-1], b"x" * 2000)
        return opened[-count:] if count else []

    yield make
    for fd in opened:
        os.close(fd)


@pytest.mark.parametrize("count", [0, 1, 2, 20, 600])
def test_all_are_on_disk(files, count):
    flusher = FsyncBatch()
    fds = files(count)
    assert flusher.flush(fds) == set() == flusher.flush(fds)


@NEEDS_QUEUE
@pytest.mark.parametrize("place", [0, 3, 7])
def test_what_cannot_be_synced_is_told_and_the_others_are_on_disk(files, place):
    reading, writing = os.pipe()
    fds = files(7)
    fds.insert(place, writing)
    flusher = FsyncBatch()
    assert flusher.flush(fds) == {writing}
    os.close(reading)
    os.close(writing)
    assert flusher.flush(fds) == {writing}  # it is none at all now
    assert flusher._queue is not None


@NEEDS_QUEUE
def test_an_error_of_a_file_is_not_asked_for_twice(files, monkeypatch):
    """Linux tells an error of writing once: a second fsync says that all is well."""
    fds, flusher = files(3), FsyncBatch()
    flusher.flush(fds)
    queue, asked = flusher._queue, []

    class Failing:
        is_broken = False

        def sync(self, some):
            return [is_on_disk and number != 1 for number, is_on_disk in enumerate(queue.sync(some))]

    flusher._queue = Failing()
    monkeypatch.setattr(fsync_batch, "is_synced", asked.append)
    assert flusher.flush(fds) == {fds[1]} and not asked


SCRIPT = """
import os, signal, sys
from pyqmail.system.fsync_batch import FsyncBatch
signal.signal(signal.SIGUSR1, lambda *_: None)
fds = [os.open(f"{sys.argv[1]}/{number}", os.O_WRONLY | os.O_CREAT) for number in range(5)]
flusher = FsyncBatch()
for _ in range(2):
    for fd in fds:
        os.write(fd, b"x" * 2000)
    print(len(flusher.flush(fds)), flusher._queue is not None)
"""
REFUSALS = [
    # what fails                                       files that were lost in each turn, and whether it goes on so
    ("io_setup:error=ENOSYS",                          b"0 False\n0 False\n"),
    ("io_setup:error=EAGAIN",                          b"0 False\n0 False\n"),
    ("io_submit:error=EPERM",                          b"0 True\n0 True\n"),
    ("io_submit:error=EAGAIN:when=1",                  b"0 True\n0 True\n"),
    ("io_submit:retval=0:when=1",                      b"0 True\n0 True\n"),
    ("io_submit:retval=0",                             b"0 True\n0 True\n"),
    ("io_getevents:error=EINTR:when=1..3",             b"0 True\n0 True\n"),
    ("io_getevents:error=EINVAL:when=1",               b"5 False\n0 False\n"),
    ("io_getevents:signal=USR1",                       b"0 True\n0 True\n"),
]  # fmt: skip


@NEEDS_QUEUE
@pytest.mark.parametrize("how, said", REFUSALS, ids=[how for how, _ in REFUSALS])
def test_a_kernel_that_refuses(tmp_path, faults, how, said):
    command = [*faults.prefix(how), sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, env={}, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_a_machine_that_is_not_known(files, monkeypatch):
    monkeypatch.setattr(fsync_batch, "_CALLS", {})
    assert FsyncBatch().flush(files(20)) == set()


@NEEDS_QUEUE
def test_a_forked_child_goes_on_one_by_one(files):
    """The kernel does not hand the queue on."""
    fds, flusher = files(5), FsyncBatch()
    assert flusher.flush(fds) == set()
    pid = os.fork()
    if pid == 0:
        os._exit(len(flusher.flush(fds)))
    assert os.waitpid(pid, 0)[1] == 0
    assert flusher.flush(fds) == set()
