"""Make local deliveries for the queue manager.

Reads orders from descriptor 0: a delivery number, a message, a sender, a recipient.  Finds the recipient's user in
users/cdb, otherwise in the password database, has the delivery made under that user's uid, and reports on descriptor 1
how it ended.  DEFAULTDELIVERY is what a user without a .qmail file gets, lines as in such a file.

Workers make the deliveries.  They are forked, not executed, change to the user's uid before they touch anything of the
user, and stay a few seconds for more mail to the same uid.  With --exec every delivery executes pylocal, found in PATH,
and pygetpw looks up users.  uid 0 gets no mail, except in a private home that it owns.

With --native, pysend may hand over several deliveries to one recipient as a batch.  One worker makes them: those that
go to Maildirs alone together, with one flush of the disk for all of their files; any others one after the other.  Each
is reported by itself, and one that fails defers no other.

pyqueued queues the mail that a .qmail file forwards and must run: without it, and without the original's
bin/qmail-queue, forwards are deferred.  See pylocal(8).

It ends once descriptor 0 has ended and every delivery is reported.
"""

import _signal as signal  # without its enums
import gc
import os

from pyqmail.base.failure import Temporary
from pyqmail.base.options import Argument, Flag
from pyqmail.mail.local.spawner import LocalDeliveries
from pyqmail.mail.local.worker_main import limit_open_files
from pyqmail.mail.queue.bounds import CONTROLS
from pyqmail.mail.spawners.dialect_options import DIALECT_OPTIONS
from pyqmail.mail.spawners.server import Messages, Native, Spawner, Stock
from pyqmail.system.command_line import Program
from pyqmail.system.descriptors import keep_from_children
from pyqmail.system.home import Home, find_home
from pyqmail.system.loop import Loop

PROGRAM = Program(
    name="pylspawn",
    summary="make local deliveries",
    original="qmail-lspawn",
    options=[
        *DIALECT_OPTIONS,
        Flag(None, "exec", "execute pylocal for each delivery", long="exec"),
    ],
    arguments=[Argument("default", "what a user without a .qmail file gets", metavar="defaultdelivery")],
    exits={
        0: "descriptor 0 has ended",
        100: "DEFAULTDELIVERY is missing",
        111: "no queue, or malformed orders on descriptor 0",
    },
    controls=CONTROLS,
    controls_count={"others": "from the next message on that it forwards and writes into the queue itself"},
    environment=["PYQMAIL_HOME", "PATH"],
    quiet_usage=True,
    offers=["preload"],
    see=["pylocal(8)", "pygetpw(8)", "pynewu(8)", "pysend(8)", "pyqueued(8)", "pyqmail-users(5)", "pydot-qmail(5)"],
)

MAX_DELIVERIES = 2000  # deliveries at once, where the dialect can tell so many
FILES_FOR_ONE, FILES_BESIDE = 4, 40
OPEN_FILES = 65536


def preload(words=()) -> None:
    """Import what a worker needs for the mail it forwards: where nobody listens for it, or QMAILQUEUE takes it."""
    import ctypes  # noqa: F401  of what is stored together

    from pyqmail.mail.queue import alone  # noqa: F401
    from pyqmail.system import feeding, run_program  # noqa: F401


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, spawn_deliveries)


def spawn_deliveries(call) -> int:
    preload()
    environ = dict(call.environ)
    home = Home(os.path.abspath(find_home(environ).path))
    if b"PYQMAIL_HOME" in environ:
        environ[b"PYQMAIL_HOME"] = os.fsencode(home.path)  # programs run elsewhere
    dialect = Native() if call.dialect is None else Stock(call.dialect)
    try:
        messages = Messages(home.queue, home.uid("qmailq"))
        os.chdir(home.path)
    except (OSError, LookupError):
        return 111  # as silent as the original
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    keep_from_children(3)
    before = limit_open_files(OPEN_FILES)
    most = max(1, min(dialect.most, MAX_DELIVERIES, (limit_open_files(OPEN_FILES) - FILES_BESIDE) // FILES_FOR_ONE))
    loop = Loop()
    deliveries = LocalDeliveries(loop, home, os.fsencode(call.default), environ, call.exec, most, before)
    return serve(loop, deliveries, dialect, most, messages)


def serve(loop, deliveries, dialect, most: int, messages) -> int:
    """Deliver until descriptor 0 has ended; at most so many at once.  Raises Temporary."""
    spawner = Spawner(loop, dialect, most, messages, deliveries.deliver)
    deliveries.report, deliveries.messages = spawner.report, messages
    gc.collect()
    gc.freeze()
    spawner.start()
    loop.run()
    deliveries.close()
    if spawner.malformed:
        raise Temporary("nonsense on descriptor 0")
    return 0
