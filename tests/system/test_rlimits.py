"""Limits of processes and descriptors; each test changes those of a process of its own.  Not here: control groups."""

import os
import resource

import pytest

from pyqmail.system import rlimits
from pyqmail.system.processes import exit_code, fork


def holds(work):
    """Return what work() says in a child of ours."""
    return exit_code(os.waitpid(fork(lambda: 0 if work() else 1), 0)[1]) == 0


def test_descriptors_are_raised_to_the_hard_limit_and_given_back():
    def work():
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 100))
        most, give_back = rlimits.raise_descriptor_limit()
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
        give_back(0)
        given_back = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (most, raised, given_back) == (100, (100, 100), (50, 100))

    assert holds(work)


def test_what_is_high_enough_stays():
    def work():
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        return rlimits.raise_descriptor_limit() == (100, None)

    assert holds(work)


PROCESSES = [
    # soft  hard    wanted   raised to
    (50,    100,    70,      70),
    (50,    100,    200,     100),
    (50,    100,    50,      None),
    (100,   100,    200,     None),
]  # fmt: skip


@pytest.mark.parametrize("soft, hard, wanted, raised", PROCESSES)
def test_processes_are_raised_to_what_is_wanted(soft, hard, wanted, raised):
    if os.getuid():
        pytest.skip("needs root, to be somebody without processes")

    def work():
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
        os.setresuid(1_999_999_999, 1_999_999_999, 1_999_999_999)
        give_back = rlimits.raise_process_limit(wanted)
        found = resource.getrlimit(resource.RLIMIT_NPROC)
        if raised is None:
            return give_back is None and found == (soft, hard)
        most = rlimits.most_processes()
        give_back(0)
        return (found, most, resource.getrlimit(resource.RLIMIT_NPROC)) == ((raised, hard), raised, (soft, hard))

    assert holds(work)


def test_there_are_never_more_processes_than_pids():
    assert 0 < rlimits.most_processes() <= int(open("/proc/sys/kernel/pid_max").read())
