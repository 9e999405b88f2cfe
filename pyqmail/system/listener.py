"""A listening TCP socket, and how many descriptors there may be."""

import errno
import socket

from pyqmail.base.failure import Temporary

# the system lacks something it may have again in a moment
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
FINAL = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP)


def listen(ip: str, port: int, backlog: int) -> socket.socket:
    """Return a non-blocking socket that listens on ip and port (0: the kernel's choice).

    Raises Temporary with tcpserver's words for what failed.
    """
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise Temporary("unable to create socket", error) from None
    for attempt, words in (
        (lambda: _bind(sock, ip, port), "unable to bind"),
        (sock.getsockname, "unable to get local address"),
        (lambda: sock.listen(min(backlog, 0x7FFFFFFF)), "unable to listen"),
    ):
        try:
            attempt()
        except OSError as error:
            sock.close()
            raise Temporary(words, error) from None
    sock.setblocking(False)
    return sock


def _bind(sock, ip, port):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((ip, port))


def raise_descriptor_limit() -> int:
    """Let this process open as many descriptors as it may ever; returns how many that is."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def first_session_number() -> int:
    """Return the smallest number that is never a process's."""
    with open("/proc/sys/kernel/pid_max", "rb") as file:
        return int(file.read()) + 1
