"""The environment of a connection's program: that of the server, and variables about the connection."""

import os
from collections.abc import Mapping

from pyqmail.tcp.access.connection import TCP6

# in the order in which they are set
NAMES = (
    b"PROTO",
    b"TCPLOCALIP",
    b"TCPLOCALPORT",
    b"TCPLOCALHOST",
    b"TCPREMOTEIP",
    b"TCPREMOTEPORT",
    b"TCPREMOTEHOST",
    b"TCPREMOTEINFO",
)


def tcp_variables(client, local_ip: bytes, local_host, host, info) -> list:
    """Return [(name, value or None)] for a TCP client.

    An IPv6 client has each twice: those of ucspi-tcp6, and TCP6REMOTEINFO.
    """
    values = (
        client.protocol,
        local_ip,
        client.local_port,
        local_host,
        client.ip,
        client.port,
        host,
        info,
    )
    additions = list(zip(NAMES, values, strict=True))
    if client.protocol == TCP6:
        additions += [(b"TCP6" + name[3:], value) for name, value in additions[1:]]
        additions.append((b"TCP6INTERFACE", client.interface or None))
    return additions


def unix_variables(client) -> list:
    """Return [(name, value or None)] for a client of a UNIX socket, as ucspi-unix sets them; those of TCP are unset."""
    pid, uid, gid = client.credentials.split()
    return [
        (b"PROTO", client.protocol),
        (b"UNIXLOCALPATH", client.local_ip),
        (b"UNIXLOCALUID", b"%d" % os.getuid()),
        (b"UNIXLOCALGID", b"%d" % os.getgid()),
        (b"UNIXLOCALPID", b"%d" % os.getpid()),
        (b"UNIXREMOTEEUID", uid),
        (b"UNIXREMOTEEGID", gid),
        (b"UNIXREMOTEPID", pid),
        *((name, None) for name in NAMES[1:]),
    ]


class SessionEnvironment(Mapping):
    """The environment of a session in a worker: its few variables over those that all sessions of the process share.

    base is what they share.  number is that of the session in the log lines.  Read only; dict(environment) is a copy
    that can be changed.
    """

    __slots__ = ("_base", "_own", "number")

    def __init__(self, base: dict, additions, number: int | None = None) -> None:
        self._base, self.number = base, number
        self._own = {name: value for name, value in additions if name and (value is not None or name in base)}

    def __getitem__(self, name):
        value = self._own[name] if name in self._own else self._base[name]
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name, default=None):
        own = self._own
        value = own[name] if name in own else self._base.get(name)
        return default if value is None else value

    def __contains__(self, name):
        return self.get(name) is not None

    def __iter__(self):
        own = self._own
        yield from (name for name in self._base if name not in own or own[name] is not None)
        yield from (name for name, value in own.items() if value is not None and name not in self._base)

    def __len__(self):
        return sum(1 for _ in self)
