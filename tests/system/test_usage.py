"""What trees of processes use, beside what /proc says of them."""

import os
import subprocess
import sys

import pytest

from pyqmail.system.usage import Meter, Usage

TREE = """
import os, sys, mmap
memory = mmap.mmap(-1, 8 << 20)
memory.write(b"x" * (8 << 20))
ours, theirs = os.pipe()
ended, end = os.pipe()
if os.fork() == 0:
    while os.times().user < 0.3:
        pass
    os.close(end)
    os.write(theirs, b"x")
    os.read(ended, 1)
    os._exit(0)
os.read(ours, 1)
print("ready", flush=True)
sys.stdin.readline()
if os.fork() == 0:
    while os.times().user < 0.3:
        pass
    os._exit(0)
os.wait()
print("again", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def tree():
    """A process with 8 MB, and a child that has used 0.3 s of processor; after a line on its input, another 0.3 s."""
    with subprocess.Popen([sys.executable, "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.stdin.close()


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def test_a_tree_is_measured_as_a_whole(tree):
    meter = Meter()
    usage = meter.look([tree.pid])[tree.pid]
    with open(f"/proc/{tree.pid}/task/{tree.pid}/children", encoding="ascii") as file:
        (child,) = map(int, file.read().split())
    expected = pss(tree.pid) + pss(child)
    assert 8 << 20 < usage.memory_bytes < 16 << 20 and abs(usage.memory_bytes - expected) < 1 << 20
    assert usage.descriptors == len(os.listdir(f"/proc/{tree.pid}/fd")) + len(os.listdir(f"/proc/{child}/fd"))
    assert usage.cpu_percent > 1  # of its whole life


def test_the_processor_is_that_since_the_last_look_and_counts_children_that_have_ended(tree):
    meter = Meter()
    meter.look([tree.pid])
    tree.stdin.write(b"\n")
    tree.stdin.flush()
    assert tree.stdout.readline() == b"again\n"
    assert meter.look([tree.pid])[tree.pid].cpu_percent > 5


def test_what_is_gone_is_left_out(tree):
    with subprocess.Popen(["true"]) as gone:
        pass
    assert list(Meter().look([gone.pid, tree.pid])) == [tree.pid]


def test_what_is_dead_uses_nothing(tree):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as dead:
        dead.stdin.close()
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        usage = Meter().look([dead.pid])[dead.pid]
        assert (usage.memory_bytes, usage.descriptors) == (0, 0)


class Forbidding:
    """What psutil does where a process is somebody else's."""

    def __init__(self, psutil):
        self.psutil = psutil

    def __getattr__(self, name):
        return getattr(self.psutil, name)

    def process_iter(self):
        for pid in self.psutil.pids():
            try:
                process = self.psutil.Process(pid)
            except self.psutil.NoSuchProcess:
                continue
            process.memory_full_info = process.num_fds = self.deny
            yield process

    def deny(self):
        raise self.psutil.AccessDenied


def test_what_we_may_not_know(tree):
    meter = Meter()
    meter._psutil = Forbidding(meter._psutil)
    usage = meter.look([tree.pid])[tree.pid]
    assert (usage.memory_bytes, usage.descriptors) == (None, None)
    assert usage.cpu_percent > 0
    assert (Usage().memory_bytes, Usage().cpu_percent, Usage().descriptors) == (None, None, None)
