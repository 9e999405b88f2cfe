"""Giving up rights: groups first, then group, then user, and no way back."""

import os

from pyqmail.system.libc import prctl

_PR_SET_NO_NEW_PRIVS = 38


def drop_to(uid: int, gid: int, groups=None) -> None:
    """Become uid and gid with groups (just gid if None) for good.  Does nothing if we are that uid already.

    Raises OSError; a process for which this fails must not go on.
    """
    if os.getuid() == os.geteuid() == uid:
        return
    os.setgroups([gid] if groups is None else groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def supplementary_groups(user: str, gid: int) -> list[int]:
    """Return the groups the system gives to user, with gid first; at most what the kernel takes."""
    return os.getgrouplist(user, gid)


def forbid_new_privileges() -> None:
    """See to it that nothing this process runs gains rights from a set-id bit.  For what never changes its uid again.

    There is no way back, and what we fork has it too: not for who runs programs of others.  An old kernel leaves it.
    """
    try:
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
    except OSError:
        pass
