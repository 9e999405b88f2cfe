"""Children of children: adopting those whose parents end, and finding whom we have."""

import os

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent ends; return whether the kernel agreed.

    The first process, of a machine or of a container, is that already.
    """
    if os.getpid() == 1:
        return True
    import ctypes  # the only way to prctl; not for programs that are started often

    return ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def children() -> list[int]:
    """Return the pids of this process's children, ended but not yet reaped ones included; none without a /proc."""
    own, found = os.getpid(), []
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
