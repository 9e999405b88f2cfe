"""Show pysend's sessions to other hosts, and what they answer.

On a terminal the table is shown again every second, as much of it as fits, until q or Ctrl-C.  Otherwise, or with
--once, all of it is shown once, as plain text.

A line is an organisation, those with the most sessions first: its sessions, how many it may have, the number at which
it refused more, recipients that could go at once, and the deliveries accepted, deferred and the sessions refused in the
last minute; then what holds it up.
"""

import os

from pyqmail.base.options import Flag, Value
from pyqmail.base.tables import columns, shortened
from pyqmail.operations.ask_pysend import ask_pysend
from pyqmail.protocol.visible import visible_line
from pyqmail.protocol.wires import send_status_wire as wire
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all

_HEADS = ("ORGANISATION", "SESSIONS", "LIMIT", "CEILING", "READY", "ACCEPTED", "DEFERRED", "REFUSED", "STATE")
_TO_THE_LEFT = {"ORGANISATION", "STATE"}
_MAX_ROWS = 1000

PROGRAM = Program(
    name="pysendtop",
    summary="show the sessions of pysend, by organisation",
    options=[
        Flag(None, "is_once", "show the table once", long="once"),
        Value(None, "socket", "PATH", "pysend's status socket; default run/pysend in the qmail home", long="socket"),
    ],
    exits={0: "shown", 111: "pysend does not answer"},
    section=1,
    environment=["PYQMAIL_HOME"],
    see=["pysend(8)", "pyqshape(8)", "pyqwhy(8)", "pytcptop(1)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    def draw(most_lines=None):
        return table(ask_pysend(call.socket, call.environ, wire.TOP, wire.top(_MAX_ROWS)), most_lines)

    if call.is_once or not os.isatty(1):
        try:
            write_all(1, ("\n".join(draw()) + "\n").encode("ascii"))
        except BrokenPipeError:
            pass  # who read it has seen enough
        return 0
    from pyqmail.system.screen import watch

    watch(draw)
    return 0


def table(answer: dict, most_lines: int | None = None) -> list[str]:
    """Return the lines that show an answer to `top`, most_lines at most; the last line says how many are left out."""
    summary = (
        f"pysend {answer['pid']}: {answer['used']}/{answer['total']} in use; {answer['open']} sessions open, "
        f"{answer['connecting']} connecting; longest turn {answer['longest_turn_ms']:.1f} ms"
    )
    lines = [summary, "", *columns([_HEADS, *map(_row, answer["rows"])], _TO_THE_LEFT)]
    if answer["left_out"]:
        lines.append(f"and {answer['left_out']} more")
    return shortened(lines, most_lines)


def _row(row):
    counts = (str(row[name]) for name in ("ready", "accepted", "deferred", "refused"))
    ceiling = "-" if row["ceiling"] is None else str(row["ceiling"])
    name, state = visible_line(row["name"]), visible_line(row["state"]) or "-"
    return (name, str(row["sessions"]), str(row["limit"]), ceiling, *counts, state)
