"""The environment of a connection's program: ours, and what is known about the connection."""

from collections.abc import Mapping

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


class SessionEnvironment(Mapping):
    """The same for a session in a worker: its few variables over the process's, which all sessions share.

    base is what all share, without NAMES.  Read only; dict(environment) is a copy to change.
    """

    __slots__ = ("_base", "_own")

    def __init__(self, base: dict, additions) -> None:
        self._base = base
        self._own = {name: value for name, value in additions if value is not None and name}

    def __getitem__(self, name):
        own = self._own
        return own[name] if name in own else self._base[name]

    def get(self, name, default=None):
        own = self._own
        return own[name] if name in own else self._base.get(name, default)

    def __contains__(self, name):
        return name in self._own or name in self._base

    def __iter__(self):
        yield from self._base
        yield from (name for name in self._own if name not in self._base)

    def __len__(self):
        return len(self._base) + sum(name not in self._base for name in self._own)
