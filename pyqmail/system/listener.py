"""Listening sockets, opened or inherited, and the numbers of sessions."""

import errno
import fcntl
import os
import socket
import stat
import time

from pyqmail.base.failure import Temporary

# accept(2) failed, but a connection was taken off the queue: the next one may be good
GONE = (
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOPROTOOPT,
    errno.ENONET,
    errno.ETIMEDOUT,
)
# it will always fail.  Every other error may pass: what the system lacks it may have again in a moment
FINAL = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP)
_QUIET_SECONDS = 60.0  # without an error, before it is worth a line again
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_MAX_PATH_BYTES = 107
_LOCK_SECONDS = 1.0
_PID_MAX_LIMIT = 1 << 22  # of every kernel, include/linux/threads.h


def listen(ip: str, port: int, backlog: int, is_dual: bool = False, scope: int = 0) -> socket.socket:
    """Return a non-blocking socket that listens on ip and port (0: the kernel's choice).

    An IPv6 one hears IPv6 only, unless is_dual.  scope: the number of a link-local address's interface.
    Raises Temporary with tcpserver's words for what failed.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = _new_socket(family)

    def bind():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_dual)
        sock.bind((ip, port, 0, scope) if family == socket.AF_INET6 else (ip, port))

    return _begin(sock, backlog, (bind, "unable to bind"), (sock.getsockname, "unable to get local address"))


def listen_at(path: str, backlog: int, mode: int | None = None) -> socket.socket:
    """Return a non-blocking socket that listens at path, whose file has this mode, None: by the umask.

    A socket file without a listener is replaced.  Raises Temporary.
    """
    sock = _new_socket(socket.AF_UNIX)
    folder = _lock(os.path.dirname(path))  # two that find the same left-over file would remove one another's
    try:
        return _begin(sock, backlog, (lambda: _bind_at(sock, path, mode), "unable to bind"))
    finally:
        if folder is not None:
            os.close(folder)


def inherit(numbers) -> list[socket.socket]:
    """Take over listening descriptors: the sockets returned are non-blocking and close-on-exec.

    Of 0, 1 and 2 they are copies; any other number is free afterwards.  Raises Temporary.
    """
    for number in numbers:  # before there are any of our own that could have one of these numbers
        try:
            is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
        except (OSError, OverflowError):
            raise Temporary(f"unable to use descriptor {number}", OSError(errno.EBADF, "")) from None
        if not is_socket:
            raise Temporary(f"unable to use descriptor {number}", OSError(errno.ENOTSOCK, ""))
    return [_inherit(number) for number in numbers]


def _inherit(number):
    try:
        sock = socket.socket(fileno=fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3))
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise Temporary(f"unable to use descriptor {number}", error) from None
    if not listens or sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        sock.close()
        raise Temporary(f"descriptor {number} is no socket that listens for streams")
    if number > 2:
        os.close(number)
    sock.setblocking(False)
    return sock


def _new_socket(family):
    try:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise Temporary("unable to create socket", error) from None


def _begin(sock, backlog, *steps):
    """Do steps, pairs of what to do and the words for its failure, and then listen; returns sock."""
    for attempt, words in (*steps, (lambda: sock.listen(min(backlog, 0x7FFFFFFF)), "unable to listen")):
        try:
            attempt()
        except OSError as error:
            sock.close()
            raise Temporary(words, error) from None
    sock.setblocking(False)
    return sock


def _lock(folder):
    """Lock a folder; returns its descriptor, or None if we may not read it.

    We do not insist: any process that may read it can hold its lock for ever.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None  # bind reports what is wrong, if anything is
    until = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < until:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            time.sleep(0.01)
    return fd


def _bind_at(sock, path, mode):
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    # made with its mode: by the time of a chmod a stranger could have put a link to another file there
    mask = os.umask(0 if mode is None else 0o777 & ~mode)
    if mode is None:
        os.umask(mask)
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_left_over(path):
            raise
        os.unlink(path)
        sock.bind(path)
    finally:
        os.umask(mask)


def _is_left_over(path):
    """Return whether path is a socket without a listener."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


def socket_file(path: str | bytes) -> tuple[int, int] | None:
    """Return what identifies the file at path, None if there is none."""
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return seen.st_dev, seen.st_ino


def unlink_socket(sock: socket.socket, path: str | bytes, made: tuple[int, int] | None) -> None:
    """Remove the file of a socket that is still open if it is the one that was made, see socket_file(), and we may."""
    if made is None or sock.fileno() < 0:  # while open, no other file can have its number
        return
    try:
        if socket_file(path) == made:
            os.unlink(path)
    except OSError:
        pass  # left over: the next listener replaces it


class Troubles:
    """Why accept(2) fails: what lasts, or comes and goes, is reported once, until it was not seen for a minute."""

    def __init__(self, clock=time.monotonic):
        self._clock, self._seen = clock, {}  # errno: when it was seen last

    def is_new(self, error: OSError) -> bool:
        """Return whether to report the error: it was not seen lately."""
        now = self._clock()
        before, self._seen[error.errno] = self._seen.get(error.errno), now
        return before is None or now - before > _QUIET_SECONDS


def first_session_number() -> int:
    """Return the smallest number that is never a process's."""
    try:
        with open("/proc/sys/kernel/pid_max", "rb") as file:
            return int(file.read()) + 1
    except FileNotFoundError:
        return _PID_MAX_LIMIT + 1  # a /proc without sys, or none
