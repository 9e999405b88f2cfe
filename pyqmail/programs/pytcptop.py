"""Show who is connected to a pytcpserver.

PATH is the socket of pytcpserver's --status-socket.  On a terminal the table is shown again every second, as much of it
as fits, until q or Ctrl-C.  Otherwise, or with --once, all of it is shown once, as plain text.

The table has a line for each connection, the oldest first: its number in the log lines, protocol, client and port, how
long ago it was accepted, for how long nothing was received or sent, the kernel's state of it, and how many bytes were
received from the client and sent to it.  A dash is a value that the kernel does not report.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Flag
from pyqmail.base.tables import amount, columns, duration, shortened
from pyqmail.protocol.visible import visible
from pyqmail.protocol.wires import status_wire
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all

_PATIENCE_SECONDS = 10.0
_HEADS = ("NUMBER", "PROTO", "CLIENT", "PORT", "AGE", "IDLE", "STATE", "RECEIVED", "SENT")
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
    try:
        return status_wire.unpack(_read(path))
    except status_wire.MalformedStatus as why:
        raise Temporary(f"unable to understand {path}: {why}") from None


def _read(path):
    """Return all that a status socket sends.  Raises Temporary, MalformedStatus."""
    import socket

    pieces, size = [], 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(_PATIENCE_SECONDS)
        try:
            sock.connect(path)
            while piece := sock.recv(1 << 16):
                pieces.append(piece)
                size += len(piece)
                if size > status_wire.LIMIT_BYTES:
                    raise status_wire.MalformedStatus("too long")
        except TimeoutError:
            raise Temporary(f"unable to read {path}: timed out") from None
        except OSError as error:  # a path that is too long for a socket is refused without a number
            why = f": {error}" if not error.errno else ""
            raise Temporary(f"unable to read {path}{why}", error if error.errno else None) from None
    return b"".join(pieces)


def table(status: dict, most_lines: int | None = None) -> list[str]:
    """Return the lines that show a status, most_lines at most; the last of them then says how many are left out."""
    rows = [_row(connection, status["now"]) for connection in status["connections"]]
    return shortened([*_summary(status), "", *columns([_HEADS, *rows], _TO_THE_LEFT)], most_lines)


def _summary(status):
    """Return the lines about the server as a whole."""
    places = ", ".join(map(_clean, status["listening"])) or "nowhere"
    age = duration(status["now"] - status["since"])
    yield f"{_clean(status['server'])} {status['pid']}: {places}; {status['count']}/{status['limit']}, up {age}"
    workers = [f"worker {worker['pid']}: {worker['sessions']}" for worker in status["workers"]]
    ending = ["accepts no more connections"] if status["is_ending"] else []
    yield ", ".join([_clean(status["serving_mode"]), *workers, *ending])


def _row(connection, now):
    idle, received, sent = (connection[name] for name in ("idle_ms", "received", "sent"))
    return (
        str(connection["number"]),
        _clean(connection["protocol"]),
        _clean(connection["ip"]),
        str(connection["port"] or "-"),
        duration(now - connection["since"]),
        "-" if idle is None else duration(idle / 1000),
        _clean(connection["state"] or "-"),
        "-" if received is None else amount(received),
        "-" if sent is None else amount(sent),
    )


def _clean(text):
    """Return a name with all that could steer a terminal made visible; newlines and tabs, too."""
    shown = visible(text.encode("utf-8", "surrogatepass"))
    return shown.replace(b"\n", b"^J").replace(b"\t", b"^I").decode("ascii")
