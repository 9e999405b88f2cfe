"""How a process waits, as the kernel has it, and what it has open: what tests look at instead of a stopwatch."""

import gc
import os

import pytest

_EPOLL_WAIT, _EPOLL_PWAIT, _POLL, _PPOLL, _READ = 232, 281, 7, 271, 0
_TIMEOUT_WORD = {_EPOLL_WAIT: 4, _EPOLL_PWAIT: 4, _POLL: 3}
FOR_EVER = -1

needs_system_calls = pytest.mark.skipif(
    os.uname().machine != "x86_64" or not os.path.exists("/proc/self/syscall"),
    reason="numbers of system calls, and a kernel that tells them",
)


def wait_ms(pid):
    """Return for how many ms a process waits for events at most: FOR_EVER, or None if it does something else."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
        words = file.read().split()  # the call's number and its arguments; "running" if it does not wait
    number = int(words[0]) if len(words) > 4 else None
    if number == _READ or (number == _PPOLL and int(words[3], 16) == 0):
        return FOR_EVER
    if number not in _TIMEOUT_WORD:
        return None
    word = int(words[_TIMEOUT_WORD[number]], 16) & 0xFFFFFFFF
    return word - (1 << 32) if word >> 31 else word


def state(pid):
    """Return the letter of a process's state."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0]


def is_asleep(pid):
    """Return whether a process waits for anything at all."""
    return state(pid) == b"S"


def is_stopped(pid):
    """Return whether a signal has stopped a process, and none has let it go on."""
    return state(pid) == b"T"


def sleeps_for_ever(*pids):
    """Return whether nothing but an event wakes any of the processes: there is no time limit."""
    return all(wait_ms(pid) == FOR_EVER for pid in pids)


def is_at_rest(pid):
    """Return whether nothing but an event wakes a process within ten minutes."""
    limit_ms = wait_ms(pid)
    return limit_ms is not None and (limit_ms == FOR_EVER or limit_ms > 600_000)


def switches(pid):
    """Return how often a process has begun to wait, and been made to."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return [int(line.split()[1]) for line in file if "ctxt_switches" in line]


def open_descriptors():
    """Return the numbers of our descriptors; what earlier tests left to the garbage collector is closed before."""
    gc.collect()
    return os.listdir("/proc/self/fd")
