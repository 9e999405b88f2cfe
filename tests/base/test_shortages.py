"""What is short, and the command that raises it."""

import pytest

from pyqmail.base.shortages import Need, commands, descriptor_command, raising_command

SHORT = [
    # needed  present  short
    (100,     99,      True),
    (100,     100,     False),
    (100,     101,     False),
    (100,     None,    False),
    (0,       0,       False),
]  # fmt: skip


@pytest.mark.parametrize("needed, present, is_short", SHORT)
def test_what_is_short(needed, present, is_short):
    assert Need("descriptors", needed, present, "ulimit -n", "").is_short == is_short


COMMANDS = [
    ("kernel.pid_max",                    "sysctl -w kernel.pid_max=70"),
    ("ulimit -u",                         "ulimit -u 70"),
    ("/sys/fs/cgroup/mail.slice/pids.max", "echo 70 >/sys/fs/cgroup/mail.slice/pids.max"),
    ("/sys/fs/cgroup/a b;'c/pids.max",    "echo 70 >'/sys/fs/cgroup/a b;'\\''c/pids.max'"),
]  # fmt: skip


@pytest.mark.parametrize("source, command", COMMANDS)
def test_the_command_of_a_source(source, command):
    assert raising_command(source, 70) == command


@pytest.mark.parametrize(
    "most, command",
    [
        (None, "ulimit -n 3000"),
        (3000, "ulimit -n 3000"),
        (2999, "sysctl -w fs.nr_open=3000 && ulimit -n 3000"),
    ],
)
def test_more_descriptors_than_the_kernel_gives_to_any_process(most, command):
    assert descriptor_command(3000, most) == command


def test_all_that_are_too_low_are_raised_and_nothing_is_lowered():
    limits = [("kernel.pid_max", 50), ("kernel.threads-max", 100), ("ulimit -u", 99)]
    assert commands(limits, 100) == "sysctl -w kernel.pid_max=100 && ulimit -u 100"


def test_a_line_says_what_how_much_and_how():
    need = Need("descriptors of pylspawn", 80, 64, "ulimit -n", "ulimit -n 80")
    assert need.line() == "descriptors of pylspawn: 64 of 80 that are needed, by ulimit -n; to raise it: ulimit -n 80"
    assert Need("bytes of memory", 9, 8, "MemAvailable", "").line() == (
        "bytes of memory: 8 of 9 that are needed, by MemAvailable"
    )
