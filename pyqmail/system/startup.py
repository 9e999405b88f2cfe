"""What every starter does first: the environment as it was given, and the name and words that ps shows.

A starter is run by sh, which finds the interpreter and starts it isolated (-I), so that no variable steers it.  sh does
not pass the environment on as it was: it adds PWD, and loses what it cannot name.  So it hands over what the kernel
gave it, as hexadecimal text.  In a virtual environment site is left out (-S): that saves more time than sh takes.
"""

import os
import sys

from pyqmail.system.title import show_command

_HARMLESS = "distutils-precedence.pth"  # of setuptools: for those who import distutils
_SYSTEM_TOO = b"include-system-site-packages = true"
_HANDED = b"PYQMAIL_ENVIRON"  # our pid, then the bytes of /proc/PID/environ


def begin(library: str) -> None:
    """Make of a fresh interpreter what a program's main expects.  library: the starter's folder of packages."""
    if sys.flags.no_site:
        _find_packages(library)
    restore_environment()
    forget_coerced_locale()
    show_command(sys.argv)


def restore_environment() -> None:
    """Undo what sh did to the environment.  Where it handed nothing over, because there is no /proc, all stays."""
    pid, _, text = os.environb.pop(_HANDED, b"").partition(b" ")
    if pid != b"%d" % os.getpid() or not text:
        return
    given = entries(bytes.fromhex(text.decode("ascii")))
    if list(os.environb.items()) != list(given.items()):
        os.environb.clear()
        os.environb.update(given)


def forget_coerced_locale() -> None:
    """Undo what the interpreter does to LC_CTYPE where the locale is C: the programs we run must not see it.

    Once for each process, at its start: later on, LC_CTYPE is somebody's wish.
    """
    if b"LC_CTYPE" not in os.environb:
        return
    from pyqmail.system.initial import initial_environment

    try:
        given = entries(initial_environment())
    except OSError:
        return
    if b"LC_CTYPE" not in given:
        del os.environb[b"LC_CTYPE"]
    elif os.environb[b"LC_CTYPE"] != given[b"LC_CTYPE"]:
        os.environb[b"LC_CTYPE"] = given[b"LC_CTYPE"]


def entries(block: bytes) -> dict[bytes, bytes]:
    """Return name -> value of an environment as the kernel keeps it; of a name that is there twice the first counts."""
    found: dict[bytes, bytes] = {}
    for entry in block.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if name and equals:
            found.setdefault(name, value)
    return found


def _find_packages(library):
    """Do what site would have done, where that is more than to know the packages of library.

    A .pth file beside them names other folders, a line each; one that has code, or a virtual environment that wants the
    system's packages too, needs site itself.
    """
    files = [name for name in _names(library) if name.endswith(".pth") and name != _HARMLESS]
    lines = [line for name in files for line in _lines(f"{library}/{name}")]
    settings = _lines(f"{os.path.dirname(os.path.dirname(sys.executable))}/pyvenv.cfg")
    if _SYSTEM_TOO in settings or any(line.startswith((b"import ", b"import\t")) for line in lines):
        import site

        site.main()
        return
    folders = (os.path.join(library, os.fsdecode(line)) for line in lines if not line.startswith(b"#"))
    sys.path += [folder for folder in folders if folder not in sys.path and os.path.exists(folder)]


def _names(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _lines(path):
    try:
        with open(path, "rb") as file:
            return [line.strip() for line in file if line.strip()]
    except OSError:
        return []
