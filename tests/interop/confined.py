"""Run a program under the sandbox of a unit, as far as it goes without systemd: confined.py UNIT PROGRAM [ARG ...]

Mounts (ProtectSystem, ProtectHome, ReadWritePaths), PrivateNetwork, the capability bounding set, NoNewPrivileges,
SystemCallFilter and RestrictNamespaces by libseccomp, MemoryDenyWriteExecute by prctl where the kernel has it,
LimitNOFILE.  The rest of a unit is not imitated.  Needs root.
"""

import ctypes
import os
import resource
import shlex
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
_NAMES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL"),
    *("SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE"),
)
CAPABILITIES = {name: number for number, name in enumerate(_NAMES)}
NEWNS, NEWNET = 0x20000, 0x40000000
CAPBSET_DROP, SET_NO_NEW_PRIVS, SET_MDWE = 24, 38, 65
ALLOW, EPERM = 0x7FFF0000, 0x00050001


def read(path):
    values = {}
    with open(path, encoding="utf-8") as file:
        for key, mark, value in (line.rstrip("\n").partition("=") for line in file):
            if mark:
                values[key] = f"{values[key]} {value}" if key == "ReadWritePaths" and key in values else value
    return values


def check(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(*words):
    return subprocess.run(["mount", *words], capture_output=True).returncode


def confine_files(values):
    check(LIBC.unshare(NEWNS | (NEWNET if values.get("PrivateNetwork") == "yes" else 0)), "unshare")
    mount("--make-rprivate", "/")
    kept = {word.removeprefix("-") for word in shlex.split(values.get("ReadWritePaths", "").replace("%%", "%"))}
    for place in kept:
        mount("--rbind", place, place)
    if values["ProtectSystem"] == "strict":
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            places = [line.split()[4] for line in file]
        places = [place for place in places if not place.startswith(("/dev", "/proc", "/sys"))]
    else:
        places = [
            place for place in ("/usr", "/boot", "/etc") if os.path.exists(place) and not mount("--rbind", place, place)
        ]
    for place in dict.fromkeys(places):
        if place not in kept:
            mount("-o", "remount,ro,bind", place)
    if values.get("ProtectHome") == "yes":
        for place in ("/home", "/root", "/run/user"):
            os.path.exists(place) and mount("-t", "tmpfs", "-o", "mode=000", "none", place)


def confine_calls(values):
    """Return nothing; from now on calls that are not allowed fail with EPERM."""
    words = values["SystemCallFilter"]
    assert values["SystemCallErrorNumber"] == "EPERM"
    names = set()
    for group in words.removeprefix("~").split():
        names |= calls_of(group)
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    is_denied = words.startswith("~")
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW if is_denied else EPERM)))
    library.seccomp_attr_set(context, 3, 0)  # no_new_privs is the unit's own
    if is_denied and values.get("RestrictNamespaces") == "yes":
        names |= {"unshare", "setns"}
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            action = ctypes.c_uint32(EPERM if is_denied else ALLOW)
            assert library.seccomp_rule_add(context, action, number, 0) == 0, name
    # what a confined process is started with here
    assert library.seccomp_load(context) == 0


def calls_of(group):
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    names = set()
    for line in done.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            names |= calls_of(word)
        elif word and not word.startswith("#"):
            names.add(word)
    return names


def confine(values):
    soft, hard = map(int, values["LimitNOFILE"].split(":"))
    hard = min(hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # a container may have less
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    confine_files(values)
    kept = {word.removeprefix("CAP_") for word in values["CapabilityBoundingSet"].split()}
    if values.get("NoNewPrivileges") == "yes":
        check(LIBC.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    confine_calls(values)
    for number in range(41):
        if number not in {CAPABILITIES[name] for name in kept}:
            LIBC.prctl(CAPBSET_DROP, number, 0, 0, 0)
    if values.get("MemoryDenyWriteExecute") == "yes":
        LIBC.prctl(SET_MDWE, 1, 0, 0, 0)


if __name__ == "__main__":
    confine(read(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
