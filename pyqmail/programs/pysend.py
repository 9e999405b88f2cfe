"""Deliver the mail in the queue: preprocess new mail, schedule, hand deliveries to the spawners, bounce, clean up.

pystart (or qmail-start) starts it and makes its descriptors: 0 is the log, written; 1 and 2 are the local spawner,
commands and reports; 3 and 4 the remote one; 5 and 6 the cleaner.  With --native, 7 and 8 are the resolver, and 9 and
10, 11 and 12 and so on further remote session processes, --sessions in all.

The log has qmail-send's lines.  A status line follows each start and end of a delivery; one is also written when its
numbers change and none was written for a second.  With --native, `remote N/M` counts deliveries and connecting
sessions, but no session that is idle or ends, and a delivery starts once its session has been greeted.  A host that
sessions connect to, or a name that is looked up, for five seconds has a line of its own, at most once a minute:

    connecting: HOST: sessions N, seconds N
    looking up: NAME: domains N, seconds N

Each destination has a limit of its own: 10 sessions at once if no rule says otherwise, and fewer as long as it refuses
more.  A destination is the set of mail exchangers of a domain, or the relay that control/smtproutes names for it; the
machines of one organisation have a limit together.  At most two deliveries run at once to one local recipient.
control/destinations.cdb has the rules; control/destinations.now, text, has those that count for now.  A file of rules
that cannot be used is reported in one line, and the rules that were read before hold.  What the destinations teach is
kept in var/destinations.state in the qmail home, written once a minute while mail goes out, and at the end.  Without
this file nothing is lost but time.

Mail for a destination that cannot be reached is not deferred: it waits until the destination answers, or until it is
too old.  No more than half of control/concurrencyremote, but at least one, goes to destinations that have not
greeted in the last 24 hours.  A route to an address, and an address as a domain, need no name server.  If no name
server answers, the hosts of a domain that are known are used for three more days.

Without --native the spawners speak the stock dialect, with one byte for a delivery, and any agent that works with
qmail-send works here; --wide makes it two bytes, as the big-concurrency patch has it.

With --starter, a part that is lost (the resolver, a remote session process, the local spawner, the cleaner) is started
again, as its own user: at once, or after 1, 2, 4 ... seconds, at most ten, if it lived for less than ten.  One line
names it, and what ended it.  Nobody is blamed: what it had under way and did not report may have been delivered, and is
deferred; what needs it waits, and all other mail goes on.  Of the messages that a lost cleaner was told to remove, some
may stay in queue/mess, with nothing else left of them, until they are 36 hours old.  Without --starter, a lost spawner,
resolver or cleaner ends pysend, as it ends the original: its supervisor starts all of them again.

TERM: no new deliveries start; it ends once the running ones have been reported.  ALRM: every deferred message is due
now.  HUP: control/locals and control/virtualdomains are read again, and the rules about destinations.
"""

import fcntl
import gc
import os
import signal
import time

from pyqmail.base.failure import Failure, Temporary, is_out_of_memory, reason, traceback_text
from pyqmail.base.numbers import session_processes, whole_number
from pyqmail.base.options import Flag, Value
from pyqmail.mail.destinations import outcome
from pyqmail.mail.manager.cleanup import Cleaner
from pyqmail.mail.manager.manager import Connections, Manager, ManagerSettings
from pyqmail.mail.manager_log.sendlog import SendLog
from pyqmail.mail.policy_files.rule_reader import RuleReader, RuleWatch
from pyqmail.mail.queue.files import QueueNames, find_queue
from pyqmail.mail.routing.lookup import DomainLookup
from pyqmail.mail.spawners.native_client import NativeLocal, NativeRemote
from pyqmail.mail.spawners.restarts import Restarts
from pyqmail.mail.spawners.stock_client import StockSpawner
from pyqmail.protocol.wires.stock_dialect import NARROW, WIDE
from pyqmail.system.command_line import Program
from pyqmail.system.controls import Controls
from pyqmail.system.home import Home, find_home
from pyqmail.system.interfaces import own_addresses
from pyqmail.system.listener import inherit
from pyqmail.system.loop import Loop
from pyqmail.system.status_socket import StatusSocket

PROGRAM = Program(
    name="pysend",
    summary="deliver the mail in the queue",
    original="qmail-send",
    options=[
        Flag(None, "native", "speak the native dialect to the spawners", long="native"),
        Value(
            None,
            "sessions",
            "N",
            "remote session processes in the native dialect, 1 to 64",
            session_processes,
            long="sessions",
            default=1,
        ),
        Value(
            None,
            "starter",
            "FD",
            "with --native: the descriptor of pystart that gives a new part for one that is lost",
            whole_number,
            long="starter",
        ),
        Flag(
            None,
            "agent",
            "with --native: the remote spawner runs $QMAILREMOTE, which finds hosts itself; pysend looks up none",
            long="agent",
        ),
        Value(
            None,
            "status",
            "FD",
            "a listening UNIX socket of pystart, on which to answer what waits, and why",
            whole_number,
            long="status-fd",
        ),
        Flag(None, "wide", "two bytes for a delivery in the stock dialect", long="wide"),
    ],
    exits={0: "ended by TERM, or a part was lost for good", 111: "it could not start"},
    controls=[
        "bouncefrom",
        "bouncehost",
        "bouncemaxbytes",
        "concurrencylocal",
        "concurrencyremote",
        "destinations.cdb",
        "destinations.now",
        "doublebouncehost",
        "doublebounceto",
        "envnoathost",
        "locals",
        "me",
        "percenthack",
        "queuelifetime",
        "smtproutes",
        "timeoutconnect",
        "timeoutremote",
        "virtualdomains",
    ],
    controls_count={
        "others": "once it is started again",
        "locals": "after HUP",
        "virtualdomains": "after HUP",
        "smtproutes": "from the next delivery on, with --native",
        "destinations.cdb": "within 10 seconds, or after HUP",
        "destinations.now": "within 10 seconds, or after HUP",
    },
    environment=["PYQMAIL_HOME", "QMAILQUEUE", "TMPDIR"],
    offers=["preload"],
    see=[
        "pystart(8)",
        "pylspawn(8)",
        "pyrspawn(8)",
        "pyclean(8)",
        "pyresolve(8)",
        "pyqmail-queue(5)",
        "pyqmail-wires(5)",
    ],
)

LOG, LOCAL, REMOTE, CLEAN, RESOLVE, MORE = 0, (1, 2), (3, 4), (5, 6), (7, 8), 9


class CannotStart(Exception):
    """str() is the reason for the log."""


def preload(words=()) -> None:
    """Import what only --native needs, and what is needed now and then; read the list of public suffixes."""
    from pyqmail.mail.queue import alone  # noqa: F401  bounces, where nobody listens for them
    from pyqmail.mail.routing import lookup  # noqa: F401
    from pyqmail.mail.spawners import native_client  # noqa: F401
    from pyqmail.system import feeding, interfaces, run_program  # noqa: F401
    from pyqmail.system.public_suffixes import public_suffixes

    public_suffixes()


def main(argv: list[str]) -> int:
    return PROGRAM.run(argv, send)


def send(call) -> int:
    try:
        preload()
        loop = Loop()
        manager, mutex = prepare(call, loop)
        loop.on_error = raise_it
        loop.on_signal(signal.SIGTERM, manager.exit_soon)
        loop.on_signal(signal.SIGALRM, manager.make_due)
        loop.on_signal(signal.SIGHUP, manager.reread)
        manager.start()
        gc.freeze()  # what is here now stays: no collection looks at it again
        loop.run()
        os.close(mutex)
        return 0
    except CannotStart as reason:
        say(f"alert: cannot start: {reason}\n")
        return 111
    except Exception as error:
        # descriptor 2 is the local spawner's
        say("alert: out of memory\n" if is_out_of_memory(error) else traceback_text(error))
        return 111


def prepare(call, loop):
    """Return the manager, ready to start, and the descriptor that holds the lock.  Raises CannotStart."""
    home = Home(os.path.abspath(find_home(call.environ).path))
    try:
        os.chdir(home.path)
    except OSError:
        raise CannotStart("unable to switch to home directory") from None
    complaints = []
    controls = Controls(home.control, PROGRAM.controls, complain=complaints.append)
    try:
        settings = ManagerSettings(controls)
    except (OSError, LookupError) as error:
        why = f"unable to read {error.filename}: {reason(error)}" if isinstance(error, OSError) else error.args[0]
        say(f"warning: {why}\n")
        raise CannotStart("unable to read controls") from None
    names = enter_queue(home)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.umask(0o077)
    mutex = hold_mutex(names.sendmutex)
    for fd in range(1, MORE + 2 * call.sessions - 2 if call.native else RESOLVE[0]):
        os.set_inheritable(fd, False)  # a program that queues a bounce must not hold a spawner's pipe open
    log = SendLog(loop, LOG)
    controls.complain = lambda text: log.add_line(b"warning: %b" % text.encode())
    for text in complaints:
        controls.complain(text)
    rules, connections = RuleReader(controls, log.add_line), connect(call, loop, controls, log)
    manager = Manager(loop, home, names, settings, dict(call.environ), log, connections, rules)
    RuleWatch(loop, rules, manager.reread_rules)
    if call.status is not None:
        manager.answer_on(status_socket(call.status, home))
    return manager, mutex


def connect(call, loop, controls, log):
    """Return the connections to the other processes; the spawners have greeted.  Raises CannotStart."""
    local, remote = spawners(call, loop, log.flush)
    for spawner in (local, remote):
        if not spawner.greet():
            raise CannotStart("hath the daemon spawn no fire?")
    cleaner = Cleaner(loop, *CLEAN, log.flush)
    if not call.native:
        return Connections(local, remote, cleaner)
    finding = lookup(call, loop, controls, log)
    return Connections(local, remote, cleaner, finding, restarts(call, loop, log, local, remote, cleaner, finding))


def enter_queue(home):
    """Return the names of the queue's files, relative to the home.  Raises CannotStart."""
    if not os.path.isdir(home.queue):
        raise CannotStart("unable to switch to queue directory")
    try:
        return QueueNames(os.path.relpath(home.queue), find_queue(home.queue).split)
    except Failure as failure:
        raise CannotStart(str(failure)) from None


def hold_mutex(path: str) -> int:
    """Return the descriptor that holds the lock of the one queue manager.  Raises CannotStart."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise CannotStart("unable to open mutex") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CannotStart("qmail-send is already running") from None
    return fd


def spawners(call, loop, before_write):
    """Return the local and the remote spawner in the dialect that was chosen."""
    if not call.native:
        width = WIDE if call.wide else NARROW
        local = StockSpawner(loop, *LOCAL, width, before_write, outcome.LOCAL)
        return local, StockSpawner(loop, *REMOTE, width, before_write)
    pairs = [REMOTE, *((MORE + 2 * index, MORE + 1 + 2 * index) for index in range(call.sessions - 1))]
    return NativeLocal(loop, *LOCAL, before_write), NativeRemote(loop, pairs, before_write)


def lookup(call, loop, controls, log):
    return DomainLookup(loop, *RESOLVE, controls, own_addresses, time.monotonic, log.add_line, not call.agent)


def restarts(call, loop, log, local, remote, cleaner, finding) -> Restarts | None:
    """Return what brings new parts, in the order of pystart; None without a starter."""
    if call.starter is None:
        return None
    os.set_inheritable(call.starter, False)
    first, *more = remote.parts
    names = ["pyrspawn"] if not more else [f"pyrspawn {number}" for number in range(1, len(more) + 2)]
    parts = [("pylspawn", local.parts[0]), (names[0], first), ("pyclean", cleaner), ("pyresolve", finding)]
    return Restarts(loop, call.starter, [*parts, *zip(names[1:], more, strict=True)], log.add_line)


def status_socket(fd: int, home) -> StatusSocket:
    """Return the socket of a descriptor, on which we are asked.  Raises CannotStart."""
    try:
        (listening,) = inherit([fd])
    except Temporary as failure:
        raise CannotStart(str(failure)) from None
    return StatusSocket(home.send_socket, listening)


def raise_it(failure):
    """A coroutine's bug ends us, as any other: the queue is as safe as after a crash."""
    raise failure


def say(text: str) -> None:
    try:
        os.write(LOG, text.encode())
    except OSError:
        pass
