"""What a process was started with: the strings of its arguments and of its environment, as exec left them.

    argument NUL argument NUL ... NAME=VALUE NUL NAME=VALUE NUL ... file name NUL

They lie side by side at the top of the stack, from what program_invocation_name points to up to what AT_EXECFN does
(getauxval(3); fs/exec.c of Linux).  What the process changes later on, for example LC_CTYPE, stands elsewhere.
"""

import errno
import os
import sys

_AT_EXECFN = 31


def initial_environment() -> bytes:
    """Return the entries of the environment, a NUL behind each.  Raises OSError."""
    try:
        with open("/proc/self/environ", "rb") as file:
            return file.read()
    except OSError:
        return initial_strings()[2]  # no /proc, or not for us


def initial_strings() -> tuple[int, bytes, bytes]:
    """Return where the arguments begin in memory, the arguments and the environment, a NUL behind each string.

    Costs 2 ms, and needs no /proc.  Raises OSError (ENOSYS) in an interpreter without ctypes.
    """
    try:
        import ctypes

        library = ctypes.CDLL(None)
        library.getauxval.restype = ctypes.c_ulong
        begin = ctypes.c_void_p.in_dll(library, "program_invocation_name").value
        end = library.getauxval(ctypes.c_ulong(_AT_EXECFN))
        size = sum(len(os.fsencode(word)) + 1 for word in sys.orig_argv)
        if begin is None:
            raise ValueError("no name")
        strings = ctypes.string_at(begin, end - begin)
    except (ImportError, AttributeError, ValueError):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    return begin, strings[:size], strings[size:]
