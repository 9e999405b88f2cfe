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
_KERNEL = ("/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max")
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids")


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
    """Return how many processes this one and those that it starts can be, at most, and with others there.

    The least of the user's limit, which does not hold root, the kernel's own limits, and those of our control groups.
    """
    found = [_number(path) for path in (*_KERNEL, *_group_files())]
    if os.geteuid():
        soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        found.append(UNLIMITED if soft == resource.RLIM_INFINITY else soft)
    return min(found)


def _group_files():
    """Yield the files that may hold the limit of our control group, or of one around it."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "pids"):
            parts = [part for part in group.split("/") if part]
            for count in range(len(parts) + 1):  # in a container the topmost is ours and has a limit, too
                yield from ("/".join((place, *parts[:count], "pids.max")) for place in _CGROUPS)


def _number(path):
    """Return the number in a file, UNLIMITED if it has none or is not there."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return UNLIMITED
