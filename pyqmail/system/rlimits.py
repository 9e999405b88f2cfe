"""How many processes and descriptors there can be, and more of them for us than for the programs we start."""

import os
import resource

# What one of our servers may come to need, its resolver included.  Measured with 300 clients: 17 MB of address space
# for a worker and 33 for its resolver, 8 and 17 of data; a few thousand look-ups or messages at once double that.
SERVER_BYTES = {
    resource.RLIMIT_AS: (64_000_000, "address space"),
    resource.RLIMIT_DATA: (48_000_000, "data"),
}
UNLIMITED = 1 << 62
PROCESSES = "ulimit -u"  # the source of the user's limit
_KERNEL = ("kernel.pid_max", "kernel.threads-max")
_CGROUP = "/sys/fs/cgroup"


def raise_process_limit(wanted: int):
    """Let our user have as many processes as wanted, as far as allowed.

    Returns give_back(pid), which gives a process (0: this one) the limit there was; None if it stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if not os.geteuid() or soft == hard or soft == resource.RLIM_INFINITY or soft >= wanted:
        return None  # it does not hold root
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (raised, hard))
    return lambda pid: _give(pid, resource.RLIMIT_NPROC, (soft, hard))


def raise_descriptor_limit():
    """Let this process open as many descriptors as it may ever.

    Returns how many that is, and give_back(pid) as above.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return hard, None
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard, lambda pid: _give(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _give(pid, which, limits):
    try:
        resource.prlimit(pid, which, limits)
    except OSError:
        pass  # it has ended already


def memory_shortages(needed: dict[int, tuple[int, str]]) -> list[str]:
    """Return a text for each limit that leaves us less than is needed: resource -> (bytes, what it is called)."""
    found = []
    for which, (needed_bytes, what) in needed.items():
        soft = resource.getrlimit(which)[0]
        if soft != resource.RLIM_INFINITY and soft < needed_bytes:
            found.append(f"{soft} bytes of {what} are too few: {needed_bytes} are needed")
    return found


def most_processes() -> int:
    """Return how many processes this one and those that it starts can be, at most, and with others there."""
    return min(present for _, present in process_limits())


def process_limits() -> list[tuple[str, int]]:
    """Return (source, number) of each limit of processes; the least of them counts.

    The kernel's own limits, those of our control groups, and the user's limit, which does not hold root.  UNLIMITED
    where there is none, or it cannot be read.
    """
    found = [(name, _limit_in(sysctl_path(name))) for name in _KERNEL]
    found += [(path, _limit_in(path)) for path in group_files("pids", "pids.max")]
    if os.geteuid():
        soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        found.append((PROCESSES, UNLIMITED if soft == resource.RLIM_INFINITY else soft))
    return found


def group_files(controller: str, name: str):
    """Yield the files that may hold the limit of our control group, or of one around it; of both kinds of groups."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    places = (_CGROUP, f"{_CGROUP}/unified", f"{_CGROUP}/{controller}")
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers in ("", controller):
            parts = [part for part in group.split("/") if part]
            for count in range(len(parts) + 1):  # in a container the topmost is ours and has a limit, too
                yield from ("/".join((place, *parts[:count], name)) for place in places)


def sysctl_path(name: str) -> str:
    """Return the file of a sysctl, for example of net.core.somaxconn."""
    return f"/proc/sys/{name.replace('.', '/')}"


def number_in(path: str) -> int | None:
    """Return the number in a file, UNLIMITED for `max`; None if it has none, is not there or cannot be read."""
    try:
        with open(path, "rb") as file:
            text = file.read(100).strip()
        return UNLIMITED if text == b"max" else int(text)
    except (OSError, ValueError):
        return None


def _limit_in(path):
    number = number_in(path)
    return UNLIMITED if number is None else number
