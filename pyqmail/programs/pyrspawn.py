"""Make remote deliveries for the queue manager.

Reads orders from descriptor 0: a delivery number, a message, a sender, a recipient.  Has each delivery made by
pyremote, or by the program that $QMAILREMOTE names, found in PATH and run as `PROGRAM HOST SENDER RECIPIENT` with the
message on descriptor 0; merges its output into one report on descriptor 1.  At its start it removes from
queue/lock/tcpto the addresses that timed out.

With --native it speaks our own dialect with pysend and makes the deliveries itself: thousands of SMTP sessions in one
process, several messages over each, from the addresses, under the names and with the time limits that pysend tells.  A
program that $QMAILREMOTE names is then run behind sessions of one message each.

It ends once descriptor 0 has ended and everything is reported.
"""

import _signal as signal  # without its enums
import os
import resource

from pyqmail.base.failure import Temporary
from pyqmail.mail.remote.agent_session import AgentDeliveries
from pyqmail.mail.remote.external_agent import DEFAULT_AGENT
from pyqmail.mail.remote.sessions import SessionProcess
from pyqmail.mail.remote.tcpto import clear
from pyqmail.mail.spawners.dialect_options import DIALECT_OPTIONS
from pyqmail.mail.spawners.server import Messages, Spawner, Stock
from pyqmail.system.command_line import Program
from pyqmail.system.controls import Controls
from pyqmail.system.descriptors import log
from pyqmail.system.driver import EventDriver
from pyqmail.system.home import Home, find_home
from pyqmail.system.loop import Loop
from pyqmail.system.privileges import forbid_new_privileges
from pyqmail.system.processes import find_ours

PROGRAM = Program(
    name="pyrspawn",
    summary="make remote deliveries",
    original="qmail-rspawn",
    options=[
        *DIALECT_OPTIONS,
    ],
    exits={0: "descriptor 0 has ended", 111: "no queue, or malformed orders on descriptor 0"},
    controls=["me", "helohost"],
    controls_count={"others": "from the next connection on"},
    environment=["PYQMAIL_HOME", "PATH", "QMAILREMOTE"],
    offers=["preload"],
    see=["pyremote(8)", "pysend(8)", "pystart(8)", "pyqmail-wires(5)"],
)

MAX_SESSIONS, MAX_AGENTS = 20_000, 2_000
OPEN_FILES, FILES_FOR_SESSION, FILES_FOR_AGENT, FILES_BESIDE = 65536, 2, 4, 40


def preload(words=()) -> None:
    """Import what the driver of the sessions may want later on."""
    from pyqmail.system import run_program  # noqa: F401


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, spawn_deliveries)


def spawn_deliveries(call) -> int:
    preload()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    environ = dict(call.environ)
    home = Home(os.path.abspath(find_home(environ).path))
    if b"PYQMAIL_HOME" in environ:
        environ[b"PYQMAIL_HOME"] = os.fsencode(home.path)
    try:
        messages = Messages(home.queue, home.uid("qmailq"))
        os.chdir(f"{home.queue}/mess")
    except (OSError, LookupError):
        return 111  # as silent as the original
    clear(f"{home.queue}/lock/tcpto")
    files = raise_open_files()
    agent = environ.get(b"QMAILREMOTE")
    if not agent:
        forbid_new_privileges()  # an agent of others may be set-id
    loop = Loop()
    if call.dialect is None:
        if not agent or find_ours(agent, environ.get(b"PATH")) == "pyremote":
            agent = None
        spawner = native_spawner(loop, home, messages, files, agent, environ)
    else:
        spawner = stock_spawner(loop, Stock(call.dialect), messages, files, agent or DEFAULT_AGENT, environ)
    spawner.start()
    loop.run()
    if spawner.malformed:
        raise Temporary("nonsense on descriptor 0")
    return 0


def native_spawner(loop, home, messages, files: int, agent, environ):
    """Return what delivers in sessions of our own, or by another's agent; files: how many may be open."""
    most = max(1, min(MAX_SESSIONS, (files - FILES_BESIDE) // (FILES_FOR_AGENT if agent else FILES_FOR_SESSION)))
    controls = Controls(home.control, PROGRAM.controls, complain=lambda text: log(PROGRAM.line(f"warning: {text}")))
    return SessionProcess(loop, EventDriver(loop), messages, controls, most, agent, environ)


def stock_spawner(loop, dialect, messages, files: int, agent, environ):
    """Return what runs the agent for each delivery."""
    most = max(1, min(dialect.most, MAX_AGENTS, (files - FILES_BESIDE) // FILES_FOR_AGENT))
    deliveries = AgentDeliveries(loop, agent, environ)
    spawner = Spawner(loop, dialect, most, messages, deliveries.deliver)
    deliveries.report = spawner.report
    return spawner


def raise_open_files() -> int:
    """Allow ourselves as many open files as OPEN_FILES or the hard limit; return how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return OPEN_FILES if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted
