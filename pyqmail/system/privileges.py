"""Giving up rights: groups first, then group, then user, and no way back."""

import os


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
