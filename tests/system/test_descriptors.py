"""Descriptors: bounds, FIFOs, and standard ones that are missing at the start."""

import os
import subprocess
import sys

import pytest

from pyqmail.system import descriptors

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_read_all_with_a_bound():
    read_end, write_end = os.pipe()
    os.write(write_end, b"x" * 100)
    assert descriptors.read_all(read_end, 10) == b"x" * 10
    os.close(write_end)
    assert descriptors.read_all(read_end) == b"x" * 90
    os.close(read_end)


def test_a_fifo_without_writer_does_not_hold_us(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert descriptors.read_file(str(tmp_path / "fifo")) == b""
    assert descriptors.read_file("/dev/zero", 5) == bytes(5)


def test_write_all_says_when_nobody_reads():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        descriptors.write_all(write_end, b"x")
    os.close(write_end)


def test_move(tmp_path):
    first, second = os.open(tmp_path, os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
    descriptors.move(first, second)
    assert os.path.samestat(os.fstat(second), os.stat(tmp_path)) and os.get_inheritable(second)
    with pytest.raises(OSError):
        os.fstat(first)
    descriptors.move(second, second)
    os.close(second)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-", ""])
def test_missing_standard_descriptors_become_dev_null(closed):
    code = "import os, sys; from pyqmail.system.descriptors import open_standard_descriptors as o; "
    code += "o(); fd = os.open('/', 0); sys.exit(fd)"
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "{code}" {closed}'], env={"PYTHONPATH": ROOT, "PATH": "/bin"}
    )
    assert done.returncode == 3


def test_a_log_that_is_gone_is_no_reason_to_stop():
    pid = os.fork()
    if pid == 0:
        os.close(2)
        descriptors.log("nobody hears this")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
