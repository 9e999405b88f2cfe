"""What a server's status socket says: one JSON document, ended by the end of the stream; nothing is asked.

    version       2; a reader that finds a number it does not know cannot rely on the rest
    server        the name at the head of its log lines
    pid           its process
    since         when it began, Unix time; every time is in seconds, with a fraction
    now           when this was said
    serving_mode  how connections are served: worker pool, fork each or spawn each
    listening     where it listens: address:port, [address]:port or a path
    limit, count  most connections at once, and how many there are
    is_ending     true once it accepts no more connections
    workers       [{pid, sessions}]: processes that serve connections for it
    limited       [{client, limit, times, idle_ms}]: clients that a limit of theirs has refused within the last minute,
                  the last refused first; how many times, and how long ago.  Absent from an older server
    connections   those that have a number, the oldest first:
        number    as in the log lines
        protocol  TCP, TCP6 or UNIX
        ip, port  the client's; of a UNIX client `unix` and 0
        since     when it was accepted
        state     of the TCP connection, as the kernel sees it: established, close-wait...
        received, sent  bytes that came from the client, and that it has acknowledged
        idle_ms   for so long nothing was received or sent

state, received, sent and idle_ms are null where the kernel does not say: for UNIX clients, for those that a proxy
speaks for, and for connections that have just begun or ended.  A byte of a name that is not UTF-8 stands as a lone
surrogate.  No number is negative, or 2^64 or more.  A document has at most LIMIT_BYTES; a reader gives up beyond.
pyqmail-wires(5) describes the wire for a program that stands at one end of it.
"""

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Fields = dict[str, Any]  # as JSON gives them; _FIELDS says what stands where
    Kinds = Mapping[str, type | tuple[type, ...]]

VERSION = 2
_TOO_MUCH = 1 << 64
LIMIT_BYTES = 64 << 20
_NUMBER, _WHOLE, _TEXT = (int, float), int, str
_FIELDS: "Kinds" = {
    "server": _TEXT,
    "pid": _WHOLE,
    "since": _NUMBER,
    "now": _NUMBER,
    "serving_mode": _TEXT,
    "listening": list,
    "limit": _WHOLE,
    "count": _WHOLE,
    "is_ending": bool,
    "workers": list,
    "limited": list,
    "connections": list,
}
_WORKER: "Kinds" = {"pid": _WHOLE, "sessions": _WHOLE}
_LIMITED: "Kinds" = {"client": _TEXT, "limit": _TEXT, "times": _WHOLE, "idle_ms": _WHOLE}
_UNKNOWN = type(None)
_CONNECTION: "Kinds" = {
    "number": _WHOLE,
    "protocol": _TEXT,
    "ip": _TEXT,
    "port": _WHOLE,
    "since": _NUMBER,
    "state": (_TEXT, _UNKNOWN),
    "received": (_WHOLE, _UNKNOWN),
    "sent": (_WHOLE, _UNKNOWN),
    "idle_ms": (_WHOLE, _UNKNOWN),
}


_WAYS = {"resident": "worker pool", "forking": "fork each", "spawning": "spawn each"}


class MalformedStatus(ValueError):
    """What came is no status, or one of a version we do not know."""


def pack(fields: "Fields") -> bytes:
    """Return the document of all fields but `version`."""
    return json.dumps({"version": VERSION, **fields}, separators=(",", ":")).encode() + b"\n"


def unpack(data: bytes) -> "Fields":
    """Return the fields of a whole document, of version 2 or 1; unknown ones are kept.  Raises MalformedStatus."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedStatus("not JSON") from None
    if not isinstance(fields, dict) or fields.get("version") not in (1, VERSION):
        raise MalformedStatus(f"not a status of version {VERSION}")
    if fields["version"] == 1:
        _update(fields)
    fields.setdefault("limited", [])
    _check(fields, _FIELDS)
    for kind, rows in (
        (_WORKER, fields["workers"]),
        (_LIMITED, fields["limited"]),
        (_CONNECTION, fields["connections"]),
    ):
        for row in rows:
            _check(row, kind)
    if not all(isinstance(place, str) for place in fields["listening"]):
        raise MalformedStatus("a field is missing or of the wrong kind: listening")
    return fields


def text(name: bytes) -> str:
    """Return a name as it stands in a document."""
    return name.decode("utf-8", "surrogateescape")


def _update(fields: "Fields") -> None:
    """Make fields of version 1 those of version 2: they have `way` for `serving_mode`."""
    way = fields.pop("way", None)
    fields["serving_mode"] = _WAYS.get(way, way) if isinstance(way, str) else way


def _check(fields: object, kinds: "Kinds") -> None:
    for name, kind in kinds.items():
        value = fields.get(name, ...) if isinstance(fields, dict) else ...
        if not isinstance(value, kind) or isinstance(value, (int, float)) and not 0 <= value < _TOO_MUCH:
            raise MalformedStatus(f"a field is missing or of the wrong kind: {name}")
