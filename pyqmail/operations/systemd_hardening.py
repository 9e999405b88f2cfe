"""What each of our services does without, in the words of systemd.exec(5).

Not a list to be copied from one to another.  pysend delivers into homes and runs users' programs as them: it must see
/home (without it every user `does not exist`, and all local mail bounces), the real /tmp, and programs whose files
give rights; nothing that is refused may kill, so that the filter answers EPERM.  What root starts becomes other users
by itself, which takes setgroups and a few capabilities.  Nobody has ProcSubset: pysvtop and others look at more.
"""

import os
import sys

from pyqmail.operations.private_home import programs_folder

_CHANGE_USER = "CAP_SETUID CAP_SETGID CAP_DAC_OVERRIDE"  # root without the last may not enter what is qmailq's
_KERNEL = (
    *("ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes"),
    *("ProtectClock=yes", "ProtectHostname=yes", "LockPersonality=yes", "RestrictRealtime=yes"),
    *("RestrictNamespaces=yes", "SystemCallArchitectures=native"),
)
_CONFINED = (
    *("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateDevices=yes", "ProtectProc=invisible"),
    *("RestrictSUIDSGID=yes", "MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service"),
    "SystemCallErrorNumber=EPERM",
)
# role -> (options, capabilities when root starts it)
_ROLES = {
    "pyqueued": (
        (*_KERNEL, *_CONFINED, "RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes", "IPAddressDeny=any"),
        f"CAP_CHOWN {_CHANGE_USER}",
    ),
    "pytcpserver": (
        (*_KERNEL, *_CONFINED, "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
        f"CAP_NET_BIND_SERVICE {_CHANGE_USER}",
    ),
    "pystart": (
        (
            *_KERNEL,
            *(
                "ProtectSystem=full",
                "DevicePolicy=closed",
                "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
            ),
            "SystemCallFilter=~@clock @debug @module @mount @obsolete @raw-io @reboot @swap",
            "SystemCallErrorNumber=EPERM",
        ),
        f"CAP_KILL {_CHANGE_USER}",
    ),
}
_HOMES = ("/home/", "/root/", "/run/user/")
_TEMPORARY = ("/tmp/", "/var/tmp/")


def role_of(programs: list[str], script: str) -> str | None:
    """Return which of our services a script is, by the programs it becomes; None: we do not know what it needs."""
    if not programs or len(set(programs)) > 1 or programs[0] not in _ROLES:
        return None
    # another program behind the listener is not ours to confine
    return programs[0] if programs[0] != "pytcpserver" or script.split()[-1:] == ["pysmtpd"] else None


def harden(role: str, home: str, folder: str, is_root: bool, quoted) -> list[str]:
    """Return the options for a service.

    home: the qmail home; folder: the service's; is_root: it is started by root, not by the owner of a private home.
    """
    options, capabilities = _ROLES[role]
    places = [f"{place}/" for place in (home, folder, sys.prefix, programs_folder())]
    # the whole home, whose files have owners: run is made there by who comes first
    lines = [
        *options,
        f"CapabilityBoundingSet={capabilities if is_root else ''}",
        f"ReadWritePaths={quoted(f'-{home}')}",
    ]
    if role == "pystart":
        return lines
    lines.append(f"ProtectHome={'read-only' if any(map(_is_in_homes, places)) else 'yes'}")
    # large messages are collected in /tmp; another one would hide what is needed below this one
    is_below = any(place.startswith(_TEMPORARY) for place in places)
    return [*lines, "ReadWritePaths=/tmp /var/tmp" if is_below else "PrivateTmp=yes"]


def _is_in_homes(place):
    return place.startswith(_HOMES) or os.path.realpath(place).startswith(_HOMES)
