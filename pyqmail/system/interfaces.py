"""The addresses of this machine: of every interface that is up."""

import socket
import struct

_SIOCGIFCONF, _SIOCGIFFLAGS, _IFF_UP = 0x8912, 0x8913, 1
_SIZE = 40  # of struct ifreq
_MOST = 4096


def own_addresses() -> set[bytes]:
    """Return the IPv4 and IPv6 addresses of all interfaces that are up.  Raises OSError."""
    return _ipv4() | _ipv6()


def _ipv4():
    import array
    import fcntl

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
        with open("/proc/net/if_inet6", "rb") as file:
            words = [line.split()[0] for line in file]
    except FileNotFoundError:  # a kernel without IPv6
        return set()
    return {socket.inet_ntop(socket.AF_INET6, bytes.fromhex(word.decode())).encode() for word in words}
