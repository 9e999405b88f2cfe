"""Show who is connected to a pytcpserver.

PATH is the socket of pytcpserver's --status-socket.  On a terminal the table is shown again every second, as much of it
as fits, until q or Ctrl-C.  Otherwise, or with --once, all of it is shown once, as plain text.

The table has a line for each connection, the oldest first: its number in the log lines, protocol, client and port, how
long ago it was accepted, for how long nothing was received or sent, the kernel's state of it, and how many bytes were
received from the client and sent to it.  A dash is a value that the kernel does not report.

Above it is a line for each client that a limit of pysmtpd has refused within the last minute, the last refused first,
ten at most: the client, the control file of the limit, how many times, and how long ago the last time was.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Flag
from pyqmail.base.tables import amount, columns, duration, shortened
from pyqmail.protocol.visible import visible_line
from pyqmail.protocol.wires import status_wire
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all

_HEADS = ("NUMBER", "PROTO", "CLIENT", "PORT", "AGE", "IDLE", "STATE", "RECEIVED", "SENT")
_MAX_LIMITED = 10
_TO_THE_LEFT = {"PROTO", "CLIENT", "STATE"}

PROGRAM = Program(
    name="pytcptop",
    summary="show who is connected to a pytcpserver",
    options=[Flag(None, "is_once", "show the table once", long="once")],
    arguments=[Argument("path", "the server's status socket")],
    exits={0: "shown", 111: "no server answers at PATH, or its answer is not understood"},
    section=1,
    see=("pytcpserver(8)",),
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    if call.is_once or not os.isatty(1):
        try:
            write_all(1, ("\n".join(table(ask(call.path))) + "\n").encode("ascii"))
        except BrokenPipeError:
            pass  # who read it has seen enough
        return 0
    from pyqmail.system.screen import watch

    watch(lambda most_lines: table(ask(call.path), most_lines))
    return 0


def ask(path: str) -> dict:
    """Return what the server at path says of itself (protocol/wires/status_wire.py).  Raises Temporary."""
    from pyqmail.system.status_client import TooLong, read_status

    try:
        return status_wire.unpack(read_status(path, status_wire.LIMIT_BYTES))
    except TooLong:
        raise Temporary(f"unable to understand {path}: too long") from None
    except status_wire.MalformedStatus as why:
        raise Temporary(f"unable to understand {path}: {why}") from None


def table(status: dict, most_lines: int | None = None) -> list[str]:
    """Return the lines that show a status, most_lines at most; the last of them then says how many are left out."""
    rows = [_row(connection, status["now"]) for connection in status["connections"]]
    return shortened([*_summary(status), *_limited(status), "", *columns([_HEADS, *rows], _TO_THE_LEFT)], most_lines)


def _summary(status):
    """Return the lines about the server as a whole."""
    places = ", ".join(map(visible_line, status["listening"])) or "nowhere"
    age = duration(status["now"] - status["since"])
    yield f"{visible_line(status['server'])} {status['pid']}: {places}; {status['count']}/{status['limit']}, up {age}"
    workers = [f"worker {worker['pid']}: {worker['sessions']}" for worker in status["workers"]]
    ending = ["accepts no more connections"] if status["is_ending"] else []
    yield ", ".join([visible_line(status["serving_mode"]), *workers, *ending])


def _limited(status):
    """Return the lines about clients that a limit has refused lately."""
    limited = status.get("limited", [])
    for each in limited[:_MAX_LIMITED]:
        client, limit, ago = visible_line(each["client"]), visible_line(each["limit"]), duration(each["idle_ms"] / 1000)
        yield f"limited: {client} by {limit}, {each['times']} refused, the last {ago} ago"
    if len(limited) > _MAX_LIMITED:
        yield f"limited: {len(limited) - _MAX_LIMITED} more"


def _row(connection, now):
    idle, received, sent = (connection[name] for name in ("idle_ms", "received", "sent"))
    return (
        str(connection["number"]),
        visible_line(connection["protocol"]),
        visible_line(connection["ip"]),
        str(connection["port"] or "-"),
        duration(now - connection["since"]),
        "-" if idle is None else duration(idle / 1000),
        visible_line(connection["state"] or "-"),
        "-" if received is None else amount(received),
        "-" if sent is None else amount(sent),
    )
