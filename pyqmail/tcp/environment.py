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


def merged(environ: dict, additions) -> dict:
    """Return environ with additions, pairs of (name, value), in the order the originals' programs see.

    A value of None removes the name.  Each addition takes the place away from an entry of its name, which the
    last entry then fills, and stands at the end itself.  A name that is empty cannot be passed on and is left out.
    Source: pathexec of ucspi-tcp
    """
    names, values = list(environ), dict(environ)
    for name, value in additions:
        if name in values:
            names[names.index(name)] = names[-1]
            names.pop()
            del values[name]
        if value is not None and name:
            names.append(name)
            values[name] = value
    return {name: values[name] for name in names}


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
