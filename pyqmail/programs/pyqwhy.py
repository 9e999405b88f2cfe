"""Tell why mail waits: the one limit that holds it up, who set that, and when it should go.

SUBJECT is the number of a message as it stands in the log, the address of a recipient, or a domain.  pysend answers
from memory, for each domain that is meant:

    example.com, remote: 812 recipients, full
        full: site example.com#mx1+1 5/5 (ceiling 5, one more is tried in 8m20s: 421 too many connections)
        place 1 among the destinations that wait for it
        it should go in 11m20s, at 14:05:20
        last reply: 421 too many connections
        today: 9120 accepted, 3 deferred, 0 failed; sessions refused: 2
        site example.com#mx1+1, found 4m10s ago
        host mx1.example.com (10) 192.0.2.1
        host mx2.example.com (20) 192.0.2.2: off for 2m00s more
         BUDGET             KIND   USED  LIMIT  LEARNED  PAUSED  SET BY
      >  example.com#mx1+1  site      5     10        5       -  :c=10 (destinations line 1)
         total              total    80   2000        -       -  control/concurrencyremote

The second line is the one limit that holds the mail up: how much of it is used, how much is allowed, and the line of
the rules or the reply that set the number.  The budgets are all limits that a session falls under, the narrowest first;
the one that it waits for is marked.  What `fall=` has handed to a relay is shown with the relay as its site.  LEARNED
is the number that refusals of the other side have taught.  When it should go is a guess by what the sessions have done
so far, for all that is ready, unless a clock decides.  Mail that nothing waits for has been delivered or has bounced,
or pysend has not read it yet.
"""

import json
import os
import time

from pyqmail.base.failure import Permanent
from pyqmail.base.numbers import is_number
from pyqmail.base.options import Argument, Flag, Value
from pyqmail.base.tables import columns, duration
from pyqmail.operations.ask_pysend import ask_pysend
from pyqmail.protocol.visible import visible_line
from pyqmail.protocol.wires import send_status_wire as wire
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import write_all

_HEADS = (" ", "BUDGET", "KIND", "USED", "LIMIT", "LEARNED", "PAUSED", "SET BY")
_LAST_DATE = 253402300799  # of year 9999
_TO_THE_LEFT = {" ", "BUDGET", "KIND", "SET BY"}

PROGRAM = Program(
    name="pyqwhy",
    summary="tell why mail waits, for which limit, and until when",
    options=[
        Flag(None, "is_json", "print the answer as JSON", long="json"),
        Value(None, "socket", "PATH", "pysend's status socket; default run/pysend in the qmail home", long="socket"),
    ],
    arguments=[Argument("subject", "a message's number, a recipient's address, or a domain")],
    exits={0: "told, or nothing waits", 100: "SUBJECT is none of these", 111: "pysend does not answer"},
    environment=["PYQMAIL_HOME"],
    see=["pysend(8)", "pyqshape(8)", "pydestcheck(8)", "pydestrules(8)", "pyqmail-tuning(7)"],
)


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, work)


def work(call) -> int:
    name = os.fsencode(call.subject)
    question = wire.why(kind_of(name), name)
    try:
        wire.split_question(question)
    except wire.MalformedSendStatus:
        raise Permanent(f"{visible_line(call.subject)} is no message, recipient or domain") from None
    answer = ask_pysend(call.socket, call.environ, wire.WHY, question)
    text = json.dumps(answer, indent=2) if call.is_json else "\n".join(shown(answer))
    try:
        write_all(1, text.encode("ascii") + b"\n")
    except BrokenPipeError:
        pass  # who read it has seen enough
    return 0


def kind_of(name: bytes) -> bytes:
    """Return which of KINDS a subject is."""
    if is_number(name):
        return wire.MESSAGE
    return wire.RECIPIENT if b"@" in name else wire.DOMAIN


def shown(answer: dict) -> list[str]:
    """Return the lines that show an answer to `why`."""
    if not answer["entries"]:
        return [f"nothing waits for {visible_line(answer['subject'])}"]
    return [line for entry in answer["entries"] for line in _entry(entry, answer["now"])]


def _entry(entry, now):
    count = entry["recipients"]
    source = f" through {visible_line(entry['source'])}" if entry.get("source") else ""
    who = f"{visible_line(entry['domain'])}, {visible_line(entry['channel'])}{source}"
    yield f"{who}: {count} recipient{'s' if count != 1 else ''}, {visible_line(entry['state'])}"
    yield f"    {visible_line(entry['reason'])}"
    if entry["place"] is not None:
        yield f"    place {entry['place']} among the destinations that wait for it"
    if entry["expected_seconds"] is not None:
        yield f"    it should go in {duration(entry['expected_seconds'])}, at {_clock(now, entry['expected_seconds'])}"
    if entry["last_reply"]:
        yield f"    last reply: {visible_line(entry['last_reply'])}"
    if entry.get("today"):
        yield f"    today: {_today(entry['today'])}"
    if entry["site"]:
        age = f", found {duration(entry['answer_age'])} ago" if entry["answer_age"] is not None else ""
        yield f"    site {visible_line(entry['site'])}{age}"
    for host in entry["hosts"]:
        addresses = " ".join(map(visible_line, map(str, host["addresses"])))
        state = f": {visible_line(host['state'])}" if host["state"] else ""
        yield f"    host {visible_line(host['name'])} ({host['preference']}) {addresses}{state}"
    if entry["budgets"]:
        for line in columns([_HEADS, *map(_budget, entry["budgets"])], _TO_THE_LEFT):
            yield f"  {line}"


def _today(counts):
    deliveries = ", ".join(f"{counts[name]} {name}" for name in ("accepted", "deferred", "failed"))
    return f"{deliveries}; sessions refused: {counts['refused']}"


def _clock(now, seconds):
    """Return a time to come as clocks here show it, with the day if that is another one."""
    then = time.localtime(min(now + seconds, _LAST_DATE))
    is_today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M", then)


def _budget(budget):
    paused = budget["paused_seconds"]
    return (
        ">" if budget["stands_here"] else " ",
        visible_line(budget["name"]),
        visible_line(budget["kind"]),
        str(budget["used"]),
        _or_dash(budget["limit"]),
        _or_dash(budget["learned"]),
        "-" if paused is None else duration(paused),
        visible_line(budget["owner"]) or "-",
    )


def _or_dash(number):
    return "-" if number is None else str(number)
