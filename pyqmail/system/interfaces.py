"""The addresses of this machine: of every interface that is up.

IPv4 by ioctl, see netdevice(7).  IPv6 from /proc; where that is missing, by rtnetlink(7).
"""

import array
import errno
import fcntl
import os
import socket
import struct

_SIOCGIFCONF, _SIOCGIFFLAGS, _IFF_UP = 0x8912, 0x8913, 1
_SIZE = 40  # of struct ifreq
_MOST = 4096


def own_addresses() -> set[bytes]:
    """Return the IPv4 and IPv6 addresses of all interfaces that are up.  Raises OSError."""
    return _ipv4() | _ipv6()


def _ipv4():
    room = array.array("B", bytes(_MOST * _SIZE))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        asked = struct.pack("iP", len(room), room.buffer_info()[0])
        size = struct.unpack("iP", fcntl.ioctl(sock, _SIOCGIFCONF, asked))[0]
        found, records = set(), room.tobytes()[:size]
        for at in range(0, size, _SIZE):
            name = records[at : at + 16]
            flags = fcntl.ioctl(sock, _SIOCGIFFLAGS, name + bytes(_SIZE - 16))
            if struct.unpack_from("H", flags, 16)[0] & _IFF_UP:
                found.add(socket.inet_ntoa(records[at + 20 : at + 24]).encode())
    return found


def _ipv6():
    try:
        # not /proc/net: that is missing where /proc has nothing but processes
        with open("/proc/self/net/if_inet6", "rb") as file:
            words = [line.split()[0] for line in file]
    except FileNotFoundError:
        return set() if os.path.exists("/proc/self/net") else _ask_kernel()  # a kernel without IPv6; or no /proc
    return {socket.inet_ntop(socket.AF_INET6, bytes.fromhex(word.decode())).encode() for word in words}


_ROUTE, _GET_ADDRESSES, _NEW_ADDRESS, _ERROR, _DONE, _REQUEST_DUMP = 0, 22, 20, 2, 3, 0x301
_ADDRESS, _LOCAL = 1, 2  # attributes
_HEADER, _MESSAGE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("=HH")
_SECONDS = 5.0


def _ask_kernel():
    """Return all IPv6 addresses.  Raises OSError, also where a sandbox does not let us ask."""
    found = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _ROUTE) as sock:
        sock.settimeout(_SECONDS)
        body = _MESSAGE.pack(socket.AF_INET6, 0, 0, 0, 0)
        sock.send(_HEADER.pack(_HEADER.size + len(body), _GET_ADDRESSES, _REQUEST_DUMP, 1, 0) + body)
        while _take(sock.recv(1 << 16), found):
            pass
    return found


def _take(data, found):
    """Add the addresses in one datagram; return False after the last."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if kind == _DONE:
            return False
        if kind == _ERROR or length < _HEADER.size:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        if kind == _NEW_ADDRESS and data[at + _HEADER.size] == socket.AF_INET6:
            attributes = dict(_attributes(data[at + _HEADER.size + _MESSAGE.size : at + length]))
            packed = attributes.get(_LOCAL) or attributes[_ADDRESS]
            found.add(socket.inet_ntop(socket.AF_INET6, packed).encode())
        at += (length + 3) & ~3
    return True


def _attributes(data):
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
