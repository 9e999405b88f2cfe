"""How a program fails: one line and an exit code; and the originals' words for an errno.

Permanent ends with exit code 100 (trying again cannot help), Temporary with 111 (it might).
The reasons are ucspi-tcp's error texts, not strerror's: log readers know them, and the locale
does not change them.
"""

import errno


class Failure(Exception):
    """What could not be done, and why.

    str() is the text after `fatal: `: the text, then `: ` and the reason if there was a system error.
    """

    code = 111

    def __init__(self, text: str, error: OSError | None = None) -> None:
        super().__init__(text if error is None else f"{text}: {reason(error)}")
        self.text = text
        self.error = error


class Permanent(Failure):
    """Trying again cannot help: exit code 100."""

    code = 100


class Temporary(Failure):
    """Trying again might help: exit code 111."""


class Usage(Permanent):
    """The command line is wrong.  str() is printed as it stands, without `fatal: `."""


def reason(error: OSError | int) -> str:
    """Return the originals' words for a system error or its number; `unknown error` for a foreign one."""
    number = error if isinstance(error, int) else error.errno
    return _REASONS.get(number, "no error" if number == 0 else "unknown error")


def is_temporary(error: OSError) -> bool:
    """Return whether trying again may help.  Source: error_temp() of qmail"""
    return error.errno in _TEMPORARY


def is_lack(error: Exception) -> bool:
    """Return whether it says that descriptors or memory have run out: that tells nothing about what was looked for."""
    return isinstance(error, OSError) and error.errno in _LACKS


_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory has run out; an interpreter says so within an import by a SystemError without a reason."""
    return isinstance(error, MemoryError) or isinstance(error, SystemError) and "without" in str(error)


def is_hang_up(error: OSError) -> bool:
    """Return whether it says that nobody is at the other end; of a socket or a pipe, all else may pass."""
    return error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN, errno.EBADF)


_REASONS = {
    getattr(errno, name): text
    for name, text in (
        ("E2BIG", "argument list too long"),
        ("EACCES", "access denied"),
        ("EADDRINUSE", "address already used"),
        ("EADDRNOTAVAIL", "address not available"),
        ("EADV", "advertise error"),
        ("EAFNOSUPPORT", "address family not supported"),
        ("EAGAIN", "temporary failure"),
        ("EALREADY", "operation already in progress"),
        ("EBADF", "file descriptor not open"),
        ("EBADMSG", "bad message type"),
        ("EBUSY", "device busy"),
        ("ECHILD", "no child processes"),
        ("ECOMM", "communication error"),
        ("ECONNABORTED", "connection aborted"),
        ("ECONNREFUSED", "connection refused"),
        ("ECONNRESET", "connection reset"),
        ("EDEADLK", "operation would cause deadlock"),
        ("EDESTADDRREQ", "destination address required"),
        ("EDOM", "input out of range"),
        ("EDQUOT", "disk quota exceeded"),
        ("EEXIST", "file already exists"),
        ("EFAULT", "bad address"),
        ("EFBIG", "file too big"),
        ("EHOSTDOWN", "host down"),
        ("EHOSTUNREACH", "host unreachable"),
        ("EIDRM", "identifier removed"),
        ("EINPROGRESS", "operation in progress"),
        ("EINTR", "interrupted system call"),
        ("EINVAL", "invalid argument"),
        ("EIO", "input/output error"),
        ("EISCONN", "already connected"),
        ("EISDIR", "is a directory"),
        ("ELOOP", "symbolic link loop"),
        ("EMFILE", "process cannot open more files"),
        ("EMLINK", "too many links"),
        ("EMSGSIZE", "message too long"),
        ("EMULTIHOP", "multihop attempted"),
        ("ENAMETOOLONG", "file name too long"),
        ("ENETDOWN", "network down"),
        ("ENETRESET", "network reset"),
        ("ENETUNREACH", "network unreachable"),
        ("ENFILE", "system cannot open more files"),
        ("ENOBUFS", "out of buffer space"),
        ("ENODEV", "device does not support operation"),
        ("ENOENT", "file does not exist"),
        ("ENOEXEC", "exec format error"),
        ("ENOLCK", "no locks available"),
        ("ENOLINK", "link severed"),
        ("ENOMEM", "out of memory"),
        ("ENOMSG", "no message of desired type"),
        ("ENONET", "machine not on network"),
        ("ENOPROTOOPT", "protocol not available"),
        ("ENOSPC", "out of disk space"),
        ("ENOSR", "out of stream resources"),
        ("ENOSTR", "not a stream device"),
        ("ENOSYS", "system call not available"),
        ("ENOTBLK", "not a block device"),
        ("ENOTCONN", "not connected"),
        ("ENOTDIR", "not a directory"),
        ("ENOTEMPTY", "directory not empty"),
        ("ENOTSOCK", "not a socket"),
        ("ENOTTY", "not a tty"),
        ("ENXIO", "device not configured"),
        ("EOPNOTSUPP", "operation not supported"),
        ("EPERM", "permission denied"),
        ("EPFNOSUPPORT", "protocol family not supported"),
        ("EPIPE", "broken pipe"),
        ("EPROTO", "protocol error"),
        ("EPROTONOSUPPORT", "protocol not supported"),
        ("EPROTOTYPE", "incorrect protocol type"),
        ("ERANGE", "output out of range"),
        ("EREMCHG", "remote address changed"),
        ("EREMOTE", "too many levels of remote in path"),
        ("EROFS", "read-only file system"),
        ("ESHUTDOWN", "socket shut down"),
        ("ESOCKTNOSUPPORT", "socket type not supported"),
        ("ESPIPE", "unseekable descriptor"),
        ("ESRCH", "no such process"),
        ("ESRMNT", "srmount error"),
        ("ESTALE", "stale NFS file handle"),
        ("ETIME", "timer expired"),
        ("ETIMEDOUT", "timed out"),
        ("ETOOMANYREFS", "too many references"),
        ("ETXTBSY", "text busy"),
        ("EUSERS", "too many users"),
        ("EXDEV", "cross-device link"),
    )
}

_TEMPORARY = {
    getattr(errno, name)
    for name in (
        "EINTR ENOMEM ETXTBSY EIO ETIMEDOUT EAGAIN EDEADLK EBUSY ENFILE EMFILE EFBIG ENOSPC EDQUOT ESTALE ENOLCK "
        "ENOBUFS EUSERS ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ETOOMANYREFS ECONNREFUSED EHOSTDOWN "
        "EHOSTUNREACH"
    ).split()
}


def traceback_text(error: BaseException) -> str:
    """Return where an exception came from, as an interpreter prints it, without the lines of the source.

    Nothing is imported or read for it: we may have given up the right to, and the source may be another one by now.
    """
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{traceback_text(cause)}\nDuring handling of the above, or because of it:\n\n" if cause else ""
    lines, at = ["Traceback (most recent call last):\n"], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {at.tb_lineno}, in {code.co_name}\n')
        at = at.tb_next
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{before}{''.join(lines)}{name}: {error}\n"
