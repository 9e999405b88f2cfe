"""Show who is connected to a pytcpserver.

PATH is the socket of pytcpserver's --status-socket.  On a terminal the table is shown again every second, as much
of it as there is room for, until q or Ctrl-C; anywhere else, or with --once, all of it once, as plain text.

The table has a line for each connection, the oldest first: its number in the log lines, protocol, client and port, how
long ago it was accepted, for how long nothing was received or sent, the state the kernel sees it in, and how many bytes
were received from the client and sent to it.  What the kernel does not say is a dash.
"""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Flag, Program
from pyqmail.protocol import status_wire
from pyqmail.protocol.visible import visible
from pyqmail.system.descriptors import write_all

_PATIENCE_SECONDS = 10.0
_REFRESH_SECONDS = 1.0
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_HEADS = ("NUMBER", "PROTO", "CLIENT", "PORT", "AGE", "IDLE", "STATE", "RECEIVED", "SENT")
_TO_THE_LEFT = {"PROTO", "CLIENT", "STATE"}

PROGRAM = Program(
    name="pytcptop",
    summary="show who is connected to a pytcpserver",
    options=[Flag(None, "is_once", "show the table once", long="once")],
    defaults={"is_once": False},
    arguments=[Argument("path", "the server's status socket")],
    exits={0: "shown", 111: "nobody answers at PATH, or not as we understand it"},
    section=1,
    see=("pytcpserver(8)",),
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    if call.is_once or not os.isatty(1):
        try:
            write_all(1, _bytes("\n".join(table(ask(call.path))) + "\n"))
        except BrokenPipeError:
            pass  # who read it has seen enough
        return 0
    return watch(call.path)


def ask(path: str) -> dict:
    """Return what the server at path says of itself (protocol/status_wire.py).  Raises Temporary."""
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
                    raise Temporary(f"unable to understand {path}: too long")
        except TimeoutError:
            raise Temporary(f"unable to read {path}: timed out") from None
        except OSError as error:
            # a path that is too long for a socket is refused without a number
            raise (
                Temporary(f"unable to read {path}", error)
                if error.errno
                else Temporary(f"unable to read {path}: {error}")
            ) from None
    try:
        return status_wire.unpack(b"".join(pieces))
    except status_wire.Malformed as why:
        raise Temporary(f"unable to understand {path}: {why}") from None


def table(status: dict, most_lines: int | None = None) -> list[str]:
    """Return the lines that show a status, most_lines at most; the last of them then says how many are left out."""
    rows = [_row(connection, status["now"]) for connection in status["connections"]]
    lines = [*_summary(status), "", *_columns([_HEADS, *rows])]
    if most_lines is not None and len(lines) > most_lines:
        kept = max(0, most_lines - 1)
        lines = [*lines[:kept], f"and {len(lines) - kept} more"]
    return lines


def duration(seconds: float) -> str:
    """Return a time that has passed in at most two units: 7s, 3m05s, 2h00m, 4d11h."""
    whole = max(0, int(seconds))
    for unit, smaller, size, part in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{smaller}"
    return f"{whole}s"


def amount(count: int) -> str:
    """Return a number of bytes in at most four digits and a letter for 1024, 1024^2...: 999, 1.5k, 10M."""
    size, letters = float(count), iter("kMGTPE")
    letter = ""
    while size >= 1024 and letter != "E":
        size, letter = size / 1024, next(letters)
    return f"{size:.1f}{letter}" if letter and size < 9.95 else f"{size:.0f}{letter}"


def watch(path: str) -> int:
    """Show the table on the terminal until somebody asks us to leave; the terminal is then as it was."""
    import signal
    import termios
    import tty

    before = termios.tcgetattr(0) if os.isatty(0) else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if before is not None:
            tty.setcbreak(0)
        _show(_HIDE_CURSOR + _HOME + _CLEAR_REST)
        while True:
            size = os.get_terminal_size(1)  # zeros if the terminal does not know
            lines = [line[: size.columns or 80] for line in table(ask(path), (size.lines or 24) - 1)]
            _show(_HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_REST)
            if _is_over(before is not None):
                return 0
    except KeyboardInterrupt:
        return 0
    finally:
        _show(_SHOW_CURSOR)
        if before is not None:
            termios.tcsetattr(0, termios.TCSANOW, before)


def _is_over(has_keys):
    """Wait a moment.  Returns whether somebody has pressed q, or the keyboard has gone."""
    import select

    if not select.select([0] if has_keys else [], [], [], _REFRESH_SECONDS)[0]:
        return False
    pressed = os.read(0, 100)
    return not pressed or b"q" in pressed.lower()


def _show(text):
    write_all(1, _bytes(text))


def _bytes(text):
    return text.encode("ascii")


def _summary(status):
    """Return the lines about the server as a whole."""
    places = ", ".join(map(_clean, status["listening"])) or "nowhere"
    age = duration(status["now"] - status["since"])
    yield f"{_clean(status['server'])} {status['pid']}: {places}; {status['count']}/{status['limit']}, up {age}"
    workers = [f"worker {worker['pid']}: {worker['sessions']}" for worker in status["workers"]]
    ending = ["accepts nobody any more"] if status["is_ending"] else []
    yield ", ".join([_clean(status["way"]), *workers, *ending])


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


def _columns(rows):
    """Return the rows as lines, each column as wide as its widest field."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        fields = (
            field.ljust(width) if head in _TO_THE_LEFT else field.rjust(width)
            for head, field, width in zip(_HEADS, row, widths)
        )
        yield "  ".join(fields).rstrip()


def _clean(text):
    """Return a name with all that could steer a terminal made visible; newlines and tabs, too."""
    shown = visible(text.encode("utf-8", "surrogatepass"))
    return shown.replace(b"\n", b"^J").replace(b"\t", b"^I").decode("ascii")
