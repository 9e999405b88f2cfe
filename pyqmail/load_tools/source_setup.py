"""From the command line of a source to its processes and its report."""

import os
import random
import socket
import time

from pyqmail.base.dates import header_date
from pyqmail.base.failure import Permanent, Temporary
from pyqmail.load_tools import processes
from pyqmail.load_tools.load_run import COUNTS, LoadRun, LoadShape
from pyqmail.load_tools.messages import stuffed
from pyqmail.load_tools.smtp_source import Plan
from pyqmail.load_tools.tally import Tally
from pyqmail.load_tools.targets import find
from pyqmail.system.loop import Loop
from pyqmail.system.rlimits import raise_descriptor_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyqmail.base.options import Call
    from pyqmail.load_tools.targets import Target
    from pyqmail.system.command_line import Program

_SPARE_DESCRIPTORS = 32
_MAX_MESSAGES = 10**12  # of one process
_LAST_SECONDS = 2.0  # for what is under way when a signal comes


def plan_of(call: "Call") -> Plan:
    """Return what the options say about the messages."""
    host = (call.host or socket.gethostname()).encode()
    sender = os.fsencode(call.sender) if call.sender is not None else b"foo@" + host
    recipient = os.fsencode(call.recipient) if call.recipient is not None else b"foo@" + host
    for text in (host, sender, recipient):
        if any(byte < 33 or byte == 127 or byte in b"<>" for byte in text):
            raise Permanent(f"no address: {text!r}")
    plan = Plan(sender, recipient, host, call.recipients)
    plan.length, plan.date = call.length, header_date(int(time.time()))
    return plan


def content_of(path: str) -> bytes:
    """Return a message of a file as it goes over the wire.  Raises Temporary."""
    try:
        with open(path, "rb") as file:
            return stuffed(file)
    except OSError as error:
        raise Temporary(f"unable to read {path}", error) from None


def run(program: "Program", call: "Call", plan: Plan, protocol: "Any", port: int, keeps: bool) -> int:
    """Send the messages of a call, and report; return the exit code."""
    try:
        target = find(call.server, call.family, port)
    except ValueError as error:
        raise program.wrong(program.line(str(error))) from None
    descriptors, _ = raise_descriptor_limit()
    count = min(call.processes, call.sessions)
    if -(-call.sessions // count) > descriptors - _SPARE_DESCRIPTORS:
        raise Temporary(f"{call.sessions} sessions need more descriptors than {count} times {descriptors}: ulimit -n")

    def work(index, report):
        plan.begin_numbers(index * _MAX_MESSAGES, os.getpid())
        return _run_one(call, plan, protocol, target, _shape(call, keeps, index, count), report)

    progress = processes.Progress(program.label) if call.shows_progress else lambda tally: None
    tally, complaint = processes.run(count, work, progress)
    processes.say(program, call, tally, complaint)
    return 1 if complaint or tally.refused or tally.failed else 0


def _shape(call, keeps, index, count):
    """Return the share of one process of so many."""
    shape = LoadShape()
    share = lambda number: number // count + (index < number % count)  # noqa: E731
    shape.sessions = share(call.sessions)
    shape.messages = share(call.messages) if call.messages else None
    shape.rate = call.rate / count if call.rate is not None else None
    shape.keeps, shape.is_patient, shape.attempts = keeps, call.is_patient, call.attempts
    shape.wait_seconds, shape.random_wait_seconds, shape.timeout = call.wait, call.random_wait, call.timeout
    shape.seconds, shape.window = call.seconds, call.window
    shape.local = call.local or []
    return shape


def _run_one(call: "Call", plan: Plan, protocol: "Any", target: "Target", shape: LoadShape, report: "Any"):
    """Run one process's share; return (what it counted, why it ended early or an empty text)."""
    loop, tally = Loop(), Tally(*COUNTS)
    show = _show if call.is_verbose else None
    load = LoadRun(loop, target, protocol, plan, shape, tally, random.Random(), show, loop.stop)

    def interrupted():
        load.complaint = load.complaint or "ended by a signal"
        load.end()
        loop.after(_LAST_SECONDS, loop.stop)

    for number in processes.ENDING:
        loop.on_signal(number, interrupted)

    def tell():
        report(tally)
        loop.after(1.0, tell)

    if call.shows_progress:
        loop.after(1.0, tell)
    loop.soon(load.start)
    loop.run()
    tally.seconds = load.seconds()
    return tally, load.complaint


def _show(line: bytes) -> None:
    os.write(2, line + b"\n")
