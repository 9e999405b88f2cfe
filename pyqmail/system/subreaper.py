"""Children of children: adopting those whose parents end, and finding whom we have."""

import os

from pyqmail.system.libc import CLibrary

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent ends; return whether that could be had.

    The first process, of a machine or of a container, is that already.
    """
    if os.getpid() == 1:
        return True
    try:
        return CLibrary().call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    except OSError:
        return False


def children() -> list[int]:
    """Return the pids of this process's children, ended but not yet reaped ones included; none without a /proc."""
    own = os.getpid()
    found: list[int] = []
    try:
        names = os.listdir("/proc")
    except OSError:
        return found
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # pid (name) state ppid ...; the name may hold blanks and parentheses
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue  # ended while we looked
            if parent == own:
                found.append(int(name))
    return found
