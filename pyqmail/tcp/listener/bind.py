"""Where to listen: what the words HOST and PORT mean, and the sockets opened there.

HOST is one word or several, separated by commas:

    0, or nothing       all IPv4 addresses
    ::                  all IPv6 addresses
    :0                  both, with one socket; IPv4 alone where the kernel has no IPv6
    192.0.2.1, ::1      that address; fe80::1%eth0 with its interface
    a name              its first address
    a/path              a UNIX socket, which is made there
    fd:N                descriptor N, which listens already
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


class Opening:
    """How to open what HOST says.

    kinds: BOTH, IP4 or IP6, for names and for `0`.  interface: the one of link-local addresses without any.
    mode: of the file of a UNIX socket, None: as the umask says.
    """

    def __init__(self, backlog: int, kinds=BOTH, interface: str = "", mode: int | None = None):
        self.backlog, self.kinds, self.interface, self.mode = backlog, kinds, interface, mode

    def ears(self, host: str, port: int, environ) -> list[ListeningSocket]:
        """Return what listens for the word HOST, those with a port first: all on the same one.

        environ says how names are looked up and which descriptors were passed on; LISTEN_FDS and its kin are
        removed from it if descriptors are used.  Raises Failure.
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
            elif _is_inherited(word):
                numbers.update(dict.fromkeys(_numbers(word, environ)))
            else:
                addresses.setdefault(self._address(word, environ), word)
        if numbers:
            for name in _PASSED_ON:
                environ.pop(name, None)
        inherited = [ListeningSocket(sock) for sock in inherit(numbers)]
        ears = self._listen(addresses, port, len(words) > 1)
        try:
            for path in paths:
                with _Naming(path, len(words) > 1):
                    ears.append(ListeningSocket(listen_at(path, self.backlog, self.mode), is_made=True))
        except Temporary:
            for ear in ears:
                ear.retire()
            raise
        return ears + inherited

    def _listen(self, addresses, port, are_several):
        for attempt in range(_TRIES):
            ears, number = [], port
            try:
                for (ip, is_dual, scope), word in addresses.items():
                    with _Naming(word or "0", are_several):
                        ears.append(ListeningSocket(self._listen_on(ip, number, is_dual, scope)))
                    number = int(ears[0].local_port)
                return ears
            except Temporary as failure:
                for ear in ears:
                    ear.close()
                is_taken = failure.error is not None and failure.error.errno == errno.EADDRINUSE
                if port or not ears or not is_taken or attempt == _TRIES - 1:
                    raise

    def _listen_on(self, ip, port, is_dual, scope):
        try:
            return listen(ip, port, self.backlog, is_dual, scope)
        except Temporary as failure:
            if not is_dual or failure.error is None or failure.error.errno not in _NO_IP6:
                raise
        return listen("0.0.0.0", port, self.backlog)  # both were asked for, and this kernel has only IPv4

    def _address(self, word, environ):
        """Return (address, whether it hears IPv4 too, scope).  Raises Temporary."""
        if word == ":0" and self.kinds != IP4:
            return "::", self.kinds == BOTH, 0
        if word in ("", "0", ":0"):
            if self.kinds == IP6:
                return "::", False, 0
            word = "0.0.0.0"  # which the rewriting rules may know, as any other
        from pyqmail.tcp.client.connect import find_addresses

        text, _, interface = word.strip("[]").partition("%") if ":" in word else (word, "", "")
        ip = plain(find_addresses(text, kinds=self.kinds, environ=environ, is_shuffled=False)[0])
        return ip, False, _scope(ip, interface or self.interface)


class _Naming:
    """Adds to what fails which of several it was."""

    def __init__(self, word, are_several):
        self._word, self._are_several = word, are_several

    def __enter__(self):
        pass

    def __exit__(self, kind, failure, _):
        if self._are_several and isinstance(failure, Temporary):
            raise Temporary(f"{failure.text} {self._word}", failure.error) from None


def has_port(host: str) -> bool:
    """Return whether anything in HOST needs a port."""
    return not all("/" in word or _is_inherited(word) for word in host.split(","))


def has_path(host: str) -> bool:
    """Return whether anything in HOST is a UNIX socket to be made."""
    return any("/" in word for word in host.split(","))


def shown_port(ears) -> bytes:
    """Return the port that ears listen on, the first if there are several; empty if none has a port."""
    return next((ear.local_port for ear in ears if ear.local_port), b"")


def interface_number(name: str) -> int:
    """Raises ValueError."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise ValueError(f"no interface: {name}") from None


def _is_inherited(word):
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
