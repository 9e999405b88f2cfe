"""What the machine allows: descriptors, processes, ports, memory, from /proc, our own limits and our control groups.

A file that cannot be read, or has something else than expected, is no failure: that limit is unknown.
"""

import os
import resource

from pyqmail.system.rlimits import UNLIMITED, group_files, number_in, process_limits, sysctl_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HARD_DESCRIPTORS, SOFT_DESCRIPTORS = "ulimit -n", "ulimit -Sn"
PORTS, MOST_PORTS = "net.ipv4.ip_local_port_range", 64512  # those from 1024 up
_MEMORY = "/proc/meminfo"


class MachineLimits:
    """present(source) is one limit, None: unknown, UNLIMITED: there is none.

    processes, memory    (source, limit) of each limit of processes, and of each control group's bytes
    """

    def __init__(
        self,
        processes: "Sequence[tuple[str, int | None]]",
        memory: "Sequence[tuple[str, int | None]]",
        known: dict[str, int | None],
    ) -> None:
        self.processes, self.memory, self._known = processes, memory, known

    def present(self, source: str) -> int | None:
        return self._known[source] if source in self._known else number_in(sysctl_path(source))


def read_limits() -> MachineLimits:
    """Return the limits that hold for this process."""
    soft, hard = (UNLIMITED if limit < 0 else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    known = {
        HARD_DESCRIPTORS: hard,
        SOFT_DESCRIPTORS: soft,
        PORTS: port_count(text_of(sysctl_path(PORTS))),
        "MemAvailable": available_bytes(text_of(_MEMORY)),
        "fs.aio-max-nr": _free_aio(),
    }
    processes = [(source, present) for source, present in process_limits() if _is_there(source)]
    return MachineLimits(processes, _group_memory(), known)


def port_count(text: str | None) -> int | None:
    """Return how many ports a range of two numbers has; None for anything else."""
    try:
        first, last = (int(word) for word in (text or "").split())
    except ValueError:
        return None
    return max(0, last - first + 1)


def available_bytes(text: str | None) -> int | None:
    """Return the bytes that programs can still have, from /proc/meminfo; None if it has no such line."""
    for line in (text or "").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable" and value.split()[1:] == ["kB"] and value.split()[0].isdigit():
            return int(value.split()[0]) * 1024
    return None


def text_of(path: str) -> str | None:
    """Return what is in a file of the kernel; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(65536).decode("ascii", "replace")
    except OSError:
        return None


def _free_aio():
    most, used = number_in(sysctl_path("fs.aio-max-nr")), number_in(sysctl_path("fs.aio-nr"))
    return None if most is None or used is None else most - used


def _is_there(source):
    """Return whether a source is more than the name of a file that there might be."""
    return not source.startswith("/") or os.path.exists(source)


def _group_memory():
    """Return (file, bytes) of each control group that has a limit, None for one that cannot be read."""
    files = [*group_files("memory", "memory.max"), *group_files("memory", "memory.limit_in_bytes")]
    found = [(path, number_in(path)) for path in dict.fromkeys(files) if os.path.exists(path)]
    return [(path, present) for path, present in found if present is None or present < UNLIMITED]
