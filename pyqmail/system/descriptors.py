"""Descriptors: whole writes, reads with a bound, standard ones that are missing."""

import fcntl
import os


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of data to a blocking descriptor.  Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_all(fd: int, limit_bytes: int | None = None) -> bytes:
    """Read to end of file, or until limit_bytes have been read.  Raises OSError."""
    pieces, have = [], 0
    while limit_bytes is None or have < limit_bytes:
        piece = os.read(fd, 65536 if limit_bytes is None else min(65536, limit_bytes - have))
        if not piece:
            break
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)


def read_file(path: str | bytes, limit_bytes: int | None = None) -> bytes:
    """Return a file's content, at most so much; opened non-blocking, so that a FIFO cannot hold us.

    Raises OSError with the file's name.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return read_all(fd, limit_bytes)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def log(line: str | bytes) -> None:
    """Write one whole line to descriptor 2 with one write; a log that is gone is no reason to stop."""
    try:
        os.write(2, (line if isinstance(line, bytes) else os.fsencode(line)) + b"\n")
    except OSError:
        pass


def open_standard_descriptors() -> None:
    """Put /dev/null on each of 0, 1 and 2 that is closed, so that nothing else lands there."""
    while True:
        fd = os.open("/dev/null", os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


def move(source: int, target: int) -> None:
    """Make target what source was, inheritable, and close source.  Raises OSError."""
    if source == target:
        os.set_inheritable(target, True)
        return
    os.dup2(source, target)
    os.close(source)


def open_descriptors() -> list[int]:
    """Return all open descriptors, sorted; if /proc cannot be read, all numbers that could be one."""
    try:
        return sorted(map(int, os.listdir("/proc/self/fd")))
    except OSError:
        return list(range(os.sysconf("SC_OPEN_MAX")))  # RLIMIT_NOFILE


def close_from(lowest: int) -> None:
    """Close every descriptor from lowest up."""
    os.closerange(lowest, open_descriptors()[-1] + 1)


def arrange(wanted: dict[int, int]) -> None:
    """Make wanted (number -> descriptor of ours) the only descriptors there are, each inheritable.

    Numbers below the highest that are not wanted are closed too.  Raises OSError.
    """
    beyond = max(wanted) + 1
    copies = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, beyond) for number, fd in wanted.items()}
    for number, copy in copies.items():
        os.dup2(copy, number)
    close_from(beyond)
    for number in set(range(beyond)) - set(wanted):
        try:
            os.close(number)
        except OSError:
            pass


def keep_from_children(lowest: int) -> None:
    """Make every descriptor from lowest up close-on-exec: what we inherited is not for the programs we start."""
    for fd in open_descriptors():
        if fd >= lowest:
            try:
                os.set_inheritable(fd, False)
            except OSError:
                pass  # the one that listed them, or none
