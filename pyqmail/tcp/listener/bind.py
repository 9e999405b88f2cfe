"""Bind the sockets that the words HOST and PORT mean.

HOST is one word or several, separated by commas:

    0, or nothing       all IPv4 addresses
    ::                  all IPv6 addresses
    :0                  both, with one socket; IPv4 alone where the kernel has no IPv6
    192.0.2.1, ::1      that address; fe80::1%eth0 with its interface
    a name              its first address
    a/path              a UNIX socket, which is made there
    fd:N                descriptor N, which already listens
    fd:                 all that were passed on with LISTEN_FDS
"""

import errno
import os
import socket

from pyqmail.base.failure import Permanent, Temporary
from pyqmail.base.numbers import is_number, whole_number
from pyqmail.system.listener import inherit, listen, listen_at
from pyqmail.tcp.access.connection import plain
from pyqmail.tcp.listener.listening_socket import ListeningSocket

BOTH, IP4, IP6 = ("A", "AAAA"), ("A",), ("AAAA",)
_PASSED_ON = (b"LISTEN_PID", b"LISTEN_FDS", b"LISTEN_FDNAMES")
_FIRST_PASSED_ON, _MAX_PASSED_ON = 3, 4096
_LINK_LOCAL = ("fe8", "fe9", "fea", "feb")
_NO_IP6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPFNOSUPPORT)
_TRIES = 100  # to find a port that is free on all addresses


class Binder:
    """Binds the sockets of HOST.

    kinds: BOTH, IP4 or IP6, for names and for `0`.  interface: that of link-local addresses without one.
    mode: of the file of a UNIX socket; None: from the umask.
    """

    def __init__(self, backlog: int, kinds=BOTH, interface: str = "", mode: int | None = None):
        self.backlog, self.kinds, self.interface, self.mode = backlog, kinds, interface, mode

    def bind(self, host: str, port: int, environ) -> list[ListeningSocket]:
        """Return the sockets of the word HOST, those with a port first: all have the same one.

        environ names the DNS servers and the descriptors that were passed on; LISTEN_FDS and its like are removed from
        it if descriptors are used.  Raises Failure.
        """
        words = host.split(",")
        if len(words) > 1 and "" in words:
            raise Permanent(f"empty word in {host}")
        addresses: dict[tuple[str, bool, int], str] = {}
        paths: dict[str, None] = {}
        numbers: dict[int, None] = {}
        for word in words:
            if "/" in word:
                paths.setdefault(word)
            elif is_inherited(word):
                numbers.update(dict.fromkeys(_numbers(word, environ)))
            else:
                addresses.setdefault(self._address(word, environ), word)
        if numbers:
            for name in _PASSED_ON:
                environ.pop(name, None)
        inherited = [ListeningSocket(sock) for sock in inherit(numbers)]
        sockets = self._bind_addresses(addresses, port, len(words) > 1)
        self._bind_paths(paths, len(words) > 1, sockets)
        return sockets + inherited

    def _bind_paths(self, paths, are_several, sockets):
        """Add a UNIX socket for each path to sockets; a failure closes all of them.  Raises Temporary."""
        try:
            for path in paths:
                with _FailureNames(path, are_several):
                    sockets.append(ListeningSocket(listen_at(path, self.backlog, self.mode), is_made=True))
        except Temporary:
            for each in sockets:
                each.close_and_unlink()
            raise

    def _bind_addresses(self, addresses, port, are_several):
        """Return the sockets, all on one port; port 0: one that is free on all addresses, found by trying.

        Raises Temporary.
        """
        for _ in range(_TRIES - 1):
            sockets = []
            try:
                return self._bind_once(addresses, port, are_several, sockets)
            except Temporary as failure:
                is_taken = failure.error is not None and failure.error.errno == errno.EADDRINUSE
                if port or not sockets or not is_taken:
                    raise
        return self._bind_once(addresses, port, are_several, [])

    def _bind_once(self, addresses, port, are_several, sockets):
        """Add to sockets and return it; those of a failure are closed, and stay in it.  Raises Temporary."""
        try:
            for (ip, is_dual, scope), word in addresses.items():
                with _FailureNames(word or "0", are_several):
                    sockets.append(ListeningSocket(self._bind_address(ip, port, is_dual, scope)))
                port = int(sockets[0].local_port)
        except Temporary:
            for each in sockets:
                each.close()
            raise
        return sockets

    def _bind_address(self, ip, port, is_dual, scope):
        try:
            return listen(ip, port, self.backlog, is_dual, scope)
        except Temporary as failure:
            if not is_dual or failure.error is None or failure.error.errno not in _NO_IP6:
                raise
        return listen("0.0.0.0", port, self.backlog)  # both are wanted, and this kernel has only IPv4

    def _address(self, word, environ):
        """Return (address, whether it accepts IPv4 clients, too, scope).  Raises Temporary."""
        if word == ":0" and self.kinds != IP4:
            return "::", self.kinds == BOTH, 0
        if word in ("", "0", ":0"):
            if self.kinds == IP6:
                return "::", False, 0
            word = "0.0.0.0"  # the rewriting rules may know it, as any other name
        from pyqmail.tcp.client.connect import find_addresses

        text, _, interface = word.strip("[]").partition("%") if ":" in word else (word, "", "")
        ip = plain(find_addresses(text, kinds=self.kinds, environ=environ, is_shuffled=False)[0])
        return ip, False, _scope(ip, interface or self.interface)


class _FailureNames:
    """Appends a word to the text of a failure within, if there are several words."""

    def __init__(self, word, are_several):
        self._word, self._are_several = word, are_several

    def __enter__(self):
        pass

    def __exit__(self, kind, failure, _):
        if self._are_several and isinstance(failure, Temporary):
            raise Temporary(f"{failure.text} {self._word}", failure.error) from None


def has_port(host: str) -> bool:
    """Return whether anything in HOST needs a port."""
    return not all("/" in word or is_inherited(word) for word in host.split(","))


def has_path(host: str) -> bool:
    """Return whether anything in HOST is a UNIX socket to be made."""
    return any("/" in word for word in host.split(","))


def shown_port(sockets) -> bytes:
    """Return the port of the sockets, the first if there are several; empty if none has a port."""
    return next((each.local_port for each in sockets if each.local_port), b"")


def interface_number(name: str) -> int:
    """Return the number of an interface.  Raises ValueError."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise ValueError(f"no interface: {name}") from None


def is_inherited(word):
    return word.startswith("fd:") and (word == "fd:" or is_number(word[3:]))


def _numbers(word, environ):
    """Return the descriptors that a word `fd:N` or `fd:` means.  Raises Temporary."""
    if word != "fd:":
        return [_descriptor(word[3:])]
    pid, count = (environ.get(name, b"") for name in _PASSED_ON[:2])
    try:
        passed_on = whole_number(count, _MAX_PASSED_ON)
    except ValueError:
        passed_on = 0
    if pid != b"%d" % os.getpid() or not passed_on:
        raise Temporary("no sockets were passed on to us: LISTEN_FDS")
    return range(_FIRST_PASSED_ON, _FIRST_PASSED_ON + passed_on)


def _descriptor(digits):
    try:
        return whole_number(digits, 0x7FFFFFFF)
    except ValueError:
        raise Temporary(f"unable to use descriptor {digits}", OSError(errno.EBADF, "")) from None


def _scope(ip, interface):
    if not interface or ip[:3] not in _LINK_LOCAL or ":" not in ip:
        return 0
    try:
        return interface_number(interface)
    except ValueError as problem:
        raise Temporary(str(problem)) from None
