"""From the command line of a sink to its processes and its report."""

import os

from pyqmail.base.failure import Temporary
from pyqmail.base.numbers import whole_number
from pyqmail.load_tools import processes
from pyqmail.load_tools.acceptor import COUNTS, Acceptor, SinkServer
from pyqmail.load_tools.processes import say
from pyqmail.load_tools.tally import Tally
from pyqmail.load_tools.targets import PORT_OF_SMTP, find, listen_socket
from pyqmail.system.loop import Loop
from pyqmail.system.rlimits import raise_descriptor_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyqmail.base.options import Call
    from pyqmail.load_tools.server_models import Model
    from pyqmail.load_tools.smtp_sink import SinkPlan
    from pyqmail.system.command_line import Program

_SPARE_DESCRIPTORS = 32
_MAX_BACKLOG = (1 << 31) - 1  # listen(2)
_PROGRESS_SECONDS = 1.0


class SinkShape:
    """most: sessions at once; messages, sessions: how many of each end it, None for no end; seconds likewise."""

    def __init__(self, call: "Call", most: int, timeout: float) -> None:
        self.most, self.timeout, self.window = most, timeout, getattr(call, "window", None)
        self.messages, self.sessions = getattr(call, "messages", None), getattr(call, "all_sessions", None)
        self.seconds: float | None = call.seconds


def run(
    program: "Program",
    call: "Call",
    plan: "SinkPlan",
    model: "Callable[[], Model]",
    engine: "Callable[..., Any]",
    taken: "Callable[..., None]",
    shape: SinkShape,
) -> int:
    """Listen until a signal, or what the options say; report; return the exit code."""
    try:
        target, backlog = (
            find(call.address, call.family, PORT_OF_SMTP, to_listen=True),
            whole_number(call.backlog, _MAX_BACKLOG),
        )
    except ValueError as error:
        raise program.wrong(program.line(str(error))) from None
    descriptors, _ = raise_descriptor_limit()
    shape.most = min(shape.most, descriptors - _SPARE_DESCRIPTORS)
    is_path, count = isinstance(target.address, str), call.processes
    first = _listen(target, backlog, shape.window, count > 1 and not is_path)
    if call.tells_port:
        os.write(1, f"{target}\n".encode())

    def work(index, report):
        share = is_path or not index  # the processes of a path share one socket
        sock = first if share else listen_socket(target, backlog, shape.window, is_shared=True)
        return _run_one(sock, plan, model(), engine, taken, shape, report, call.shows_progress)

    progress = processes.Progress(program.label) if call.shows_progress else lambda tally: None
    try:
        tally, complaint = processes.run(count, work, progress)
    finally:
        if is_path:
            os.unlink(target.address)
    say(program, call, tally, complaint)
    return 1 if complaint else 0


def _listen(target, backlog, window, is_shared):
    """Return a socket that listens; the target's address is its own from then on.  Raises Temporary."""
    try:
        sock = listen_socket(target, backlog, window, is_shared)
    except OSError as error:
        raise Temporary(f"unable to listen at {target}", error) from None
    if not isinstance(target.address, str):
        target.address = sock.getsockname()
    return sock


def _run_one(sock, plan, model, engine, taken, shape, report, shows_progress):
    """Run one process; return (what it counted, why it ended early or an empty text)."""
    loop, tally = Loop(), Tally(*COUNTS)

    def noted():
        counts = tally.counts
        if counts["messages"] == shape.messages or counts["sessions"] - server.now == shape.sessions:
            loop.soon(loop.stop)

    server = SinkServer(plan, model, tally, noted)
    acceptor = Acceptor(loop, sock, server, engine, taken, shape.most, shape.timeout)
    began = acceptor.now()
    for number in processes.ENDING:
        loop.on_signal(number, loop.stop)
    if shape.seconds is not None:
        loop.after(shape.seconds, loop.stop)

    def tell():
        report(tally)
        loop.after(_PROGRESS_SECONDS, tell)

    if shows_progress:
        loop.after(_PROGRESS_SECONDS, tell)
    loop.run()
    acceptor.close()
    tally.seconds = acceptor.now() - began
    return tally, ""
