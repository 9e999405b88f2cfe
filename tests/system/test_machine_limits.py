"""What the machine allows: the forms of the kernel's files, and what cannot be read.  Not here: its real numbers."""

import os
import resource

import pytest

from pyqmail.system import machine_limits, rlimits
from pyqmail.system.processes import exit_code, fork


@pytest.mark.parametrize(
    "text, ports",
    [
        ("32768\t60999\n", 28232),
        ("1024 65535", 64512),
        ("5 4", 0),
        ("", None),
        (None, None),
        ("1 2 3", None),
        ("a b", None),
    ],
)
def test_ports(text, ports):
    assert machine_limits.port_count(text) == ports


@pytest.mark.parametrize(
    "text, found",
    [
        ("MemTotal: 9 kB\nMemAvailable:   2048 kB\n", 2097152),
        ("MemTotal: 9 kB\n", None),
        ("MemAvailable: x kB\n", None),
        ("MemAvailable:\n", None),
        (None, None),
    ],
)
def test_memory(text, found):
    assert machine_limits.available_bytes(text) == found


@pytest.mark.parametrize(
    "content, number", [(b"128\n", 128), (b"max\n", rlimits.UNLIMITED), (b"", None), (b"a\n", None), (b"\xff", None)]
)
def test_a_number_in_a_file(tmp_path, content, number):
    (tmp_path / "file").write_bytes(content)
    assert rlimits.number_in(str(tmp_path / "file")) == number


def test_what_cannot_be_read_is_unknown(tmp_path):
    assert rlimits.number_in(str(tmp_path / "absent")) is None
    assert rlimits.number_in(str(tmp_path)) is None
    assert machine_limits.text_of(str(tmp_path)) is None
    assert machine_limits.read_limits().present("net.no.such.thing") is None


def test_descriptors_are_those_of_this_process():
    def work():
        resource.setrlimit(resource.RLIMIT_NOFILE, (70, 140))
        limits = machine_limits.read_limits()
        return (limits.present("ulimit -Sn"), limits.present("ulimit -n")) == (70, 140)

    assert exit_code(os.waitpid(fork(lambda: 0 if work() else 1), 0)[1]) == 0


def test_a_control_group_without_a_limit_is_left_out():
    assert all(present is None or present < rlimits.UNLIMITED for _, present in machine_limits.read_limits().memory)
