"""Show what waits in the queue, for whom, how old it is, and what holds it up.

pysend answers from memory, without a look into the queue, at once also for a million recipients.  Each line is a
domain, or what --by names, the largest first; the first line is the sum of all:

    T        recipients
    now      those in delivery
    ready    those that could go at once, if nothing held them up
    retry    those that wait for their retry time
    5        those whose message is younger than 5 minutes; then from 5 to 10 minutes, and so on; the last column is
             those that are older than 1280 minutes
    state    what holds them up, with the line of the rules or the reply that set it

A site is the set of mail exchangers of a domain, an organisation is those whose machines these are, a group is one of
pydestrules(8), a source is one of our own addresses, and a sender is the domain of an envelope sender.
"""

import json
import os

from pyqmail.base.failure import Temporary
from pyqmail.base.numbers import whole_number
from pyqmail.base.options import Flag, Value
from pyqmail.base.tables import columns
from pyqmail.operations.ask_pysend import ask_pysend
from pyqmail.protocol.visible import visible_line
from pyqmail.protocol.wires import send_status_wire as wire
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all

AGES = ("5", "10", "20", "40", "80", "160", "320", "640", "1280", "1280+")
_HEADS = ("NAME", "T", "now", "ready", "retry", *AGES, "state")
_TO_THE_LEFT = {"NAME", "state"}


def key(text: str) -> bytes:
    """Raises ValueError unless it is one of the keys."""
    if (name := os.fsencode(text)) not in wire.KEYS:
        raise ValueError("unknown key")
    return name


def rows(text: str) -> int:
    """Raises ValueError unless it is a number of rows that can be asked for."""
    if not 0 < (count := whole_number(text)) <= wire.MAX_ROWS:
        raise ValueError("out of range")
    return count


def picture(text: str) -> str:
    """Raises ValueError unless the name ends in one of the formats."""
    if not text.endswith((".png", ".svg")):
        raise ValueError("neither .png nor .svg")
    return text


PROGRAM = Program(
    name="pyqshape",
    summary="show what waits in the queue, for whom, and what holds it up",
    options=[
        Value(
            None,
            "key",
            "KEY",
            "domain, site, organisation, group, source or sender",
            key,
            long="by",
            default=b"domain",
        ),
        Value(None, "most", "N", "maximum of lines", rows, long="most", default=20),
        Flag(None, "is_json", "print the answer as JSON", long="json"),
        Value(None, "picture", "FILE", "draw into FILE, which ends in .png or .svg", picture, long="plot"),
        Value(None, "socket", "PATH", "pysend's status socket; default run/pysend in the qmail home", long="socket"),
    ],
    exits={0: "shown", 111: "pysend does not answer, or FILE cannot be written"},
    environment=["PYQMAIL_HOME"],
    see=["pysend(8)", "pyqwhy(8)", "pysendtop(1)", "pydestrules(8)", "pyqmail-tuning(7)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    answer = ask_pysend(call.socket, call.environ, wire.SHAPE, wire.shape(call.key, call.most))
    if call.picture is not None:
        draw(answer, call.picture)
        return 0
    text = json.dumps(answer, indent=2) if call.is_json else "\n".join(table(answer))
    try:
        write_all(1, text.encode("ascii") + b"\n")
    except BrokenPipeError:
        pass  # who read it has seen enough
    return 0


def table(answer: dict) -> list[str]:
    """Return the lines that show an answer to `shape`."""
    found = [_HEADS, *(_row(row) for row in (answer["total"], *answer["rows"]))]
    left_out = [f"and {answer['left_out']} more"] if answer["left_out"] else []
    return columns(found, _TO_THE_LEFT) + left_out


def _row(row):
    counts = (row["total"], row["flying"], row["ready"], row["retry"], *row["ages"])
    return (visible_line(row["name"]), *map(str, counts), visible_line(row["state"]))


def draw(answer: dict, path: str) -> None:
    """Draw an answer to `shape` into a file: a bar for each line.  Raises Temporary."""
    from pyqmail.system.plots import stacked_bars

    names = [visible_line(row["name"]) for row in answer["rows"]]
    parts = {part: [row[field] for row in answer["rows"]] for part, field in _PARTS.items()}
    try:
        stacked_bars(path, f"recipients by {answer['key']}", names, parts)
    except ImportError:
        raise Temporary("unable to draw: matplotlib is not installed") from None
    except OSError as error:
        raise Temporary(f"unable to write {path}", error) from None


_PARTS = {"in delivery": "flying", "ready": "ready", "waiting for the retry time": "retry"}
